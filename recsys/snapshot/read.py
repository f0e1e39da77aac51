"""Open snapshots and read their data."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.columns import PURPOSES, Columns
from recsys.errors import SnapshotError
from recsys.snapshot.dictionary import drop_unused, encode
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.interactions import INTERACTIONS_FOLDER
from recsys.snapshot.item_attributes import read_attributes
from recsys.snapshot.manifest import EVENT_TYPES_FILE, ITEMS_FILE, Manifest
from recsys.snapshot.reference import SnapshotRef, TrainedThrough
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.snapshot.slates import SLATES, Slates
from recsys.snapshot.store import Folder

_CHUNK_BYTES = 4 * 1024 * 1024
_NAMES = [Columns.USER_KEY, Columns.ITEM_ID, Columns.EVENT_TYPE, Columns.PURPOSE]
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


def read_snapshot(
    source: SnapshotRef | str, *, verify: Literal["digests", "sizes"] = "digests"
) -> "Snapshot":
    """Open a snapshot after verifying it.

    A run verifies the digests once, before training: training itself reads its snapshot that way, and a
    micro-update the reservoirs that it replays. All other readers of the run, before or after, ask for
    `verify="sizes"`. They also refuse damaged data, because decoding checks the checksum of each Parquet
    page.

    Parameters
    ----------
    source
        Reference from `take_full_snapshot` or `take_micro_snapshot`, or the URI of a snapshot.
    verify
        "digests" reads every file and compares its SHA-256 with the manifest. "sizes" only compares the sizes
        of the files, one look-up each. Both check the digest of the manifest and that it is the one in the
        reference.

    Raises
    ------
    SnapshotError
        The snapshot is missing, incomplete, damaged, or not the one in the reference.
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
            f"the snapshot at {uri} has digest {manifest.digest[:12]}, not {source.digest[:12]} as in the "
            "reference"
        )
    for entry in manifest.files:
        is_sound = folder.size(entry.path) == entry.bytes
        if is_sound and verify == "digests":
            is_sound = _digest(folder, entry.path) == entry.sha256
        if not is_sound:
            raise _damaged(uri, entry.path)
    return Snapshot(folder, manifest)


@dataclass(frozen=True)
class Snapshot:
    """A verified snapshot. Its methods read the files; they raise SnapshotError when they find damage."""

    folder: Folder
    manifest: Manifest

    @property
    def uri(self) -> str:
        """URI of the snapshot's folder."""
        return self.folder.uri

    @property
    def held_out_from(self) -> datetime:
        """Events from this time on are for evaluation only; in a micro snapshot, fresh events."""
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
            read_attributes(rows[Columns.ATTRIBUTES]),
            rows["available"],
            # Older snapshots have none of these.
            rows.get("rest_days"),
            rows.get("available_from"),
            rows.get("available_until"),
            rows.get("variant_of"),
        )

    def catalogue(self) -> Catalogue:
        """Return all items as of the snapshot, sorted by id."""
        return self._catalogue

    @cached_property
    def _event_types(self) -> EventTypes:
        return EventTypes.from_arrow(self._read(EVENT_TYPES_FILE))

    def event_types(self) -> EventTypes:
        """Return the event types as of the snapshot."""
        return self._event_types

    def interactions(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the events as an Arrow table, unordered, with dictionary-encoded names.

        Parameters
        ----------
        columns
            Some of `recsys.columns.SNAPSHOT_INTERACTION_COLUMNS`; default: all.
        """
        return pa.concat_tables(self._read(path, columns) for path in self._parts())

    def sequences(self, *purposes: str, catalogue: Catalogue | None = None) -> Sequences:
        """Return each user's events in time order; users are sorted by key.

        Parameters
        ----------
        purposes
            Return only events with one of these purposes; default: all.
        catalogue
            Catalogue that `item_index` refers to; default: the snapshot's own. Events of other items are
            dropped.
        """
        table = self.interactions(SEQUENCE_COLUMNS)
        if purposes:
            wanted = pa.array(purposes, pa.string())
            table = table.filter(pc.is_in(table.column(Columns.PURPOSE).cast(pa.string()), value_set=wanted))
        return self.sequences_of(table, catalogue)

    def sequences_of(self, table: pa.Table, catalogue: Catalogue | None = None) -> Sequences:
        """Return the sequences of some events, given with the columns `SEQUENCE_COLUMNS`."""
        encoded = {}
        for name in _NAMES:
            dictionary, codes = drop_unused(*encode(table.column(name)))
            encoded[name] = np.asarray(dictionary.to_pylist(), dtype=object), codes
        user_keys, user_codes = encoded[Columns.USER_KEY]
        order = np.argsort(user_keys.astype(str), kind="stable")
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        items, item_codes = encoded[Columns.ITEM_ID]
        types, type_codes = encoded[Columns.EVENT_TYPE]
        purposes, purpose_codes = encoded[Columns.PURPOSE]
        event_types = self.event_types()
        catalogue = self.catalogue() if catalogue is None else catalogue
        item_index = catalogue.lookup(items)[item_codes]
        occurred_at = table.column(Columns.OCCURRED_AT).cast(pa.int64()).to_numpy()
        return Sequences.build(
            user_keys=user_keys[order],
            user_index=rank[user_codes],
            item_index=item_index,
            event_type=event_types.lookup(types.tolist())[type_codes],
            value=table.column(Columns.VALUE).to_numpy(),
            occurred_at=occurred_at,
            feedback_id=table.column(Columns.FEEDBACK_ID).to_numpy(),
            event_types=event_types,
            rest_days=catalogue.rest_days,
            in_time=catalogue.within_its_time(item_index, occurred_at),
            row_weight=table.column(Columns.WEIGHT).to_numpy(),
            purpose=np.array([PURPOSES.index(purpose) for purpose in purposes], np.int8)[purpose_codes],
            comment=table.column(Columns.COMMENT),
        )

    def slates(self) -> Slates | None:
        """Return the lists that users were shown, also the held-out ones; None if there are none."""
        paths = [entry.path for entry in self.manifest.files if entry.path.startswith(f"{SLATES}.")]
        return Slates.from_arrow(self._read(paths[0]), self.catalogue()) if paths else None

    def row_groups(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the events, about 262,144 at a time, unordered, with dictionary-encoded names."""
        for path in self._parts():
            with open_verified(self.folder, path) as stream:
                parquet = pq.ParquetFile(stream, read_dictionary=_NAMES, page_checksum_verification=True)
                for group in range(parquet.num_row_groups):
                    yield parquet.read_row_group(group, columns=list(columns))

    def _parts(self) -> list[str]:
        paths = [entry.path for entry in self.manifest.files]
        return [path for path in paths if path.startswith(f"{INTERACTIONS_FOLDER}/")]

    def _read(self, path: str, columns: Sequence[str] | None = None) -> pa.Table:
        with open_verified(self.folder, path) as stream:
            return pq.read_table(
                stream,
                columns=list(columns) if columns else None,
                read_dictionary=_NAMES if path.startswith(f"{INTERACTIONS_FOLDER}/") else None,
                page_checksum_verification=True,
            )


@contextmanager
def open_verified(folder: Folder, path: str) -> Iterator[Any]:
    """Open a file of a snapshot; raise SnapshotError if decoding it finds damage."""
    with folder.fs.open(f"{folder.path}/{path}", "rb") as stream:
        try:
            yield stream
        except (pa.ArrowException, OSError) as error:
            # Only an error of the file system has a number; a retry can fix that one.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise _damaged(folder.uri, path) from error


def _damaged(uri: str, path: str) -> SnapshotError:
    return SnapshotError(
        f"{uri}/{path} is missing or damaged; clear the snapshot task to take it again, or remove the "
        "snapshot"
    )


def _digest(folder: Folder, path: str) -> str:
    digest = sha256()
    with folder.fs.open(f"{folder.path}/{path}", "rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
