"""Map the hashes in a full snapshot's event stream to user keys, item ids and event types.

Events name users, items and types by a seeded 64-bit hash. A join in Postgres, or sending the names
themselves, would take longer than reading the events does. If two names have one hash, another seed is taken.
An unregistered name has the hash of one of a million registered names with a probability of 5e-14, and nobody
can choose such a name without knowing the seed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.columns import Columns
from recsys.snapshot.dictionary import drop_unused
from recsys.warehouse.statements import read_statement

if TYPE_CHECKING:  # reading a snapshot needs no database driver
    from recsys.snapshot.extract import Extraction

HASH_COLUMNS = {
    Columns.USER_KEY: "user_hash",
    Columns.ITEM_ID: "item_hash",
    Columns.EVENT_TYPE: "event_type_hash",
}
"""Hash column of the stream, by the snapshot column that replaces it."""
_SCHEMA = pa.schema([("name", pa.string()), ("hash", pa.int64())])
_STATEMENTS = {
    Columns.USER_KEY: (
        "snapshot/select_full_snapshot_users",
        _SCHEMA.append(pa.field("weight", pa.float32())),
    ),
    Columns.ITEM_ID: ("snapshot/select_full_snapshot_items", _SCHEMA),
    Columns.EVENT_TYPE: ("snapshot/select_full_snapshot_event_types", _SCHEMA),
}
_SLOT_BITS_ABOVE_NAMES = 3
_HASHES_AT_ONCE = 16_384  # the intermediate arrays then stay in the processor's cache


class HashIndex:
    """Find names by their hashes.

    Parameters
    ----------
    names
        `[names]` of strings. Dictionaries of events hold them in this order. For the same events to give the
        same bytes, it must not depend on the hashes.
    hashes
        `[names]` int64, all different.
    """

    def __init__(self, names: pa.Array, hashes: NDArray[np.int64]) -> None:
        self._names = names
        self._hashes = hashes
        self._order = np.argsort(hashes.view(np.uint64)).astype(np.int32)
        self._sorted = hashes.view(np.uint64)[self._order]
        # Hashes are uniform, so the leading bits are nearly a position by themselves.
        bits = min(len(hashes).bit_length() + _SLOT_BITS_ABOVE_NAMES, 32)
        self._shift = np.uint64(64 - bits)
        self._slots = np.full(1 << bits, -1, dtype=np.int32)
        self._slots[self._sorted[::-1] >> self._shift] = self._order[::-1]

    def __len__(self) -> int:
        return len(self._hashes)

    def positions(self, hashes: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return `[hashes]` the position of each one's name; -1 where no name has it."""
        positions = np.full(len(hashes), -1, dtype=np.int32)
        if len(self):
            for start in range(0, len(hashes), _HASHES_AT_ONCE):
                part = slice(start, start + _HASHES_AT_ONCE)
                self._find(hashes[part], positions[part])
        return positions

    def _find(self, hashes: NDArray[np.int64], positions: NDArray[np.int32]) -> None:
        wanted = hashes.view(np.uint64)
        positions[:] = self._slots[(wanted >> self._shift).astype(np.intp)]
        # Another name may have the slot. An empty slot, -1, compares with the last name.
        missed = np.flatnonzero(self._hashes[positions] != hashes)
        if len(missed):
            found = np.minimum(np.searchsorted(self._sorted, wanted[missed]), len(self) - 1)
            positions[missed] = np.where(self._sorted[found] == wanted[missed], self._order[found], -1)

    def encode(self, positions: NDArray[np.int32]) -> pa.DictionaryArray:
        """Return the names at these positions, with a dictionary of only the names that occur."""
        dictionary, codes = drop_unused(self._names, positions)
        return pa.DictionaryArray.from_arrays(codes, dictionary)


@dataclass(frozen=True)
class NameHashes:
    """Names by hash of the users who may be trained on, of all items and of all event types."""

    indexes: Mapping[str, HashIndex]
    """By snapshot column: `user_key`, `item_id`, `event_type`."""
    user_weights: NDArray[np.float32]
    """`[users]` weight of each one's events."""

    @classmethod
    def read(
        cls, source: "Extraction", hash_seed: int, upper_transaction_id: int, min_noisy_weight: float
    ) -> "NameHashes | None":
        """Read them from the warehouse; None if two names have the same hash with this seed.

        Parameters
        ----------
        hash_seed
            Seed with which `select_full_snapshot` hashes names.
        upper_transaction_id
            Bound (exclusive) of the feedback that weights depend on.
        min_noisy_weight
            Lowest weight, for users whose feedback is all noise.
        """
        tables = {
            column: source.table(
                read_statement(statement),
                schema,
                hash_seed=hash_seed,
                upper_transaction_id=upper_transaction_id,
                min_noisy_weight=min_noisy_weight,
            )
            for column, (statement, schema) in _STATEMENTS.items()
        }
        if any(len(table.column("hash").unique()) < table.num_rows for table in tables.values()):
            return None
        # In the order of the names, so that the bytes of a snapshot do not depend on the seed.
        ordered = {
            column: table.filter(table.column("name").is_valid()).sort_by("name")
            for column, table in tables.items()
        }
        indexes = {
            column: HashIndex(table.column("name").combine_chunks(), table.column("hash").to_numpy())
            for column, table in ordered.items()
        }
        return cls(indexes, ordered[Columns.USER_KEY].column(Columns.WEIGHT).to_numpy())
