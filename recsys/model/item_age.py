"""Age of an item at the moment of a recommendation: in news, what is new is what is read.

An item is as old as its `available_from` says, and otherwise as its first known event. The features are
piecewise linear in the logarithm of the age, and the fusion fits their weights together with those of the
other parts. They do not change after a week: ages of months tell eras of a data set apart, which helps on
validation cases and not later. The mean over the items of known age is subtracted, so that an item of unknown
age is neither new nor old.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.model.recent import LAG, EventLog
from recsys.snapshot.catalogue import ALWAYS, Catalogue
from recsys.snapshot.sequences import Sequences, parts_of

FEATURES = ("age", "age_after_a_day")
"""Names in the fusion: the logarithm of the age, and by how much it is above that of a day."""
_HOUR = 3_600_000_000
_PRECISION = 900_000_000
_KNOTS_HOURS = (0.0, 24.0)
_OLDEST = np.log1p(7 * 24.0)
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class ItemAges:
    """When each item was first chosen.

    Attributes
    ----------
    first_event
        [items] microseconds since 1970: when the quarter hour of the first event ends, so that no user's
        exact time is kept; the largest integer for an item without events.
    """

    first_event: NDArray[np.int64]

    @classmethod
    def fit(cls, sequences: Sequences | Sequence[Sequences], n_items: int) -> "ItemAges":
        """Find the first event of each item."""
        ages = cls(np.full(n_items, _NEVER))
        for part in parts_of(sequences):
            ages = ages.observed(part)
        return ages

    def observed(self, sequences: Sequences) -> "ItemAges":
        """Return the ages with further events."""
        return self._observed(sequences.occurred_at, sequences.item_index)

    def with_log(self, log: EventLog) -> "ItemAges":
        """Return the ages with the events of a log."""
        return self._observed(log.times, log.items)

    def aligned(self, positions: NDArray[np.int64], n_items: int) -> "ItemAges":
        """Move item i to `positions[i]` in a catalogue of `n_items`; new items have no event."""
        moved = np.full(n_items, _NEVER)
        moved[positions[positions >= 0]] = self.first_event[positions >= 0]
        return ItemAges(moved)

    def dated(self, catalogue: Catalogue) -> Catalogue:
        """Return the catalogue with items available from their first event on, unless they state a time.

        So no item of the future is ranked in a past moment.
        """
        known = (catalogue.available_from == ALWAYS) & (self.first_event != _NEVER)
        born = np.where(known, self.first_event - _PRECISION, catalogue.available_from)
        return replace(catalogue, available_from=born)

    def features_at(self, catalogue: Catalogue, moments: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return [features, moments, items] of lists read at each moment, in microseconds since 1970.

        A first event that is less than `LAG` before the moment is not known yet.
        """
        stated = catalogue.available_from != ALWAYS
        born = np.where(stated, catalogue.available_from, self.first_event)
        unknown_for = np.where(stated, 0, LAG)
        features = np.zeros((len(FEATURES), len(moments), len(born)), dtype=np.float32)
        # A moment at a time stays in the processor's cache.
        for row, moment in enumerate(moments):
            known = np.flatnonzero(born <= moment - unknown_for)
            age = np.minimum(np.log1p((moment - born[known]) / _HOUR), _OLDEST)
            for feature, knot in enumerate(_KNOTS_HOURS):
                value = np.maximum(age - np.log1p(knot), 0)
                features[feature, row, known] = value - value.sum() / max(len(known), 1)
        return features

    def _observed(self, times: NDArray[np.int64], items: NDArray[np.int32]) -> "ItemAges":
        first = self.first_event.copy()
        inside = items >= 0
        np.minimum.at(first, items[inside], -(-times[inside] // _PRECISION) * _PRECISION)
        return ItemAges(first)
