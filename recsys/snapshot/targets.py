"""Which events are targets, and which items are off a user's list: one definition for all rooms.

An event keeps its item off its user's lists for `Sequences.hide_days`; see `EventTypes.hide_days`. What
cannot be recommended cannot be a target. So an event is a target if

- it has a weight above 0,
- it happened between `available_from` and `available_until` of its item,
- no earlier event of its user keeps the item off the lists at that moment, and
- it is an outcome, or its user's first event with the item: a second look at an item teaches little.

A hidden outcome is not lost. A list could have caused the view that a purchase came from, but not the
purchase of an item that is off the list. So the last event before it that was not hidden is credited with
the outcome: it becomes a target with the greater of both weights.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.snapshot.sequences import Sequences


@dataclass(frozen=True, eq=False)
class Targets:
    """The targets among some events.

    Attributes
    ----------
    weight
        `[events]` weight as a target; 0: not a target.
    event_type
        `[events]` type of the event, or of the outcome that it is credited with.
    """

    weight: NDArray[np.float32]
    event_type: NDArray[np.int16]

    @property
    def chosen(self) -> NDArray[np.bool_]:
        """`[events]` whether the event is a target."""
        return self.weight > 0


def find_targets(sequences: Sequences) -> Targets:
    """Find the targets among the events; see the module's docstring."""
    weight, event_type = sequences.weight.copy(), sequences.event_type.copy()
    # Events of a user with an item are neighbours in this order, and stay in time order.
    order = np.argsort(_pairs(sequences), kind="stable")
    pairs = _pairs(sequences)[order]
    again = np.concatenate([np.zeros(min(1, len(pairs)), dtype=bool), pairs[1:] == pairs[:-1]])
    if again.any():
        hidden = _are_hidden(sequences, order, again)
        weight[order[hidden | (again & ~sequences.outcome[order])]] = 0
        _credit(weight, event_type, sequences, order, hidden)
    weight[~sequences.in_time] = 0
    return Targets(weight, event_type)


def hidden_items(histories: Sequences) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return users and items, each `[pairs]`: what is off the lists at the `moments`; pairs may repeat."""
    owners = histories.event_users()
    hides = histories.hidden_until >= histories.moments[owners]
    return owners[hides], histories.item_index[hides]


def _pairs(sequences: Sequences) -> NDArray[np.int64]:
    width = int(sequences.item_index.max(initial=0)) + 1
    pairs: NDArray[np.int64] = sequences.event_users() * width + sequences.item_index
    return pairs


def _are_hidden(
    sequences: Sequences, order: NDArray[np.int64], again: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return `[events]`, in `order`, whether an earlier event of the pair hides the item at that moment."""
    if np.isinf(sequences.hide_days).all():
        return again
    until = sequences.hidden_until[order]
    # A running maximum within each pair: later pairs have greater keys, so that each pair starts anew.
    ranks = np.empty(len(until), dtype=np.int64)
    ranks[np.argsort(until, kind="stable")] = np.arange(len(until))
    keys = np.maximum.accumulate(np.cumsum(~again) * len(until) + ranks)
    latest = np.sort(until)[keys % len(until)]
    hidden = again.copy()
    hidden[1:] &= latest[:-1] >= sequences.occurred_at[order][1:]
    return hidden


def _credit(
    weight: NDArray[np.float32],
    event_type: NDArray[np.int16],
    sequences: Sequences,
    order: NDArray[np.int64],
    hidden: NDArray[np.bool_],
) -> None:
    """Give the weight and type of hidden outcomes to the last event before them that was not hidden."""
    places = np.maximum.accumulate(np.where(hidden, 0, np.arange(len(order))))
    carriers = order[places]
    gains = hidden & sequences.outcome[order] & (sequences.weight[order] > 0)
    gains &= sequences.sentiment[carriers] >= 0
    # The greatest weight comes last, so that it stays.
    rows = np.flatnonzero(gains)
    rows = rows[np.argsort(sequences.weight[order[rows]], kind="stable")]
    rows = rows[sequences.weight[order[rows]] > weight[carriers[rows]]]
    weight[carriers[rows]] = sequences.weight[order[rows]]
    event_type[carriers[rows]] = sequences.event_type[order[rows]]
