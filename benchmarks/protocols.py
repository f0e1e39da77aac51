"""What is asked of every compared model: histories, targets and candidates, made here and nowhere else.

A case is a moment of a user: the model sees the user's events before it and ranks the items that may be
recommended then. Which events are targets and which items are off the lists is the product's own definition
(`recsys.snapshot.targets`). A user's events with less than half an hour between them are one visit. The steps
to a target (the view before a purchase, in the same visit) belong to it: its history ends before the visit's
first event with the item. Otherwise the best model would be the one that repeats the last item.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import MAX_TUNING_CASES, TargetCases, Task, before, slices_of, split_for_training
from benchmarks.datasets import Dataset
from benchmarks.shown_cases import shown_list_task
from benchmarks.splits import SPLITS as SINGLE_SPLITS
from benchmarks.splits import Protocol, make_split
from recsys.errors import ConfigurationError
from recsys.snapshot.sequences import EVENT_DTYPES, Sequences
from recsys.snapshot.targets import find_targets
from recsys.snapshot.visits import visits
from recsys.training.split import ValidationCases

SPLITS = (*SINGLE_SPLITS, "next-basket", "temporal-next-basket", "shown-lists")
REPEATS = ("auto", "always", "never")
LATE_SHARE = 0.1
MAX_LATE_TUNING_USERS = 1_000
MAX_TEST_USERS = 20_000
MAX_PER_USER = 20
REPEATING_SHARE = 0.1
"""Share of wanted events from which on `auto` takes items for repeatable."""


def make_task(
    dataset: Dataset,
    split: str,
    targets: tuple[str, ...] | None = None,
    repeats: str = "auto",
    *,
    stream: bool = False,
) -> Task:
    """Make the cases of a protocol.

    Parameters
    ----------
    split
        `leave-one-out`: each user's last target. `temporal`: the targets in the latest tenth of the feedback,
        the first ones of each user. `next-basket`: all targets of each user's last visit that has any.
        `temporal-next-basket`: of the first such visit in the latest tenth. Tuning cases are the same, one
        step earlier. `shown-lists`: the clicks in each user's last list, among the items that it showed.
        `cold-items`: see `make_split`.
    targets
        Event types that are wanted; the others are steps. None: the outcomes of the event types.
    repeats
        Whether items that a user had are wanted, and recommended, again: `always`, `never`, or `auto`: as the
        event types say. If nobody defined them, `auto` is `always` when at least a tenth of the wanted events
        are repeats, and `never` otherwise.
    stream
        In splits by time, let models that need no fitting read all feedback before the moment of a case, not
        only that before the latest tenth.

    Raises
    ------
    ConfigurationError
        There is no such split or event type, or no case.
    """
    if split not in SPLITS:
        raise ConfigurationError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    is_aligned = split.startswith("temporal")
    if is_aligned and not dataset.has_times:
        raise ConfigurationError(f"{dataset.name} has no times, so it cannot be split by time")
    dataset, wanted, notes = understand(dataset, targets, "never" if split == "shown-lists" else repeats)
    if split == "shown-lists":
        return shown_list_task(dataset, are_wanted(dataset.sequences, wanted), wanted)
    if split == "cold-items":
        return task_of(make_split(dataset, split), dataset)
    found = _Found.of(dataset, wanted, split.endswith("basket"))
    test = found.latest_of_users(1) if not is_aligned else found.late(None)
    sequences = dataset.sequences
    known = sequences.before(found.boundary()) if is_aligned else before(sequences, test)
    if not is_aligned:
        tuning = found.latest_of_users(2)
        share = 0.5 if split == "next-basket" else 1.0  # the baskets of the others are trained on
        tuning = _of_some_users(tuning, min(MAX_TUNING_CASES, int(np.ceil(share * len(tuning)))))
        train = before(sequences, test, tuning)
    else:
        earlier = _Found.of(replace(dataset, sequences=known), wanted, split.endswith("basket"))
        tuning, train = earlier.late(MAX_LATE_TUNING_USERS), known.before(earlier.boundary())
    if not len(test) or not len(tuning):
        raise ConfigurationError(
            f"{dataset.name} has no case for {split}: users have too few wanted events; see --targets"
        )
    test = replace(test, slices=slices_of(test, known))
    return Task(
        known=known, train=train, tuning=tuning, test=test, wanted=wanted, is_aligned=is_aligned,
        log=dataset.sequences if stream and is_aligned else None,
        split=None if is_aligned else split_for_training(train, tuning), notes=notes,
    )  # fmt: skip


def understand(
    dataset: Dataset, targets: tuple[str, ...] | None, repeats: str
) -> tuple[Dataset, NDArray[np.bool_], list[str]]:
    """Return the data set with the given meaning of its events, the wanted `[types]`, and notes for people.

    Parameters
    ----------
    targets
        Event types that are the outcomes; the others become steps. None: the outcomes of the event types.
    repeats
        See `make_task`.
    """
    types, sequences = dataset.event_types, dataset.sequences
    wanted = types.is_outcome & (types.weight > 0)
    if targets is not None:
        if unknown := sorted(set(targets) - set(types.names)):
            raise ConfigurationError(
                f"no event type {', '.join(map(repr, unknown))}; there are {', '.join(types.names)}"
            )
        wanted = np.isin(types.names, targets)
        sequences = replace(sequences, outcome=wanted[sequences.event_type])
    share = _repeated_share(sequences, wanted)
    notes = [f"{share:.1%} of the wanted events repeat an item of an earlier visit"]
    if repeats == "auto":
        undefined = not dataset.is_defined and bool(np.isinf(types.hide_days[wanted]).all())
        repeats = "defined" if not undefined else "always" if share >= REPEATING_SHARE else "never"
    if repeats != "defined":
        # What is disliked stays off the lists either way.
        days = np.where(sequences.sentiment < 0, np.inf, 0 if repeats == "always" else sequences.hide_days)
        if repeats == "never":
            days = np.where(wanted[sequences.event_type], np.inf, days)
        sequences = replace(sequences, hide_days=days.astype(np.float32))
    notes.append(
        {
            "always": "items may be recommended again, and are wanted again",
            "never": "an item that was wanted once is not recommended again",
            "defined": "event types and rest periods say when an item may be recommended again",
        }[repeats]
    )
    return replace(dataset, sequences=sequences), wanted, notes


def are_wanted(sequences: Sequences, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return `[events]` whether an event is of a wanted type and not negative."""
    return np.asarray(wanted[sequences.event_type] & (sequences.weight > 0))


def _repeated_share(sequences: Sequences, wanted: NDArray[np.bool_]) -> float:
    """Return the share of wanted events whose item its user had wanted in an earlier visit."""
    positions = np.flatnonzero(are_wanted(sequences, wanted))
    if not len(positions):
        return 0.0
    return float(_had_before(sequences, positions, positions, visits(sequences)).mean())


def _had_before(
    sequences: Sequences, positions: NDArray[np.int64], ways: NDArray[np.int64], visit: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return `[positions]` whether one of the events `ways` in an earlier visit has their user and item."""
    pairs = _pairs(sequences)
    known, first = np.unique(pairs[ways], return_index=True)
    place = np.minimum(np.searchsorted(known, pairs[positions]), len(known) - 1)
    return np.asarray((known[place] == pairs[positions]) & (visit[ways[first[place]]] < visit[positions]))


def _pairs(sequences: Sequences) -> NDArray[np.int64]:
    width = int(sequences.item_index.max(initial=0)) + 1
    return np.asarray(sequences.event_users() * width + sequences.item_index)


@dataclass(frozen=True, eq=False)
class _Found:
    """All targets in a data set, grouped into cases in the order of events."""

    dataset: Dataset
    cases: TargetCases
    baskets: bool

    @classmethod
    def of(cls, dataset: Dataset, wanted: NDArray[np.bool_], baskets: bool) -> "_Found":
        sequences, n_items = dataset.sequences, len(dataset.catalogue)
        visit, targets = visits(sequences), find_targets(sequences)
        positions = np.flatnonzero(
            targets.chosen & wanted[targets.event_type] & dataset.catalogue.available[sequences.item_index]
        )
        items = sequences.item_index[positions].astype(np.int64)
        # The first event with the item in the visit: what led to the target belongs to it.
        pairs = visit * n_items + sequences.item_index
        _, first, group = np.unique(pairs, return_index=True, return_inverse=True)
        ends = first[group[positions]]
        if baskets:
            begins = np.concatenate([[0], np.flatnonzero(np.diff(visit)) + 1])
            ends = begins[visit[positions]]
        # One target for each case and item, whatever its number of events.
        keys, chosen, number = np.unique(ends * n_items + items, return_index=True, return_inverse=True)
        types = np.zeros((len(keys), len(dataset.event_types)), dtype=bool)
        types[number, targets.event_type[positions]] = True
        # All wanted events with the item in the visit want the target.
        ways = np.flatnonzero(are_wanted(sequences, wanted))
        target_of_group = np.full(int(group.max(initial=-1)) + 1, -1)
        target_of_group[group[positions]] = number
        found = target_of_group[group[ways]]
        types[found[found >= 0], sequences.event_type[ways][found >= 0]] = True
        had = _had_before(sequences, positions, ways, visit)
        cases, starts = np.unique(keys // n_items, return_index=True)
        return cls(
            dataset,
            TargetCases(
                sequences=sequences, ends=cases, users=sequences.event_users()[cases],
                at=sequences.occurred_at[cases], offsets=np.concatenate([starts, [len(keys)]]),
                targets=keys % n_items, types=types, had=had[chosen],
                catalogue=dataset.catalogue,
            ),
            baskets,
        )  # fmt: skip

    def boundary(self) -> int:
        """Return the time from which on the latest tenth of the feedback happened."""
        return int(np.quantile(self.dataset.sequences.occurred_at, 1 - LATE_SHARE, method="higher"))

    def late(self, max_users: int | None) -> TargetCases:
        """Return cases of the latest tenth, the first ones of each user, of a sample of the users."""
        cases, known = self.cases, self.dataset.sequences.before(self.boundary())
        late = np.flatnonzero(cases.at >= self.boundary())
        if self.baskets:
            late = late[known.lengths[cases.users[late]] > 0]
        users = cases.users[late]
        rank = np.arange(len(late)) - np.searchsorted(users, users)
        return _of_some_users(
            cases.take(late[rank < (1 if self.baskets else MAX_PER_USER)]), max_users or MAX_TEST_USERS
        )

    def latest_of_users(self, place: int) -> TargetCases:
        """Return each user's last case (1), or the one before it (2), if the user has at least three."""
        users = self.cases.users
        from_end = np.searchsorted(users, users, side="right") - np.arange(len(users))
        count = np.bincount(users, minlength=self.dataset.sequences.users)[users]
        has_history = self.cases.ends > self.dataset.sequences.offsets[users]
        return self.cases.take(np.flatnonzero((from_end == place) & (count >= 3) & has_history))


def _of_some_users(cases: TargetCases, count: int) -> TargetCases:
    """Return the cases of a random sample of the users."""
    users = np.random.default_rng(0).permutation(np.unique(cases.users))[:count]
    return cases.take(np.flatnonzero(np.isin(cases.users, users)))


def task_of(protocol: Protocol, dataset: Dataset) -> Task:
    """Take over a split whose cases have one target each."""
    types, given = len(dataset.event_types), protocol.validation.cases
    sequences = _followed_by_targets(given)
    tuning = TargetCases(
        sequences=sequences, ends=sequences.offsets[1:] - 1, users=np.arange(len(given)),
        at=given.histories.moments,
        offsets=np.arange(len(given) + 1), targets=given.targets, types=np.zeros((len(given), types), bool),
        had=np.zeros(len(given), dtype=bool), catalogue=dataset.catalogue,
    )  # fmt: skip
    return Task(
        known=protocol.known, train=protocol.validation.train, tuning=tuning,
        test=TargetCases.of(protocol.cases, types), wanted=dataset.event_types.is_outcome, is_aligned=False,
        split=protocol.validation,
    )  # fmt: skip


def _followed_by_targets(cases: ValidationCases) -> Sequences:
    """Return the history of each case, followed by an event with its target."""
    histories = cases.histories
    columns = {
        name: np.insert(getattr(histories, name), histories.offsets[1:], 0)
        for name in EVENT_DTYPES
        if name != "comment"
    }
    ends = histories.offsets[1:] + np.arange(len(cases))
    columns["item_index"][ends] = cases.targets
    columns["occurred_at"][ends] = histories.moments
    return Sequences(
        user_keys=histories.user_keys, offsets=histories.offsets + np.arange(len(cases) + 1), **columns
    )
