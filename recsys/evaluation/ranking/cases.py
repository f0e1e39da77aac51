"""Evaluation cases: the events to predict, and the history that each is predicted from.

Evaluation is prequential: each held-out event is predicted from all earlier events of its user, including
held-out ones, as a served model would see them. Scorers rank the whole catalogue, without sampled negatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.columns import PURPOSES, Purpose
from recsys.errors import ConfigurationError, EvaluationError
from recsys.settings import EvaluationSettings
from recsys.snapshot.catalogue import ALWAYS, WITHOUT_END
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.guard import are_guard_users
from recsys.snapshot.parts import sortable, take_keys
from recsys.snapshot.sequences import Catalogue, Sequences, microseconds, parts_of
from recsys.snapshot.targets import find_targets
from recsys.warehouse.pseudonyms import are_visitors

ALL = "all"
COLD_USERS = "cold_users"
VISITORS = "visitors"
NEW_ITEMS = "items_without_events"
RARE_ITEMS = "items_with_1_to_4_events"
KNOWN_ITEMS = "items_with_5_or_more_events"
GUARD = "guard"


@dataclass(frozen=True, eq=False)
class Cases:
    """Events to predict, each from the earlier events of its user.

    Attributes
    ----------
    sequences
        Whole sequences of the users with cases, and perhaps of others; the histories are prefixes of them.
    positions
        [cases] indices of the events to predict in `sequences`.
    users
        [cases] index of the user in `sequences`.
    targets
        [cases] index of the item in the catalogue.
    catalogue
        What is ranked: of each case, the items that were available at the time of its event.
    slices
        By slice name: [cases] whether the case belongs to the slice.
    everybody
        The events of all users, in parts, for what they say of the items. Default: `sequences`.
    """

    sequences: Sequences
    positions: NDArray[np.int64]
    users: NDArray[np.int64]
    targets: NDArray[np.int32]
    catalogue: Catalogue
    slices: dict[str, NDArray[np.bool_]]
    everybody: Sequence[Sequences] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    @cached_property
    def available(self) -> NDArray[np.bool_]:
        """[items] whether the item was available at some time between the first and the last case."""
        times = self.sequences.occurred_at[self.positions]
        first, last = times.min(initial=WITHOUT_END), times.max(initial=ALWAYS)
        overlap = (self.catalogue.available_from <= last) & (first < self.catalogue.available_until)
        result: NDArray[np.bool_] = self.catalogue.available & overlap
        return result

    @property
    def parts(self) -> Sequence[Sequences]:
        """The events of all users, in parts. Indexing may load a part."""
        return [self.sequences] if self.everybody is None else self.everybody

    def histories(self, chosen: NDArray[np.int64]) -> Sequences:
        """Return the histories of some cases, as sequences of one user each."""
        return self.sequences.prefixes(self.positions[chosen])

    def latest_of_users(self) -> NDArray[np.bool_]:
        """Return [cases] whether the case is the latest of its user; coverage is measured on these lists."""
        latest = np.full(self.sequences.users, -1, dtype=np.int64)
        np.maximum.at(latest, self.users, self.positions)
        is_latest: NDArray[np.bool_] = latest[self.users] == self.positions
        return is_latest


@dataclass(frozen=True)
class GuardBoundary:
    """Start of the guard users' events that no compared model has trained on."""

    held_out_from: datetime
    share: float
    """Share of all users who are guard users."""


def held_out_cases(
    sequences: Sequences | Sequence[Sequences],
    catalogue: Catalogue,
    held_out_from: datetime,
    settings: EvaluationSettings,
    seed: int = 0,
    guard: GuardBoundary | None = None,
    event_types: EventTypes | None = None,
) -> Cases:
    """Make a case of each held-out event that is a next-item target.

    Held out are the events from `held_out_from` on, the events of guard users from their own boundary on,
    and probe events.

    `find_targets` says which events are targets; here their items must be available too. A user contributes
    the first `max_cases_per_user` targets after the split, which are closest to the
    training data. More than `max_users` users are sampled with the seed; at most half of them are visitors
    if there are enough others. The first event of a visitor is no case: nobody gets a list before it.

    Parameters
    ----------
    sequences
        Events of all users, or parts with some of the users. One part is loaded at a time, and the cases hold
        the sequences of the sampled users only.
    event_types
        What `settings.target_event_types` refers to; None: targets of all types count.

    Raises
    ------
    EvaluationError
        No held-out event can be predicted.
    ConfigurationError
        The settings name an event type that does not exist.
    """
    parts, split = parts_of(sequences), microseconds(held_out_from)

    def find(events: Sequences) -> NDArray[np.int64]:
        positions = _held_out_targets(events, catalogue, split, settings, guard, event_types)
        return _first_of_users(positions, events.event_users(), settings.max_cases_per_user)

    trained = np.zeros(len(catalogue), dtype=np.int64)
    with_cases: list[NDArray[np.object_]] = []
    for part in parts:
        trained += np.bincount(part.item_index[part.occurred_at < split], minlength=len(catalogue))
        with_cases.append(part.user_keys[np.unique(part.event_users()[find(part)])])
        del part  # frees it before another one is loaded
    users = np.sort(sortable(np.concatenate(with_cases)))
    if len(users) == 0:
        raise EvaluationError(
            f"no held-out feedback since {held_out_from.isoformat()} can be predicted: a target needs a "
            "weight above 0 and an available item that is not off the user's list; raise "
            "RECSYS_EVALUATION__HOLDOUT_SHARE"
        )
    visitors = are_visitors(users.astype(str))
    chosen = take_keys(parts, users[_sample(np.arange(len(users)), settings.max_users, seed, visitors)])
    return cases_at(chosen, catalogue, find(chosen), chosen.before(held_out_from), trained, parts)


def _held_out_targets(
    sequences: Sequences,
    catalogue: Catalogue,
    split: int,
    settings: EvaluationSettings,
    guard: GuardBoundary | None,
    event_types: EventTypes | None,
) -> NDArray[np.int64]:
    """Return the positions of held-out targets, without first events of visitors."""
    splittable = np.isin(sequences.purpose, [PURPOSES.index(Purpose.FULL), PURPOSES.index(Purpose.FRESH)])
    owners = sequences.event_users()
    held_out = splittable & (sequences.occurred_at >= split)
    if guard is not None:
        guarded = are_guard_users(sequences.user_keys, guard.share)[owners]
        held_out |= splittable & guarded & (sequences.occurred_at >= microseconds(guard.held_out_from))
    held_out |= sequences.purpose == PURPOSES.index(Purpose.FRESH_GUARD)
    positions = np.flatnonzero(held_out & _targets(sequences, catalogue, settings, event_types))
    is_first = positions == sequences.offsets[:-1][owners[positions]]
    possible: NDArray[np.bool_] = ~(is_first & are_visitors(sequences.user_keys)[owners[positions]])
    return positions[possible]


def cases_at(
    sequences: Sequences,
    catalogue: Catalogue,
    positions: NDArray[np.int64],
    trained: Sequences,
    trained_counts: NDArray[np.int64] | None = None,
    everybody: Sequence[Sequences] | None = None,
) -> Cases:
    """Make cases of the events at `positions`, with slices by the events that models have trained on.

    Parameters
    ----------
    positions
        [cases] indices of events in `sequences`.
    trained
        Events that models have trained on, of the same users in the same order.
    trained_counts
        [items] number of events that models have trained on. Default: those of `trained`.
    everybody
        See `Cases`.
    """
    users, targets = sequences.event_users()[positions], sequences.item_index[positions]
    if trained_counts is None:
        trained_counts = np.bincount(trained.item_index, minlength=len(catalogue))
    seen = trained_counts[targets]
    visitors = are_visitors(sequences.user_keys)[users]
    slices = {
        ALL: np.ones(len(positions), dtype=bool),
        COLD_USERS: (trained.lengths == 0)[users] & ~visitors,
        NEW_ITEMS: seen == 0,
        RARE_ITEMS: (seen >= 1) & (seen < 5),
        KNOWN_ITEMS: seen >= 5,
    }
    if visitors.any():
        slices[VISITORS] = visitors
    return Cases(
        sequences=sequences,
        positions=positions,
        users=users,
        targets=targets,
        catalogue=catalogue,
        slices=slices,
        everybody=everybody,
    )


def guard_cases(
    sequences: Sequences | Sequence[Sequences],
    catalogue: Catalogue,
    settings: EvaluationSettings,
    seed: int = 0,
    event_types: EventTypes | None = None,
) -> Cases | None:
    """Make cases of the guard users' latest events that the parent has trained on.

    They measure forgetting. Parent and candidate have seen these events equally often, so only the
    difference between the two has a meaning. None when the snapshot has no guard users.

    The catalogue should say when items appeared (`ItemAges.dated`): otherwise a model that knows later items
    seems to forget, because it ranks them too.
    """
    parts, wanted = parts_of(sequences), PURPOSES.index(Purpose.GUARD)
    guards = [part.user_keys[np.unique(part.event_users()[part.purpose == wanted])] for part in parts]
    sequences = take_keys(parts, sortable(np.concatenate(guards)))
    guard = sequences.purpose == wanted
    positions = np.flatnonzero(guard & _targets(sequences, catalogue, settings, event_types))
    if len(positions) == 0:
        return None
    owners = sequences.event_users()
    positions = _first_of_users(positions[::-1], owners, settings.max_cases_per_user)[::-1]
    chosen = _sample(np.unique(owners[positions]), settings.max_users, seed)
    positions = positions[np.isin(owners[positions], chosen)]
    return Cases(
        sequences=sequences,
        positions=positions,
        users=owners[positions],
        targets=sequences.item_index[positions],
        catalogue=catalogue,
        slices={GUARD: np.ones(len(positions), dtype=bool)},
        everybody=parts,
    )


def _targets(
    sequences: Sequences,
    catalogue: Catalogue,
    settings: EvaluationSettings,
    event_types: EventTypes | None,
) -> NDArray[np.bool_]:
    targets = find_targets(sequences)
    chosen: NDArray[np.bool_] = targets.chosen & catalogue.available[sequences.item_index]
    names = settings.target_event_types
    if not names or event_types is None:
        return chosen
    if unknown := sorted(set(names) - set(event_types.names)):
        raise ConfigurationError(
            f"RECSYS_EVALUATION__TARGET_EVENT_TYPES names {', '.join(unknown)}, which the table event_types "
            f"lacks; it has {', '.join(event_types.names)}"
        )
    return chosen & np.isin(targets.event_type, event_types.lookup(names))


def _first_of_users(positions: NDArray[np.int64], owners: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Keep the first `count` positions of each user; positions of a user are adjacent."""
    users = owners[positions]
    starts = np.flatnonzero(np.concatenate([[True], users[1:] != users[:-1]]))
    lengths = np.diff(np.concatenate([starts, [len(users)]]))
    rank = np.arange(len(users)) - np.repeat(starts, lengths)
    return positions[rank < count]


def _sample(
    users: NDArray[np.int64], count: int, seed: int, visitors: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Return at most `count` of the users; half of the places are for those who are no `visitors` [users]."""
    if len(users) <= count:
        return users
    random = np.random.default_rng(seed)
    if visitors is None or not visitors.any():
        return random.choice(users, size=count, replace=False)
    others, visiting = users[~visitors], users[visitors]
    places = min(len(others), max(count - count // 2, count - len(visiting)))
    return np.concatenate(
        [
            random.choice(others, size=places, replace=False),
            random.choice(visiting, size=count - places, replace=False),
        ]
    )
