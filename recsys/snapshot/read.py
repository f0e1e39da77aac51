"""Reads snapshots, after checking that they are what their reference says."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.columns import PURPOSES, Columns
from recsys.errors import SnapshotError
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.interactions import INTERACTIONS_FOLDER
from recsys.snapshot.manifest import EVENT_TYPES_FILE, ITEMS_FILE, Manifest
from recsys.snapshot.reference import SnapshotRef, TrainedThrough
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.snapshot.store import Folder

_CHUNK_BYTES = 4 * 1024 * 1024
_NAMES = [Columns.USER_KEY, Columns.ITEM_ID, Columns.EVENT_TYPE, Columns.PURPOSE]


def read_snapshot(source: SnapshotRef | str) -> "Snapshot":
    """Open a snapshot and verify its files.

    Parameters
    ----------
    source
        Reference from `take_full_snapshot` or `take_micro_snapshot`, or a snapshot's URI.

    Raises
    ------
    SnapshotError
        The snapshot is missing, incomplete, changed, or another one than the reference means.
    """
    uri = source if isinstance(source, str) else source.uri
    folder = Folder(uri)
    try:
        manifest = folder.read_manifest()
    except FileNotFoundError as error:
        raise SnapshotError(
            f"there is no complete snapshot at {uri}; clear the snapshot task to take it again"
        ) from error
    if isinstance(source, SnapshotRef) and source.digest not in (manifest.digest, *manifest.erased_from):
        raise SnapshotError(
            f"the snapshot at {uri} has digest {manifest.digest[:12]}, "
            f"the reference means {source.digest[:12]}"
        )
    for entry in manifest.files:
        if _digest(folder, entry.path) != entry.sha256:
            raise SnapshotError(
                f"{uri}/{entry.path} is missing or damaged; clear the snapshot task to take it again"
            )
    return Snapshot(folder, manifest)


@dataclass(frozen=True)
class Snapshot:
    """A verified snapshot; its data is read when asked for."""

    folder: Folder
    manifest: Manifest

    @property
    def uri(self) -> str:
        """Where the snapshot lies."""
        return self.folder.uri

    @property
    def held_out_from(self) -> datetime:
        """Events (of a micro snapshot: fresh events) from this time on are for evaluation only."""
        return self.manifest.held_out_from

    @property
    def trained_through(self) -> TrainedThrough:
        """What a model knows after training on this snapshot."""
        return self.manifest.trained_through

    @cached_property
    def _catalogue(self) -> Catalogue:
        rows = self._read(ITEMS_FILE).to_pydict()
        return Catalogue.build(
            rows[Columns.ITEM_ID],
            rows[Columns.TITLE],
            rows[Columns.DESCRIPTION],
            [_attributes(text) for text in rows[Columns.ATTRIBUTES]],
            rows["available"],
        )

    def catalogue(self) -> Catalogue:
        """Return all items as of the snapshot, in the order of their ids."""
        return self._catalogue

    @cached_property
    def _event_types(self) -> EventTypes:
        return EventTypes.from_arrow(self._read(EVENT_TYPES_FILE))

    def event_types(self) -> EventTypes:
        """Return the event types as of the snapshot."""
        return self._event_types

    def interactions(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return events as an Arrow table, in no particular order; names dictionary-encoded.

        Parameters
        ----------
        columns
            Names out of `recsys.columns.SNAPSHOT_INTERACTION_COLUMNS`; default: all.
        """
        return pa.concat_tables(self._parts(columns))

    def sequences(self, *purposes: str, catalogue: Catalogue | None = None) -> Sequences:
        """Return users' events in time order, users in the order of their keys.

        Parameters
        ----------
        purposes
            Read only events that are in the snapshot for one of these purposes; default: all.
        catalogue
            What `item_index` refers to; default: the snapshot's own. Events of items that it does
            not have are left out.
        """
        table = self.interactions(SEQUENCE_COLUMNS)
        if purposes:
            wanted = pa.array(purposes, pa.string())
            table = table.filter(pc.is_in(table.column(Columns.PURPOSE).cast(pa.string()), value_set=wanted))
        return self.sequences_of(table, catalogue)

    def sequences_of(self, table: pa.Table, catalogue: Catalogue | None = None) -> Sequences:
        """Return some of the events, with the columns `SEQUENCE_COLUMNS`, as `sequences` returns all."""
        names = {name: name_codes(table.column(name)) for name in _NAMES}
        user_keys, user_codes = names[Columns.USER_KEY]
        order = np.argsort(user_keys.astype(str), kind="stable")
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        items, item_codes = names[Columns.ITEM_ID]
        kinds, kind_codes = names[Columns.EVENT_TYPE]
        reasons, reason_codes = names[Columns.PURPOSE]
        event_types = self.event_types()
        return Sequences.build(
            user_keys=user_keys[order],
            user_index=rank[user_codes],
            item_index=(self.catalogue() if catalogue is None else catalogue).lookup(items)[item_codes],
            event_type=event_types.lookup(kinds.tolist())[kind_codes],
            value=table.column(Columns.VALUE).to_numpy(),
            occurred_at=table.column(Columns.OCCURRED_AT).cast(pa.int64()).to_numpy(),
            feedback_id=table.column(Columns.FEEDBACK_ID).to_numpy(),
            event_types=event_types,
            row_weight=table.column(Columns.WEIGHT).to_numpy(),
            purpose=np.array([PURPOSES.index(reason) for reason in reasons], dtype=np.int8)[reason_codes],
            comment=table.column(Columns.COMMENT),
        )

    def row_groups(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the events some 262,144 at a time, in no particular order; names dictionary-encoded."""
        for entry in self.manifest.files:
            if entry.path.startswith(f"{INTERACTIONS_FOLDER}/"):
                with self.folder.fs.open(f"{self.folder.path}/{entry.path}", "rb") as stream:
                    parquet = pq.ParquetFile(stream, read_dictionary=_NAMES)
                    for group in range(parquet.num_row_groups):
                        yield parquet.read_row_group(group, columns=list(columns))

    def _parts(self, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        for entry in self.manifest.files:
            if entry.path.startswith(f"{INTERACTIONS_FOLDER}/"):
                yield self._read(entry.path, columns)

    def _read(self, path: str, columns: Sequence[str] | None = None) -> pa.Table:
        with self.folder.fs.open(f"{self.folder.path}/{path}", "rb") as stream:
            encoded = _NAMES if path.startswith(f"{INTERACTIONS_FOLDER}/") else None
            return pq.read_table(stream, columns=list(columns) if columns else None, read_dictionary=encoded)


SEQUENCE_COLUMNS = (
    Columns.FEEDBACK_ID,
    Columns.USER_KEY,
    Columns.ITEM_ID,
    Columns.EVENT_TYPE,
    Columns.VALUE,
    Columns.COMMENT,
    Columns.OCCURRED_AT,
    Columns.WEIGHT,
    Columns.PURPOSE,
)


def name_codes(column: pa.ChunkedArray) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Return the different names [names] and each event's position among them [events]."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    array = column.unify_dictionaries().combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no chunk at all
        array = array.chunk(0) if array.num_chunks else pa.array([], pa.string()).dictionary_encode()
    codes = array.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    names = np.asarray(array.dictionary.to_pylist(), dtype=object)
    used = np.bincount(codes, minlength=len(names)) > 0  # a filter leaves the dictionary as it was
    return names[used], (np.cumsum(used) - 1)[codes]


def _attributes(text: str) -> dict[str, Any]:
    attributes = json.loads(text)
    return attributes if isinstance(attributes, dict) else {"": attributes}


def _digest(folder: Folder, path: str) -> str:
    digest = sha256()
    try:
        with folder.fs.open(f"{folder.path}/{path}", "rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()
