"""Find the time from which feedback is held out, in two passes and little memory."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.snapshot.sequences import Sequences

_BUCKET_MICROSECONDS = 3_600_000_000


class HoldoutBoundary:
    """Counts events per hour in a first pass, then finds the exact boundary within one hour.

    Sorting all times would take memory that grows with the feedback.
    """

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.events = 0
        self.earliest: int | None = None

    def observe(self, occurred_at: NDArray[np.int64]) -> None:
        """Count events by their times `[events]`, in microseconds since 1970 UTC."""
        if not len(occurred_at):
            return
        hours = occurred_at // _BUCKET_MICROSECONDS
        first, last = int(hours.min()), int(hours.max())
        if last - first <= len(hours):  # nearly in time order; counting is then faster than sorting
            counts = np.bincount(hours - first)
            buckets = np.flatnonzero(counts)
            counts = counts[buckets]
            buckets += first
        else:
            buckets, counts = np.unique(hours, return_counts=True)
        for bucket, count in zip(buckets.tolist(), counts.tolist(), strict=True):
            self._counts[bucket] = self._counts.get(bucket, 0) + count
        self.events += len(occurred_at)
        earliest = int(occurred_at.min())
        self.earliest = earliest if self.earliest is None else min(self.earliest, earliest)

    def find(self, share: float, read_times: Callable[[int], Iterable[NDArray[np.int64]]]) -> int | None:
        """Return the time from which on events are held out, or None if all have the same time.

        The latest `share` of the events is held out, at least one. Events with exactly the boundary's time
        are held out too. If no earlier event would be left, the boundary is the next later time.

        Parameters
        ----------
        share
            Share of the events to hold out.
        read_times
            Given a time, yields at least the events of the first pass from that time on.
        """
        if self.earliest is None:
            return None
        wanted = max(1, round(share * self.events))
        bucket = self.earliest // _BUCKET_MICROSECONDS
        for latest in sorted(self._counts, reverse=True):
            if wanted <= self._counts[latest]:
                bucket = latest
                break
            wanted -= self._counts[latest]
        boundary = int(np.sort(_within(read_times(bucket * _BUCKET_MICROSECONDS), bucket))[-wanted])
        if boundary > self.earliest:
            return boundary
        later = (part[part > boundary] for part in read_times(boundary))
        return min((int(part.min()) for part in later if len(part)), default=None)


def late_from(parts: Sequence[Sequences], share: float) -> int | None:
    """Return the time from which on the latest `share` of the events happened; None without events.

    Memory does not grow with the events. It is the earliest time if all events have the same.

    Parameters
    ----------
    parts
        Events divided by users; one part is loaded at a time.
    """
    boundary = HoldoutBoundary()
    for part in parts:
        boundary.observe(part.occurred_at)
    found = boundary.find(share, lambda _: (part.occurred_at for part in parts))
    return found if found is not None else boundary.earliest


def _within(times: Iterable[NDArray[np.int64]], bucket: int) -> NDArray[np.int64]:
    parts = [part[part // _BUCKET_MICROSECONDS == bucket] for part in times]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
