"""Training data: what is trained on, what validates, and batches of users of like length."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.errors import TrainingError
from recsys.model.events import EventBatch, collate, time_gaps
from recsys.prefetch import prefetch
from recsys.snapshot.sequences import Sequences

LATE_SHARE = 0.1
MAX_VALIDATION_USERS = 1_000
NO_TARGETS = (
    "no event can be a training target: all feedback is negative or of weight 0. Wait for more "
    "feedback, or give its event types a weight above 0"
)


@dataclass(frozen=True)
class ValidationCases:
    """Held-back targets, each predicted from everything its user did before it."""

    histories: Sequences
    """[cases] users."""
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)

    def excluded(self, n_items: int, allowed: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Return [cases, items]: consumed before, or not allowed; a target itself never is."""
        mask = np.zeros((len(self), n_items), dtype=bool)
        if allowed is not None:
            mask[:, ~allowed] = True
        mask[self.histories.event_users(), self.histories.item_index] = True
        mask[np.arange(len(self)), self.targets] = False
        return mask


@dataclass(frozen=True)
class Split:
    """Training events and validation cases, without an event in both."""

    train: Sequences
    cases: ValidationCases

    def with_events_read(self, read: Callable[[Sequences], Sequences]) -> "Split":
        """Return the same split with the events as `read` returns them."""
        return Split(read(self.train), ValidationCases(read(self.cases.histories), self.cases.targets))


def first_occurrences(sequences: Sequences) -> NDArray[np.bool_]:
    """Return [events]: the user meets the item for the first time."""
    pairs = sequences.event_users() * (int(sequences.item_index.max(initial=0)) + 1) + sequences.item_index
    _, first = np.unique(pairs, return_index=True)
    result = np.zeros(sequences.events, dtype=bool)
    result[first] = True
    return result


def are_targets(sequences: Sequences) -> NDArray[np.bool_]:
    """Return [events]: the user's first with the item, neither negative nor of weight 0."""
    targets: NDArray[np.bool_] = (sequences.weight > 0) & first_occurrences(sequences)
    return targets


def split_validation(
    sequences: Sequences,
    *,
    share: float = LATE_SHARE,
    max_users: int = MAX_VALIDATION_USERS,
    max_cases_per_user: int = 20,
    user_share: float = 0.5,
    seed: int = 0,
) -> Split:
    """Hold back the latest events of some users.

    The latest `share` of events by time is looked at, as the held-out feedback will be. Of the users
    active in it a sample validates; their events of that time are not trained on. The others' are, so
    that little of the newest feedback is lost.

    Raises
    ------
    TrainingError
        When no event can be a target.
    """
    if not are_targets(sequences).any():
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
    """Hold back events at `late_from` (microseconds since 1970) or later, as `split_validation` does."""
    usable = are_targets(sequences)
    late = sequences.occurred_at >= late_from
    owner = sequences.event_users()
    active = np.unique(owner[late & usable])
    rng = np.random.default_rng(seed)
    count = min(max_users, round(len(active) * user_share))
    chosen = np.zeros(sequences.users, dtype=bool)
    chosen[rng.permutation(active)[:count]] = True
    held_back = late & chosen[owner]
    if not (usable & ~held_back).any():  # everything is late: one user, or one moment
        held_back[:] = False
    # The latest targets of a user are kept: they are the nearest to what will be asked.
    candidates = np.flatnonzero(held_back & usable)
    users = owner[candidates]
    from_end = np.searchsorted(users, users, side="right") - 1 - np.arange(len(users))
    positions = candidates[from_end < max_cases_per_user]
    cases = ValidationCases(sequences.prefixes(positions), sequences.item_index[positions].astype(np.int64))
    return Split(sequences.where(~held_back), cases)


class UserBatches:
    """Batches of event windows of like length, in a new order each epoch.

    A history longer than the encoder reads is cut into consecutive windows, at another place each
    epoch, so that every event is trained on and none is preferred. Only a user's first event with an
    item is a target: what was consumed is never recommended again.
    """

    def __init__(self, sequences: Sequences, max_events: int, batch_size: int, seed: int) -> None:
        weight = np.where(first_occurrences(sequences), sequences.weight, 0).astype(np.float32)
        self.sequences = replace(sequences, weight=weight)
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
        """Yield batches with a flag [users]: the window is the beginning of the user's history."""
        rng = np.random.default_rng((self.seed, epoch, 1))
        starts, ends = self.windows(epoch)
        order = rng.permutation(len(starts))
        # Sorted by length within a random pool: little padding, yet other companions each epoch.
        pool = self.batch_size * 8
        batches = []
        for begin in range(0, len(order), pool):
            part = order[begin : begin + pool]
            part = part[np.argsort((ends - starts)[part], kind="stable")]
            batches += [part[i : i + self.batch_size] for i in range(0, len(part), self.batch_size)]
        beginnings = np.zeros(self.sequences.events + 1, dtype=bool)
        beginnings[self.sequences.offsets[:-1]] = True
        for number in rng.permutation(len(batches)):
            rows = batches[number]
            yield collate(self.sequences, self.gaps, starts[rows], ends[rows]), beginnings[starts[rows]]

    def steps(self) -> int:
        """Return the number of batches of an epoch, about."""
        starts, _ = self.windows(0)
        return -(-len(starts) // self.batch_size)


class PartBatches:
    """`UserBatches` of one part of the users after the other, in a new order of the parts each epoch.

    While one part is trained on, the next one is loaded.
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
                del batches  # before the one after the next is loaded

    def steps(self) -> int:
        """Return the number of batches of an epoch, about."""
        return self._steps

    def _load(self, number: int) -> UserBatches:
        return UserBatches(self.parts[number], self.max_events, self.batch_size, self.seed)


Batches = UserBatches | PartBatches
