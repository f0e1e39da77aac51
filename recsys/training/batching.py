"""Split events into training data and validation cases, and batch users with histories of similar length."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.errors import TrainingError
from recsys.model.events import EventBatch, collate, time_gaps
from recsys.prefetch import prefetch
from recsys.snapshot.catalogue import Catalogue
from recsys.snapshot.sequences import Sequences
from recsys.snapshot.targets import find_targets, hidden_items

LATE_SHARE = 0.1
"""Latest share of the events from which validation cases are taken."""
MAX_VALIDATION_USERS = 1_000
NO_TARGETS = (
    "no event can be a training target: all feedback is negative or of weight 0. Wait for more "
    "feedback, or give its event types a weight above 0"
)


@dataclass(frozen=True)
class ValidationCases:
    """Held-back targets, each predicted from all earlier events of its user.

    Attributes
    ----------
    histories
        One history for each case.
    targets
        [cases] the item that was consumed next.
    """

    histories: Sequences
    targets: NDArray[np.int64]

    @classmethod
    def of(cls, sequences: Sequences, positions: NDArray[np.int64]) -> "ValidationCases":
        """Make a case of each event at `positions`."""
        return cls(sequences.prefixes(positions), sequences.item_index[positions].astype(np.int64))

    def take(self, rows: NDArray[np.int64]) -> "ValidationCases":
        """Return some of the cases."""
        return ValidationCases(self.histories.take_users(rows), self.targets[rows])

    def __len__(self) -> int:
        return len(self.targets)

    def excluded(
        self, n_items: int, allowed: NDArray[np.bool_] | None = None, catalogue: Catalogue | None = None
    ) -> NDArray[np.bool_]:
        """Return [cases, items]: the item could not be recommended; never true for a target.

        It was off the list, it is not allowed, or the catalogue says that it was not available at the time.
        """
        mask = np.zeros((len(self), n_items), dtype=bool)
        if catalogue is not None and len(catalogue.timed):
            mask[:, catalogue.timed] = ~catalogue.within_its_time(
                catalogue.timed, self.histories.moments[:, None]
            )
        if allowed is not None:
            mask[:, ~allowed] = True
        mask[hidden_items(self.histories)] = True
        mask[np.arange(len(self)), self.targets] = False
        return mask


@dataclass(frozen=True)
class Split:
    """Training events and validation cases; no event is in both."""

    train: Sequences
    cases: ValidationCases

    def with_events_read(self, read: Callable[[Sequences], Sequences]) -> "Split":
        """Return the split after applying `read` to all events."""
        return Split(read(self.train), replace(self.cases, histories=read(self.cases.histories)))


def split_validation(
    sequences: Sequences,
    *,
    share: float = LATE_SHARE,
    max_users: int = MAX_VALIDATION_USERS,
    max_cases_per_user: int = 20,
    user_share: float = 0.5,
    seed: int = 0,
) -> Split:
    """Hold back the latest events of some users as validation cases.

    Cases come from the latest `share` of the events, which is how feedback is held out for evaluation. A
    sample of the users who are active in that period is used; their events of the period are not trained on.
    The events of all other users are, so that little of the newest feedback is lost.

    Parameters
    ----------
    share
        Latest share of the events.
    max_users, user_share
        Size of the sample: the smaller of a number and a share of the active users.
    max_cases_per_user
        Cases of one user, the latest ones.

    Raises
    ------
    TrainingError
        No event can be a target.
    """
    if not find_targets(sequences).chosen.any():
        raise TrainingError(NO_TARGETS)
    late_from = int(np.quantile(sequences.occurred_at, 1 - share, method="higher"))
    return split_at(
        sequences, late_from,
        max_users=max_users, max_cases_per_user=max_cases_per_user, user_share=user_share, seed=seed,
    )  # fmt: skip


def split_at(
    sequences: Sequences,
    late_from: int,
    *,
    max_users: int = MAX_VALIDATION_USERS,
    max_cases_per_user: int = 20,
    user_share: float = 0.5,
    seed: int | tuple[int, ...] = 0,
) -> Split:
    """Do the same as `split_validation` for events from `late_from` (microseconds since 1970) on."""
    usable = find_targets(sequences).chosen
    late = sequences.occurred_at >= late_from
    owner = sequences.event_users()
    active = np.unique(owner[late & usable])
    rng = np.random.default_rng(seed)
    count = min(max_users, round(len(active) * user_share))
    chosen = np.zeros(sequences.users, dtype=bool)
    chosen[rng.permutation(active)[:count]] = True
    held_back = late & chosen[owner]
    if not (usable & ~held_back).any():  # all events are late, for example if there is only one user
        held_back[:] = False
    # The latest targets of a user are the closest to the events that the model will have to predict.
    candidates = np.flatnonzero(held_back & usable)
    users = owner[candidates]
    from_end = np.searchsorted(users, users, side="right") - 1 - np.arange(len(users))
    positions = candidates[from_end < max_cases_per_user]
    return Split(sequences.where(~held_back), ValidationCases.of(sequences, positions))


class UserBatches:
    """Batches of event windows of similar length, in a new order each epoch.

    A history longer than `max_events` is cut into consecutive windows. The cuts move each epoch, so that
    every event is trained on with different contexts. `find_targets` says which events are targets.

    Parameters
    ----------
    sequences
        Training events.
    max_events
        Longest window, in events.
    batch_size
        Windows in a batch.
    seed
        Seed of cuts and order.
    """

    def __init__(self, sequences: Sequences, max_events: int, batch_size: int, seed: int) -> None:
        self.sequences = replace(sequences, weight=find_targets(sequences).weight)
        self.gaps = time_gaps(sequences)
        self.max_events = max_events
        self.batch_size = batch_size
        self.seed = seed

    def windows(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return starts and ends [windows] in the event arrays."""
        rng = np.random.default_rng((self.seed, epoch))
        starts: list[NDArray[np.int64]] = []
        ends: list[NDArray[np.int64]] = []
        lengths = self.sequences.lengths
        short = (lengths > 0) & (lengths <= self.max_events)
        starts.append(self.sequences.offsets[:-1][short])
        ends.append(self.sequences.offsets[1:][short])
        for user in np.flatnonzero(lengths > self.max_events):
            begin, end = int(self.sequences.offsets[user]), int(self.sequences.offsets[user + 1])
            first = begin + int(rng.integers(self.max_events // 2, self.max_events + 1))
            cuts = np.append(np.arange(first, end, self.max_events), end)
            cuts = np.unique(np.concatenate([[begin], cuts]))
            starts.append(cuts[:-1])
            ends.append(cuts[1:])
        return np.concatenate(starts), np.concatenate(ends)

    def epoch(self, epoch: int) -> Iterator[tuple[EventBatch, NDArray[np.bool_]]]:
        """Yield batches, each with a flag [users] whether the window starts where the history starts."""
        rng = np.random.default_rng((self.seed, epoch, 1))
        starts, ends = self.windows(epoch)
        order = rng.permutation(len(starts))
        # Sorted by length within a random pool: little padding, but different batches each epoch.
        pool = self.batch_size * 8
        batches = []
        for begin in range(0, len(order), pool):
            rows = order[begin : begin + pool]
            rows = rows[np.argsort((ends - starts)[rows], kind="stable")]
            batches += [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        beginnings = np.zeros(self.sequences.events + 1, dtype=bool)
        beginnings[self.sequences.offsets[:-1]] = True
        for number in rng.permutation(len(batches)):
            rows = batches[number]
            yield collate(self.sequences, self.gaps, starts[rows], ends[rows]), beginnings[starts[rows]]

    def steps(self) -> int:
        """Return the approximate number of batches in an epoch."""
        starts, _ = self.windows(0)
        return -(-len(starts) // self.batch_size)


class PartBatches:
    """Batches of one part of the users after another, in a new order of the parts each epoch.

    The next part is loaded in the background while the current part is trained on. See `UserBatches` for the
    parameters.
    """

    def __init__(self, parts: Sequence[Sequences], max_events: int, batch_size: int, seed: int) -> None:
        self.parts = parts
        self.max_events = max_events
        self.batch_size = batch_size
        self.seed = seed
        self._steps = sum(self._load(number).steps() for number in range(len(parts)))

    def epoch(self, epoch: int) -> Iterator[tuple[EventBatch, NDArray[np.bool_]]]:
        """Yield batches as `UserBatches.epoch` does."""
        order = np.random.default_rng((self.seed, epoch, 2)).permutation(len(self.parts))
        with closing(prefetch(map(self._load, order.tolist()), depth=1)) as loaded:
            for batches in loaded:
                yield from batches.epoch(epoch)
                del batches  # frees the part before another one is loaded

    def steps(self) -> int:
        """Return the approximate number of batches in an epoch."""
        return self._steps

    def _load(self, number: int) -> UserBatches:
        return UserBatches(self.parts[number], self.max_events, self.batch_size, self.seed)


Batches = UserBatches | PartBatches
