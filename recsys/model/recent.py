"""Popularity of the recent past: events count half after a half-life.

In news, and in any catalogue with fashions, what others choose now says more than what they ever chose.
Shares of the whole are compared, so that the passing of time alone, which lets all counts decay alike,
changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.snapshot.sequences import Sequences, parts_of

HALF_LIVES_DAYS = (1 / 24, 1 / 8, 1 / 4, 1.0, 3.0, 7.0, 30.0, 90.0)
"""Half-lives of which the best on the validation cases is taken."""
LOG_EVENTS = 5_000_000
LAG = 3_600_000_000
"""Microseconds: lists are published once an hour, so they know nothing of the last hour."""
_MICROSECONDS_PER_DAY = 86_400e6


@dataclass(frozen=True, eq=False)
class EventLog:
    """What was chosen when, in time order.

    Attributes
    ----------
    times
        [events] microseconds since 1970.
    items
        [events] position in the catalogue.
    """

    times: NDArray[np.int64]
    items: NDArray[np.int32]

    @classmethod
    def of(cls, sequences: Sequences | Sequence[Sequences]) -> "EventLog":
        """Take the latest `LOG_EVENTS` non-negative events of all users, or fewer."""
        log = cls(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32))
        for part in parts_of(sequences):
            wanted = (part.sentiment >= 0) & (part.item_index >= 0)
            times = np.concatenate([log.times, part.occurred_at[wanted]])
            items = np.concatenate([log.items, part.item_index[wanted]])
            # Of equal times by item: the log is the same however the users are divided.
            order = np.lexsort((items, times))[-LOG_EVENTS:]
            log = cls(times[order], items[order])
        return log


@dataclass(frozen=True, eq=False)
class RecentPopularity:
    """Counts of the items' positive and neutral events, decayed to one moment.

    Attributes
    ----------
    counts
        [items] at `as_of`.
    as_of
        Microseconds since 1970.
    half_life_days
        Days after which an event counts half.
    """

    counts: NDArray[np.float64]
    as_of: int
    half_life_days: float

    @classmethod
    def fit(
        cls, sequences: Sequences | Sequence[Sequences], n_items: int, half_life_days: float
    ) -> "RecentPopularity":
        """Count the non-negative events of all users, as of the latest one."""
        result = cls(np.zeros(n_items), 0, half_life_days)
        for part in parts_of(sequences):
            result = result.counted(part)
        return result

    def counted(self, sequences: Sequences) -> "RecentPopularity":
        """Return the counts with further events, as of the latest one known."""
        wanted = (sequences.sentiment >= 0) & (sequences.item_index >= 0)
        if not wanted.any():
            return self
        times, items = sequences.occurred_at[wanted], sequences.item_index[wanted]
        return self._add(times, items)

    def score(self) -> NDArray[np.float32]:
        """Return [items] the logarithm of the item's share of all counts, times the number of items."""
        total = self.counts.sum()
        share = self.counts / total if total > 0 else np.zeros_like(self.counts)
        return np.log1p(share * len(self.counts)).astype(np.float32)

    def freshness(self, moments: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return [moments] the worth of the counts: 1, and half after a half-life without new events."""
        return self._decay(np.maximum(moments - LAG - self.as_of, 0))

    def scores_at(self, later: EventLog, moments: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return [moments, items] what `score` is in lists read at each moment.

        Parameters
        ----------
        later
            Events, of which those after `as_of` are counted if they are at least `LAG` before the moment.
            Before `as_of` the counts hold what came later than the moment, so all earlier events are counted
            instead.
        moments
            [moments] in any order.
        """
        past = moments < self.as_of
        if past.any():
            result = np.zeros((len(moments), len(self.counts)), dtype=np.float32)
            nothing = replace(self, counts=np.zeros_like(self.counts), as_of=0)
            result[past] = nothing.scores_at(later, moments[past])
            result[~past] = self.scores_at(later, moments[~past])
            return result
        first = int(np.searchsorted(later.times, self.as_of, side="right"))
        times, items = later.times[first:], later.items[first:]
        result = np.zeros((len(moments), len(self.counts)), dtype=np.float32)
        state, done, current = self, 0, self.score()
        for row in np.argsort(moments, kind="stable"):
            end = int(np.searchsorted(times, moments[row] - LAG, side="left"))
            if end > done:
                state = state._add(times[done:end], items[done:end])
                done, current = end, state.score()
            result[row] = current
        return result

    def aligned(self, positions: NDArray[np.int64], n_items: int) -> "RecentPopularity":
        """Move item i to `positions[i]` in a catalogue of `n_items`; new items have no count."""
        counts = np.zeros(n_items)
        counts[positions[positions >= 0]] = self.counts[positions >= 0]
        return replace(self, counts=counts)

    def _add(self, times: NDArray[np.int64], items: NDArray[np.int32]) -> "RecentPopularity":
        as_of = max(self.as_of, int(times.max()))
        added = np.bincount(items, weights=self._decay(as_of - times), minlength=len(self.counts))
        counts = added.astype(np.float64)
        if self.as_of:
            counts += self.counts * self._decay(np.array([as_of - self.as_of]))
        return replace(self, counts=counts, as_of=as_of)

    def _decay(self, age: NDArray[np.int64]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = 0.5 ** (age / (self.half_life_days * _MICROSECONDS_PER_DAY))
        return result
