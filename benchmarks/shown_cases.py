"""Clicks in lists that were shown, ranked among what the list showed."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import TargetCases, Task, before, slices_of, split_for_training
from benchmarks.datasets import Dataset
from benchmarks.shown_lists import ShownLists
from recsys.errors import ConfigurationError
from recsys.snapshot.sequences import Sequences
from recsys.snapshot.slates import UNANSWERED, Slates


def shown_list_task(dataset: Dataset, are_wanted: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> Task:
    """Make a case of each user's last list with a click, and tune on the one before it.

    Models know what is wanted: a user's history, and the clicks in earlier lists.

    Parameters
    ----------
    are_wanted, wanted
        `[events]` and `[types]` whether it is what users want, such as a click.

    Raises
    ------
    ConfigurationError
        There are no lists, or too few with a click.
    """
    lists = dataset.shown
    if lists is None:
        raise ConfigurationError(f"{dataset.name} has no file impressions with lists that were shown")
    events = dataset.sequences.where(are_wanted)
    moment = moments(lists, events)
    usable = np.flatnonzero(moment >= 0)
    users = lists.users[usable]
    from_end = np.bincount(users, minlength=events.users)[users] - 1 - _place(users)

    def cases(chosen: NDArray[np.int64]) -> TargetCases:
        found = [lists.of(int(number)) for number in chosen]
        targets = [np.unique(clicked) for _, clicked in found]
        offsets = np.cumsum([0, *map(len, targets)])
        items = np.concatenate([*targets, np.zeros(0, np.int64)]).astype(np.int64)
        return TargetCases(
            sequences=events, ends=moment[chosen], users=lists.users[chosen],
            at=events.occurred_at[moment[chosen]], offsets=offsets, targets=items,
            types=np.zeros((len(items), len(wanted)), dtype=bool), had=np.zeros(len(items), dtype=bool),
            catalogue=dataset.catalogue,
            shown=(
                np.cumsum([0, *(len(shown) for shown, _ in found)]),
                np.concatenate([*(shown for shown, _ in found), np.zeros(0, np.int64)]).astype(np.int64),
            ),
        )  # fmt: skip

    test, tuning = cases(usable[from_end == 0]), cases(usable[from_end == 1])
    if not len(test) or not len(tuning):
        raise ConfigurationError(f"{dataset.name} has too few shown lists with a click; see --targets")
    known, train = before(events, test), before(events, test, tuning)
    limit = np.full(events.users, events.events)
    earlier = []
    for part in (test, tuning):  # each list before the tuning case is before the test, too
        limit[part.users] = part.ends
        earlier.append((moment >= 0) & (moment < limit[lists.users]))
    return Task(
        known=known, train=train, tuning=tuning, test=replace(test, slices=slices_of(test, known)),
        wanted=wanted, is_aligned=False, split=split_for_training(train, tuning),
        lists=(earlier[1], earlier[0]),
    )  # fmt: skip


def _place(users: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many earlier entries have the same user."""
    order = np.argsort(users, kind="stable")
    place = np.empty(len(users), dtype=np.int64)
    place[order] = np.arange(len(users)) - np.searchsorted(users[order], users[order])
    return place


def known_slates(dataset: Dataset, task: Task) -> Slates | None:
    """Return the lists before each test case for our model; None if lists are not asked for.

    A list is shown when its user's next click in it happens; one without a click, when its user comes first.
    Lists that are held back for tuning, with their clicks, come last.
    """
    lists = dataset.shown
    if lists is None or task.lists is None:
        return None
    sequences = dataset.sequences
    events = sequences.where(task.wanted[sequences.event_type] & (sequences.weight > 0))
    moment = moments(lists, events)
    first = np.minimum(events.offsets[:-1], max(events.events - 1, 0))[lists.users]
    shown_at = events.occurred_at[np.where(moment >= 0, moment, first)]
    held_back = task.lists[1] & ~task.lists[0]
    shown_at[held_back] = events.occurred_at.max(initial=0) + 1 + np.arange(held_back.sum())
    own = shown_at[lists.list_of_item]
    slates = Slates(
        events.user_keys[lists.users], shown_at, lists.offsets, lists.items,
        np.arange(len(lists.items)) - lists.offsets[:-1][lists.list_of_item],
        np.where(lists.clicked, own, UNANSWERED),
    )  # fmt: skip
    return slates.take(np.flatnonzero(task.lists[1]))


def moments(lists: ShownLists, events: Sequences) -> NDArray[np.int64]:
    """Return `[lists]` where in the wanted events each list was shown: at its user's next click in it.

    -1 for a list without a click, without an item that was not clicked, or whose click is not in the events.
    """
    result = np.full(len(lists.users), -1, dtype=np.int64)
    place = events.offsets[:-1].copy()
    for number, user in enumerate(lists.users):
        shown, clicked = lists.of(number)
        own = events.item_index[place[user] : events.offsets[user + 1]]
        found = np.flatnonzero(np.isin(own, clicked))
        if len(found) and len(clicked) < len(shown):
            result[number] = place[user] + found[0]
            place[user] += found[0] + len(clicked)
    return result


@dataclass(frozen=True, eq=False)
class ClickRate:
    """Share of an item's appearances that were clicked, drawn towards the mean by `prior` of them."""

    rate: NDArray[np.float32]
    PRIORS: ClassVar = (1.0, 5.0, 20.0, 100.0)

    @classmethod
    def fit(cls, lists: ShownLists, chosen: NDArray[np.bool_], n_items: int, prior: float) -> Self:
        """Count in the chosen `[lists]`."""
        kept = chosen[lists.list_of_item]
        shown = np.bincount(lists.items[kept], minlength=n_items)
        clicks = np.bincount(lists.items[kept], lists.clicked[kept], minlength=n_items)
        mean = clicks.sum() / max(shown.sum(), 1)
        return cls(((clicks + prior * mean) / (shown + prior)).astype(np.float32))

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return [cases, items]."""
        return np.tile(self.rate, (histories.users, 1))
