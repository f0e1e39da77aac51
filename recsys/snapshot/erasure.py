"""Erase users from finished snapshots."""

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import get_args
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.columns import Columns, Purpose
from recsys.errors import ServiceUnavailableError, SnapshotError
from recsys.snapshot.interactions import INTERACTIONS_FOLDER, PARQUET_OPTIONS, SCHEMA
from recsys.snapshot.manifest import MANIFEST_NAME, FileEntry, Manifest
from recsys.snapshot.read import open_verified
from recsys.snapshot.reference import SnapshotKind
from recsys.snapshot.sequences import microseconds
from recsys.snapshot.slates import SLATES
from recsys.snapshot.store import Folder, is_unfinished

logger = logging.getLogger(__name__)

_KINDS = get_args(SnapshotKind)


@dataclass(frozen=True)
class RewrittenSnapshot:
    """A snapshot from which users were erased."""

    uri: str
    digest: str
    rows: int
    """Remaining rows."""
    removed: dict[str, int]
    """Events removed, by user key."""


@dataclass(frozen=True)
class ErasedSnapshots:
    """What an erasure did to the snapshots."""

    rewritten: list[RewrittenSnapshot]
    damaged: dict[str, str]
    """URIs of snapshots that could not be searched, with what is damaged."""


def snapshot_folders(root: str) -> list[Folder]:
    """Return the folders under `root` that have a manifest."""
    return [folder for folder in _folders(root) if folder.exists(MANIFEST_NAME)]


def unfinished_folders(root: str) -> list[Folder]:
    """Return the folders that are being written or that a killed writer left."""
    return [folder for folder in _folders(root) if not folder.exists(MANIFEST_NAME) or _is_hidden(folder)]


def erase_from_snapshots(root: str, user_keys: Collection[str]) -> ErasedSnapshots:
    """Rewrite every snapshot under `root` that holds events of these users, or lists that they were shown.

    Each snapshot stays readable: new files are written beside the old ones, then the manifest is replaced,
    then the old files are removed. After a kill at any point, another call completes the erasure. Rewritten
    snapshots, and snapshots that were finished meanwhile, are searched again until none holds the users.

    A damaged snapshot is left as it is: rewriting it would give the damage a valid digest.

    The caller holds the lock `SNAPSHOT_FILES`.

    Raises
    ------
    ServiceUnavailableError
        Another process has changed a snapshot at the same time.
    """
    searched = pa.array(sorted(user_keys), pa.string())
    rewritten: dict[str, RewrittenSnapshot] = {}
    damaged: dict[str, str] = {}
    proven: set[tuple[str, str]] = set()
    found = True
    while found:
        found = False
        for folder in snapshot_folders(root):
            if _is_hidden(folder) or folder.uri in damaged:
                continue
            try:
                manifest = folder.read_manifest()
                if (folder.uri, manifest.digest) in proven:
                    continue
                found = True
                changed = _rewrite(folder, manifest, searched)
            except (SnapshotError, FileNotFoundError) as error:
                damaged[folder.uri] = str(error)
                logger.warning("cannot erase from a damaged snapshot: %s", error)
                continue
            if changed is None:
                proven.add((folder.uri, manifest.digest))
            else:
                rewritten[folder.uri] = changed
    return ErasedSnapshots(list(rewritten.values()), damaged)


def _rewrite(folder: Folder, manifest: Manifest, user_keys: pa.Array) -> RewrittenSnapshot | None:
    """Replace the files that have the users; return None if no file has them."""
    try:
        changed = _without(folder, manifest, user_keys)
        if changed is None:
            return None
        without, removed = changed
        if folder.read_manifest() != manifest:
            raise ServiceUnavailableError(
                f"{folder.uri} was changed by another process during an erasure; erase again"
            )
        folder.write_manifest(without)
    finally:
        _remove_unlisted(folder)
    return RewrittenSnapshot(folder.uri, without.digest, without.rows, removed)


def _folders(root: str) -> list[Folder]:
    parents = [Folder(f"{root.rstrip('/')}/{kind}") for kind in _KINDS]
    return [parent.child(name) for parent in parents for name in parent.folders()]


def _is_hidden(folder: Folder) -> bool:
    return is_unfinished(folder.uri.rsplit("/", 1)[-1])


def _without(
    folder: Folder, manifest: Manifest, user_keys: pa.Array
) -> tuple[Manifest, dict[str, int]] | None:
    """Write files without the users; return the new manifest, or None if no file has them."""
    files: list[FileEntry] = []
    removed: dict[str, int] = {}
    by_purpose = dict(manifest.rows_by_purpose)
    held_out = manifest.held_out_rows
    for entry in manifest.files:
        is_of_slates = entry.path.startswith(f"{SLATES}.")
        is_personal = is_of_slates or entry.path.startswith(f"{INTERACTIONS_FOLDER}/")
        if not is_personal or not _holds(folder, entry, user_keys):
            files.append(entry)
            continue
        # Unique, so that two writers cannot mix their bytes, whatever became of their lock.
        name = f"{entry.path.removesuffix('.parquet').split('.')[0]}.{uuid4().hex[:12]}.parquet"
        with (
            open_verified(folder, entry.path) as stream,
            pq.ParquetFile(stream, page_checksum_verification=True) as source,
            folder.writing(name) as file,
            pq.ParquetWriter(
                file.arrow(), schema := source.schema_arrow if is_of_slates else SCHEMA, **PARQUET_OPTIONS
            ) as writer,
        ):
            for group in range(source.num_row_groups):
                rows = source.read_row_group(group).cast(schema)
                theirs = pc.is_in(rows[Columns.USER_KEY], value_set=user_keys)
                writer.write_table(rows.filter(pc.invert(theirs)))
                if is_of_slates:
                    continue
                gone = rows.filter(theirs)
                for key, count in _counts(gone[Columns.USER_KEY]):
                    removed[key] = removed.get(key, 0) + count
                for purpose, count in _counts(gone[Columns.PURPOSE]):
                    by_purpose[purpose] -= count
                held_out -= _held_out(gone, manifest)
        files.append(file.entry)
    if tuple(files) == manifest.files:
        return None
    changed = replace(
        manifest,
        rows=manifest.rows - sum(removed.values()),
        rows_by_purpose=by_purpose,
        held_out_rows=held_out,
        users=manifest.users - len(removed),
        files=tuple(files),
        erased_from=(*manifest.erased_from, manifest.digest),
    )
    return changed, removed


def _holds(folder: Folder, entry: FileEntry, user_keys: pa.Array) -> bool:
    with open_verified(folder, entry.path) as stream:
        source = pq.ParquetFile(stream, read_dictionary=[Columns.USER_KEY], page_checksum_verification=True)
        for group in range(source.num_row_groups):
            column = source.read_row_group(group, columns=[Columns.USER_KEY])[Columns.USER_KEY]
            for chunk in column.chunks:
                if pc.any(pc.is_in(chunk.dictionary, value_set=user_keys)).as_py():
                    return True
    return False


def _counts(column: pa.ChunkedArray) -> list[tuple[str, int]]:
    return [(counted["values"], counted["counts"]) for counted in pc.value_counts(column).to_pylist()]


def _held_out(events: pa.Table, manifest: Manifest) -> int:
    split_purpose = Purpose.FULL if manifest.kind == "full" else Purpose.FRESH
    split = events.filter(pc.equal(events[Columns.PURPOSE], split_purpose))
    times = split[Columns.OCCURRED_AT].cast(pa.int64()).to_numpy()
    return int(np.count_nonzero(times >= microseconds(manifest.held_out_from)))


def _remove_unlisted(folder: Folder) -> None:
    listed = {entry.path for entry in folder.read_manifest().files}
    folder.fs.invalidate_cache()
    paths = [
        *folder.fs.find(f"{folder.path}/{INTERACTIONS_FOLDER}"),
        *folder.fs.glob(f"{folder.path}/{SLATES}.*"),
    ]
    for path in paths:
        parent, name = path.rsplit("/", 2)[-2:]
        if (name if name.startswith(f"{SLATES}.") else f"{parent}/{name}") not in listed:
            folder.fs.rm_file(path)
