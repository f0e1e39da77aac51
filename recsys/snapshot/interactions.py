"""Writes streamed events to Parquet parts and keeps what the manifest says about them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.columns import SNAPSHOT_INTERACTION_COLUMNS, Columns, Purpose
from recsys.snapshot.holdout import HoldoutBoundary
from recsys.snapshot.manifest import FileEntry
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
_ROWS_PER_PART = 5_000_000
_ROWS_PER_GROUP = 262_144
PARQUET_OPTIONS: dict[str, Any] = {
    "compression": "lz4",
    # Names repeat: without a dictionary each of a user's events carries the whole key.
    "use_dictionary": [Columns.USER_KEY, Columns.ITEM_ID, Columns.EVENT_TYPE, Columns.PURPOSE],
    "dictionary_pagesize_limit": 64 * 1024 * 1024,
    "column_encoding": {
        Columns.FEEDBACK_ID: "DELTA_BINARY_PACKED",
        Columns.OCCURRED_AT: "DELTA_BINARY_PACKED",
    },
    "write_statistics": [Columns.FEEDBACK_ID, Columns.OCCURRED_AT],
}


class InteractionsWriter:
    """Writes events and counts them.

    Parameters
    ----------
    folder
        Folder of the snapshot.
    split_purpose
        Purpose of the events among which the latest are held out.
    known
        Allowed values by column; events with another one are left out.
    """

    def __init__(
        self,
        folder: Folder,
        split_purpose: str,
        *,
        known: Mapping[str, pa.Array] | None = None,
    ) -> None:
        self.folder = folder
        self.files: list[FileEntry] = []
        self.rows_by_purpose: dict[str, int] = {}
        self.boundary = HoldoutBoundary()
        self._known = dict(known or {})
        self._split_purpose = split_purpose
        self._users = _DistinctStrings()

    @property
    def rows(self) -> int:
        """Number of events written."""
        return sum(self.rows_by_purpose.values())

    @property
    def users(self) -> int:
        """Number of different users."""
        return len(self._users)

    def write(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Write all events, each part a file; an empty part when there are none."""
        groups = _row_groups(map(self._prepare, batches))
        group = next(groups, SCHEMA.empty_table())
        part = 0
        while group is not None:
            name = f"{INTERACTIONS_FOLDER}/part-{part:05d}.parquet"
            with self.folder.writing(name) as file:
                with pq.ParquetWriter(file.arrow(), SCHEMA, **PARQUET_OPTIONS) as writer:
                    rows = 0
                    while group is not None and rows < _ROWS_PER_PART:
                        writer.write_table(group, row_group_size=_ROWS_PER_GROUP)
                        rows += group.num_rows
                        group = next(groups, None)
                self.files.append(file.entry)
            part += 1

    def split_times(self) -> Iterator[NDArray[np.int64]]:
        """Read the times of the events among which the latest are held out, one array a row group."""
        for entry in self.files:
            with self.folder.fs.open(f"{self.folder.path}/{entry.path}", "rb") as stream:
                parquet = pq.ParquetFile(stream)
                for group in range(parquet.num_row_groups):
                    yield self._times(
                        parquet.read_row_group(group, columns=[Columns.OCCURRED_AT, Columns.PURPOSE])
                    )

    def _prepare(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        for name, values in self._known.items():
            allowed = pc.is_in(batch.column(name), value_set=values)
            if not pc.all(allowed).as_py():
                batch = batch.filter(allowed)
        columns = {name: batch.column(name) for name in SNAPSHOT_INTERACTION_COLUMNS}
        columns[Columns.COMMENT] = scrub_comments(columns[Columns.COMMENT])
        columns[Columns.OCCURRED_AT] = columns[Columns.OCCURRED_AT].cast(
            SCHEMA.field(Columns.OCCURRED_AT).type
        )
        prepared = pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)
        self._users.add(columns[Columns.USER_KEY])
        for counted in pc.value_counts(columns[Columns.PURPOSE]).to_pylist():
            purpose = counted["values"]
            self.rows_by_purpose[purpose] = self.rows_by_purpose.get(purpose, 0) + counted["counts"]
        self.boundary.observe(self._times(prepared))
        return prepared

    def _times(self, events: pa.RecordBatch | pa.Table) -> NDArray[np.int64]:
        times = events.column(Columns.OCCURRED_AT)
        if self._split_purpose != Purpose.FULL:  # in a full snapshot every event has that purpose
            times = times.filter(pc.equal(events.column(Columns.PURPOSE), self._split_purpose))
        return times.cast(pa.int64()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


class _DistinctStrings:
    """Counts different strings of a stream; memory grows with their number only."""

    def __init__(self) -> None:
        self._known = pa.array([], pa.string())
        self._pending: list[pa.Array] = []
        self._pending_rows = 0

    def add(self, strings: pa.Array) -> None:
        self._pending.append(strings.unique())
        self._pending_rows += len(self._pending[-1])
        # Merging seldom keeps the whole cost in proportion to the rows.
        if self._pending_rows > max(1_000_000, len(self._known)):
            self._merge()

    def __len__(self) -> int:
        self._merge()
        return len(self._known)

    def _merge(self) -> None:
        self._known = pa.chunked_array([self._known, *self._pending]).unique()
        self._pending, self._pending_rows = [], 0


def _row_groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Join the small batches that arrive into tables of the size of a row group or a little more."""
    pending: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        pending.append(batch)
        rows += batch.num_rows
        if rows >= _ROWS_PER_GROUP:
            yield pa.Table.from_batches(pending)
            pending, rows = [], 0
    if rows:
        yield pa.Table.from_batches(pending)
