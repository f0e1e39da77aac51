"""Batch users with histories of similar length."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys.model.events import EventBatch, collate, time_gaps
from recsys.prefetch import prefetch
from recsys.snapshot.sequences import Sequences
from recsys.snapshot.targets import find_targets


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
    learned
        [events] what is learned; windows that hold context only are left out. Default: everything.
    """

    def __init__(
        self,
        sequences: Sequences,
        max_events: int,
        batch_size: int,
        seed: int,
        learned: NDArray[np.bool_] | None = None,
    ) -> None:
        self._learned_before = None if learned is None else np.concatenate([[0], np.cumsum(learned)])
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
        begins, stops = np.concatenate(starts), np.concatenate(ends)
        if self._learned_before is None:
            return begins, stops
        holds = self._learned_before[stops] > self._learned_before[begins]
        return begins[holds], stops[holds]

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
