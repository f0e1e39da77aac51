"""What people had together until several days, as `sql/serving/compute_item_lists.sql` computes it."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.snapshot.sequences import Sequences, parts_of

DAY = 86_400_000_000
"""Microseconds."""
_LEAST_PEOPLE = 5
_EVENTS_PER_PERSON = 50
_LENGTH = 100
_MOST_PAIRS = 10_000_000
_BLOCK = 2_000
"""People who are counted at a time."""


class Together:
    """Lists of items that the same people had within a day, as of the start of any of some days.

    Of a person the latest events of the whole log count, not those until the day: one pass over the log
    serves all days. Of many people only the first ones count, until there are ten million pairs.

    Parameters
    ----------
    sequences
        Training events.
    items
        Items whose lists are asked for.
    n_items
        Size of the catalogue.
    """

    def __init__(
        self, sequences: Sequences | Sequence[Sequences], items: NDArray[np.int64], n_items: int
    ) -> None:
        wanted = np.zeros(n_items, dtype=bool)
        wanted[items] = True
        had: list[NDArray[np.int64]] = []
        pairs: list[NDArray[np.int64]] = []
        for block in _blocks(sequences):
            owner, item, time = _latest(block)
            had.append(np.stack([item, time]))
            pairs += _pairs(owner, item, time, wanted)
            if sum(rows.shape[1] for rows in pairs) > _MOST_PAIRS:
                break
        self._had = _sorted(np.concatenate(had, axis=1))
        self._pairs = _sorted(np.concatenate(pairs, axis=1) if pairs else np.zeros((3, 0), dtype=np.int64))

    def of(self, item: int, before: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the items that people had together with one, best first, and the cosines over people.

        Parameters
        ----------
        before
            Microseconds since 1970; later events do not count.
        """
        first, last = np.searchsorted(self._pairs[0], [item, item + 1])
        known = self._pairs[2, first:last] < before
        others, people = np.unique(self._pairs[1, first:last][known], return_counts=True)
        others, people = others[people >= _LEAST_PEOPLE], people[people >= _LEAST_PEOPLE]
        if not len(others):
            return others, np.zeros(0)
        own = self._people(np.array([item]), before)
        scores = people / np.sqrt(own * self._people(others, before))
        best = np.lexsort((others, -scores))[:_LENGTH]
        return others[best], scores[best]

    def _people(self, items: NDArray[np.int64], before: int) -> NDArray[np.int64]:
        first, last = np.searchsorted(self._had[0], items), np.searchsorted(self._had[0], items + 1)
        return np.array(
            [
                np.searchsorted(self._had[1, start:end], before)
                for start, end in zip(first.tolist(), last.tolist(), strict=True)
            ]
        )


def _blocks(sequences: Sequences | Sequence[Sequences]) -> Iterator[Sequences]:
    for part in parts_of(sequences):
        for first in range(0, part.users, _BLOCK):
            yield part.take_users(np.arange(first, min(first + _BLOCK, part.users)))


def _latest(part: Sequences) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return users, items and times of the latest events, each item of a user once, in time order."""
    wanted = np.flatnonzero((part.weight > 0) & (part.sentiment >= 0))[::-1]
    owner, item = part.event_users()[wanted], part.item_index[wanted].astype(np.int64)
    _, latest = np.unique(np.stack([owner, item]), axis=1, return_index=True)
    chosen = np.sort(wanted[latest])
    owner = part.event_users()[chosen]
    from_end = np.searchsorted(owner, owner, side="right") - 1 - np.arange(len(owner))
    chosen = chosen[from_end < _EVENTS_PER_PERSON]
    return part.event_users()[chosen], part.item_index[chosen].astype(np.int64), part.occurred_at[chosen]


def _pairs(
    owner: NDArray[np.int64], item: NDArray[np.int64], time: NDArray[np.int64], wanted: NDArray[np.bool_]
) -> list[NDArray[np.int64]]:
    """Return wanted items, the items had within a day of them, and the times of the later of the two."""
    found = []
    for lag in range(1, _EVENTS_PER_PERSON):
        near = (owner[lag:] == owner[:-lag]) & (time[lag:] - time[:-lag] <= DAY)
        if not near.any():
            break
        later = np.flatnonzero(near) + lag
        earlier = later - lag
        for one, other in ((earlier, later), (later, earlier)):
            asked = wanted[item[one]]
            found.append(np.stack([item[one][asked], item[other][asked], time[later][asked]]))
    return found


def _sorted(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[:, np.lexsort((rows[-1], rows[0]))]
