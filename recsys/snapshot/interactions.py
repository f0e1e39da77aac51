"""Writes streamed events to Parquet parts and keeps what the manifest says about them."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.columns import Columns, Purpose
from recsys.snapshot.holdout import HoldoutBoundary
from recsys.snapshot.manifest import FileEntry
from recsys.snapshot.registered import HASHES, Registered
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
# Names repeat, so they are written as what Arrow has them: a dictionary and a number an event. Readers
# see plain strings.
_ENCODED = pa.dictionary(pa.int32(), pa.string())
HASHED_SCHEMA = pa.schema(
    [
        (Columns.FEEDBACK_ID, pa.int64()),
        *((name, pa.int64()) for name in HASHES.values()),
        (Columns.VALUE, pa.float64()),
        (Columns.OCCURRED_AT, pa.timestamp("us", tz="UTC")),
        (Columns.COMMENT, pa.string()),
    ]
)
"""Events whose names are hashes, as a full snapshot streams them."""
_NAMES = (Columns.USER_KEY, Columns.ITEM_ID, Columns.EVENT_TYPE, Columns.PURPOSE)
_WRITTEN_SCHEMA = pa.schema(
    [field.with_type(_ENCODED) if field.name in _NAMES else field for field in SCHEMA]
)
_ROWS_PER_PART = 5_000_000
ROWS_PER_GROUP = 262_144
_BYTES_PER_GROUP = 32 * 1024 * 1024
PARQUET_OPTIONS: dict[str, Any] = {
    # Nothing makes keyed hashes shorter.
    "compression": {field.name: "none" if field.name == Columns.USER_KEY else "lz4" for field in SCHEMA},
    # Without a dictionary each of a user's events would carry the whole key.
    "use_dictionary": list(_NAMES),
    "dictionary_pagesize_limit": 64 * 1024 * 1024,
    "column_encoding": {
        Columns.FEEDBACK_ID: "DELTA_BINARY_PACKED",
        Columns.OCCURRED_AT: "DELTA_BINARY_PACKED",
    },
    "write_statistics": [Columns.FEEDBACK_ID, Columns.OCCURRED_AT],
    "store_schema": False,
}


class InteractionsWriter:
    """Writes events and counts them.

    Parameters
    ----------
    folder
        Folder of the snapshot.
    split_purpose
        Purpose of the events among which the latest are held out; of all events that come without one.
    known
        Allowed values of `item_id` and `event_type`; events with another one are left out. For events that
        come with names and weights.
    registered
        What the names of events stand for that come as `HASHED_SCHEMA`; events with another one are left out.
    """

    def __init__(
        self,
        folder: Folder,
        split_purpose: str,
        *,
        known: Mapping[str, pa.Array] | None = None,
        registered: Registered | None = None,
    ) -> None:
        self.folder = folder
        self.files: list[FileEntry] = []
        self.rows_by_purpose: dict[str, int] = {}
        self.boundary = HoldoutBoundary()
        self._known = dict(known or {})
        self._split_purpose = split_purpose
        self._registered = registered
        self._seen_users = np.zeros(0 if registered is None else len(registered.weights), dtype=np.bool_)
        self._seen_keys: set[str] = set()
        self._latest: dict[tuple[str, int], int] = {}

    @property
    def rows(self) -> int:
        """Number of events written."""
        return sum(self.rows_by_purpose.values())

    @property
    def users(self) -> int:
        """Number of different users."""
        return int(np.count_nonzero(self._seen_users)) + len(self._seen_keys)

    def write(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Write all events, each batch a row group, each part a file; an empty part when there are none."""
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
        """Read the times of the events among which the latest are held out, one array a row group.

        Row groups in which all of them are earlier than `since`, in microseconds since 1970, are left out.
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
        """Return the events as they are written; their names encoded among those of this group only."""
        columns = dict(zip(events.schema.names, events.columns, strict=True))
        if self._registered is not None:
            columns = self._registered_only(columns, self._registered)
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

    def _registered_only(self, columns: dict[str, pa.Array], registered: Registered) -> dict[str, pa.Array]:
        """Return the events of users to be trained on whose other names are known too, with names."""
        places = {
            name: names.places(columns.pop(HASHES[name]).to_numpy())
            for name, names in registered.names.items()
        }
        wanted = np.logical_and.reduce([found >= 0 for found in places.values()])
        if not wanted.all():
            mask = pa.array(wanted)
            columns = {name: column.filter(mask) for name, column in columns.items()}
            places = {name: found[wanted] for name, found in places.items()}
        columns[Columns.WEIGHT] = pa.array(registered.weights[places[Columns.USER_KEY]])
        for name, found in places.items():
            columns[name], occurring = registered.names[name].encode(found)
            if name == Columns.USER_KEY:
                self._seen_users[occurring] = True
        return columns

    def _known_only(self, columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
        """Return the events with known names, names dictionary-encoded."""
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

    def _note_latest(self, place: tuple[str, int], events: pa.Table) -> None:
        times = self._times(events)
        if len(times):
            self._latest[place] = int(times.max())

    def _times(self, events: pa.Table) -> NDArray[np.int64]:
        times = events.column(Columns.OCCURRED_AT)
        if self._split_purpose != Purpose.FULL:
            purposes = events.column(Columns.PURPOSE).cast(pa.string())
            times = times.filter(pc.equal(purposes, self._split_purpose))
        return times.cast(pa.int64()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _without_unused(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """Return the column with a dictionary of what its events refer to: nothing else belongs in a file."""
    indices = column.indices.to_numpy()
    used = np.zeros(len(column.dictionary), dtype=np.bool_)
    used[indices] = True
    places = (np.cumsum(used) - 1).astype(np.int32)
    return pa.DictionaryArray.from_arrays(places[indices], column.dictionary.filter(pa.array(used)))


def row_groups(batches: Iterable[pa.RecordBatch], rows: int = ROWS_PER_GROUP) -> Iterator[pa.RecordBatch]:
    """Join batches that arrive into one of `rows` events or a little more, or fewer of many bytes."""
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
