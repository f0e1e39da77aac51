"""Names that events refer to by a seeded 64-bit hash, found without a join in Postgres.

A join, or sending the names themselves, would take longer than reading the events does. Two registered names
with one hash are noticed, and another seed is taken; that a name which is not registered at all falls on one
of a million has a chance of 5e-14, and nobody can choose such a name without knowing the seed.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_SLOT_BITS_ABOVE_NAMES = 3
_HASHES_AT_ONCE = 16_384  # what is between two steps then stays in the processor's cache


class HashedNames:
    """Registered names and where they are by their hashes.

    Parameters
    ----------
    names
        [names] of strings. Dictionaries of events hold them in this order, which therefore must not depend on
        the hashes if the same events are to give the same bytes.
    hashes
        [names] int64, different from each other.
    """

    def __init__(self, names: pa.Array, hashes: NDArray[np.int64]) -> None:
        self._names = names
        self._hashes = hashes
        self._order = np.argsort(hashes.view(np.uint64)).astype(np.int32)
        self._sorted = hashes.view(np.uint64)[self._order]
        # Hashes are evenly spread, so their leading bits are nearly a place by themselves.
        bits = min(len(hashes).bit_length() + _SLOT_BITS_ABOVE_NAMES, 32)
        self._shift = np.uint64(64 - bits)
        self._slots = np.full(1 << bits, -1, dtype=np.int32)
        self._slots[self._sorted[::-1] >> self._shift] = self._order[::-1]

    def __len__(self) -> int:
        return len(self._hashes)

    def places(self, hashes: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return where among the names those of these hashes are [hashes]; -1: not registered."""
        places = np.full(len(hashes), -1, dtype=np.int32)
        if len(self):
            for start in range(0, len(hashes), _HASHES_AT_ONCE):
                part = slice(start, start + _HASHES_AT_ONCE)
                self._find(hashes[part], places[part])
        return places

    def _find(self, hashes: NDArray[np.int64], places: NDArray[np.int32]) -> None:
        wanted = hashes.view(np.uint64)
        places[:] = self._slots[(wanted >> self._shift).astype(np.intp)]
        # Another name may have the slot. An empty one, -1, is nobody's, the last name's neither.
        missed = np.flatnonzero(self._hashes[places] != hashes)
        if len(missed):
            found = np.minimum(np.searchsorted(self._sorted, wanted[missed]), len(self) - 1)
            places[missed] = np.where(self._sorted[found] == wanted[missed], self._order[found], -1)

    def encode(self, places: NDArray[np.int32]) -> tuple[pa.DictionaryArray, NDArray[np.intp]]:
        """Return the names at these places, all of them registered, and the places that occur, ascending.

        The dictionary holds no name that is not there.
        """
        occurs = np.zeros(len(self), dtype=np.bool_)
        occurs[places] = True
        occurring = np.flatnonzero(occurs)
        codes = np.empty(len(self), dtype=np.int32)
        codes[occurring] = np.arange(len(occurring), dtype=np.int32)
        return pa.DictionaryArray.from_arrays(codes[places], self._names.take(pa.array(occurring))), occurring
