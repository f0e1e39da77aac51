"""Write streamed events to Parquet files, and count them for the manifest."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.columns import Columns, Purpose
from recsys.snapshot.dictionary import drop_unused
from recsys.snapshot.holdout import HoldoutBoundary
from recsys.snapshot.manifest import FileEntry
from recsys.snapshot.name_hashes import HASH_COLUMNS, NameHashes
from recsys.snapshot.scrub import scrub_comments
from recsys.snapshot.store import Folder

INTERACTIONS_FOLDER = "interactions"
SCHEMA = pa.schema(
    [
        (Columns.FEEDBACK_ID, pa.int64()),
        (Columns.USER_KEY, pa.string()),
        (Columns.ITEM_ID, pa.string()),
        (Columns.EVENT_TYPE, pa.string()),
        (Columns.VALUE, pa.float64()),
        (Columns.COMMENT, pa.string()),
        (Columns.OCCURRED_AT, pa.timestamp("us", tz="UTC")),
        (Columns.WEIGHT, pa.float32()),
        (Columns.PURPOSE, pa.string()),
    ]
)
# Names repeat, so they are written dictionary-encoded. Readers see plain strings.
_ENCODED = pa.dictionary(pa.int32(), pa.string())
HASHED_SCHEMA = pa.schema(
    [
        (Columns.FEEDBACK_ID, pa.int64()),
        *((name, pa.int64()) for name in HASH_COLUMNS.values()),
        (Columns.VALUE, pa.float64()),
        (Columns.OCCURRED_AT, pa.timestamp("us", tz="UTC")),
        (Columns.COMMENT, pa.string()),
    ]
)
"""Events of a full snapshot as they are streamed: with hashes of names."""
_NAMES = (Columns.USER_KEY, Columns.ITEM_ID, Columns.EVENT_TYPE, Columns.PURPOSE)
_WRITTEN_SCHEMA = pa.schema(
    [field.with_type(_ENCODED) if field.name in _NAMES else field for field in SCHEMA]
)
_ROWS_PER_PART = 5_000_000
ROWS_PER_GROUP = 262_144
_BYTES_PER_GROUP = 32 * 1024 * 1024
PARQUET_OPTIONS: dict[str, Any] = {
    # Keyed hashes do not compress.
    "compression": {field.name: "none" if field.name == Columns.USER_KEY else "lz4" for field in SCHEMA},
    # Otherwise each event would hold its user's whole key.
    "use_dictionary": list(_NAMES),
    "dictionary_pagesize_limit": 64 * 1024 * 1024,
    "column_encoding": {
        Columns.FEEDBACK_ID: "DELTA_BINARY_PACKED",
        Columns.OCCURRED_AT: "DELTA_BINARY_PACKED",
    },
    "write_statistics": [Columns.FEEDBACK_ID, Columns.OCCURRED_AT],
    "store_schema": False,
    # Decoding finds damage without a pass over the file for its digest.
    "write_page_checksum": True,
}


class InteractionsWriter:
    """Writes events and counts them.

    Parameters
    ----------
    folder
        Folder of the snapshot.
    split_purpose
        Purpose of the events of which the latest are held out. Events without a purpose get this one.
    known
        For events with names and weights: the allowed values of `item_id` and `event_type`. Other events are
        dropped.
    name_hashes
        For events with the columns `HASHED_SCHEMA`: the names by hash. Events with other hashes are dropped.
    """

    def __init__(
        self,
        folder: Folder,
        split_purpose: str,
        *,
        known: Mapping[str, pa.Array] | None = None,
        name_hashes: NameHashes | None = None,
    ) -> None:
        self.folder = folder
        self.files: list[FileEntry] = []
        self.rows_by_purpose: dict[str, int] = {}
        self.boundary = HoldoutBoundary()
        self._known = dict(known or {})
        self._split_purpose = split_purpose
        self._name_hashes = name_hashes
        users = 0 if name_hashes is None else len(name_hashes.user_weights)
        self._seen_users = np.zeros(users, dtype=np.bool_)
        self._seen_keys: set[str] = set()
        self._latest: dict[tuple[str, int], int] = {}

    @property
    def rows(self) -> int:
        """Number of events written."""
        return sum(self.rows_by_purpose.values())

    @property
    def users(self) -> int:
        """Number of users who have events."""
        return int(np.count_nonzero(self._seen_users)) + len(self._seen_keys)

    def write(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Write all events: each batch as a row group, about five million rows a file, at least one file."""
        groups = map(self._prepare, batches)
        group = next(groups, _WRITTEN_SCHEMA.empty_table())
        part = 0
        while group is not None:
            name = f"{INTERACTIONS_FOLDER}/part-{part:05d}.parquet"
            with self.folder.writing(name) as file:
                with pq.ParquetWriter(file.arrow(), _WRITTEN_SCHEMA, **PARQUET_OPTIONS) as writer:
                    rows = 0
                    for number in count():
                        if group is None or rows >= _ROWS_PER_PART:
                            break
                        writer.write_table(group, row_group_size=group.num_rows or None)
                        self._note_latest((name, number), group)
                        rows += group.num_rows
                        group = next(groups, None)
                self.files.append(file.entry)
            part += 1

    def split_times(self, since: int) -> Iterator[NDArray[np.int64]]:
        """Yield the times of the events of which the latest are held out, one array for each row group.

        Parameters
        ----------
        since
            Skip row groups without such an event at this time or later, in microseconds since 1970.
        """
        columns = [Columns.OCCURRED_AT]
        if self._split_purpose != Purpose.FULL:  # in a full snapshot every event has that purpose
            columns.append(Columns.PURPOSE)
        for entry in self.files:
            with self.folder.fs.open(f"{self.folder.path}/{entry.path}", "rb") as stream:
                parquet = pq.ParquetFile(stream)
                for group in range(parquet.num_row_groups):
                    latest = self._latest.get((entry.path, group))
                    if latest is not None and latest >= since:
                        yield self._times(parquet.read_row_group(group, columns=columns))

    def _prepare(self, events: pa.RecordBatch) -> pa.Table:
        """Return the events as they are written, with dictionaries of the names in this group only."""
        columns = dict(zip(events.schema.names, events.columns, strict=True))
        if self._name_hashes is not None:
            columns = self._resolve_names(columns, self._name_hashes)
        else:
            columns = self._known_only(columns)
        columns[Columns.COMMENT] = scrub_comments(columns[Columns.COMMENT])
        if Columns.PURPOSE not in columns:
            zeros = np.zeros(len(columns[Columns.FEEDBACK_ID]), dtype=np.int32)
            columns[Columns.PURPOSE] = pa.DictionaryArray.from_arrays(zeros, [self._split_purpose])
        prepared = pa.Table.from_arrays(
            [columns[field.name].cast(field.type) for field in _WRITTEN_SCHEMA], schema=_WRITTEN_SCHEMA
        )
        for counted in pc.value_counts(columns[Columns.PURPOSE]).to_pylist():
            purpose = counted["values"]
            self.rows_by_purpose[purpose] = self.rows_by_purpose.get(purpose, 0) + counted["counts"]
        self.boundary.observe(self._times(prepared))
        return prepared

    def _resolve_names(self, columns: dict[str, pa.Array], hashes: NameHashes) -> dict[str, pa.Array]:
        """Return the events whose user, item and type are found by their hashes, with names."""
        positions = {
            name: index.positions(columns.pop(HASH_COLUMNS[name]).to_numpy())
            for name, index in hashes.indexes.items()
        }
        wanted = np.logical_and.reduce([found >= 0 for found in positions.values()])
        if not wanted.all():
            mask = pa.array(wanted)
            columns = {name: column.filter(mask) for name, column in columns.items()}
            positions = {name: found[wanted] for name, found in positions.items()}
        users = positions[Columns.USER_KEY]
        self._seen_users[users] = True
        columns[Columns.WEIGHT] = pa.array(hashes.user_weights[users])
        return columns | {name: hashes.indexes[name].encode(found) for name, found in positions.items()}

    def _known_only(self, columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
        """Return the events with known names, dictionary-encoded."""
        for name in _NAMES:
            if name in columns:
                columns[name] = columns[name].dictionary_encode()
        wanted = np.ones(len(columns[Columns.FEEDBACK_ID]), dtype=np.bool_)
        for name, values in self._known.items():
            allowed = pc.is_in(columns[name].dictionary, value_set=values).to_numpy(zero_copy_only=False)
            if not allowed.all():
                wanted &= allowed[columns[name].indices.to_numpy()]
        if not wanted.all():
            kept = {name: column.filter(pa.array(wanted)) for name, column in columns.items()}
            columns = {
                name: _without_unused(column) if pa.types.is_dictionary(column.type) else column
                for name, column in kept.items()
            }
        self._seen_keys.update(columns[Columns.USER_KEY].dictionary.to_pylist())
        return columns

    def _note_latest(self, group: tuple[str, int], events: pa.Table) -> None:
        times = self._times(events)
        if len(times):
            self._latest[group] = int(times.max())

    def _times(self, events: pa.Table) -> NDArray[np.int64]:
        times = events.column(Columns.OCCURRED_AT)
        if self._split_purpose != Purpose.FULL:
            purposes = events.column(Columns.PURPOSE).cast(pa.string())
            times = times.filter(pc.equal(purposes, self._split_purpose))
        return times.cast(pa.int64()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _without_unused(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """Return the column with a dictionary of only the names that occur; no others belong in a file."""
    dictionary, codes = drop_unused(column.dictionary, column.indices.to_numpy())
    return pa.DictionaryArray.from_arrays(codes, dictionary)


def row_groups(batches: Iterable[pa.RecordBatch], rows: int = ROWS_PER_GROUP) -> Iterator[pa.RecordBatch]:
    """Join batches until they have at least `rows` events or 32 MiB."""
    pending: list[pa.RecordBatch] = []
    for batch in batches:
        pending.append(batch)
        if (
            sum(part.num_rows for part in pending) >= rows
            or sum(part.nbytes for part in pending) >= _BYTES_PER_GROUP
        ):
            yield pending[0] if len(pending) == 1 else pa.concat_batches(pending)
            pending = []
    if pending:
        yield pa.concat_batches(pending)
