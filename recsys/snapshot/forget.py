"""Takes people out of snapshots that were written before they asked to be forgotten."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.columns import Columns, Purpose
from recsys.snapshot.interactions import INTERACTIONS_FOLDER, InteractionsWriter
from recsys.snapshot.manifest import FileEntry
from recsys.snapshot.sequences import microseconds
from recsys.snapshot.store import Folder


def forget_users(uri: str, user_keys: Collection[str]) -> int:
    """Remove users' events from a snapshot; return how many events were removed.

    The files without them are written beside the old ones, then the manifest is replaced, then the old
    files go: killed at any point, the snapshot is whole and the call can be repeated. References to
    the snapshot stay good, because the manifest keeps the digests it had before.

    Parameters
    ----------
    uri
        A snapshot. A folder without manifest is left alone.
    user_keys
        Keyed hashes.
    """
    folder = Folder(uri)
    try:
        manifest = folder.read_manifest()
    except FileNotFoundError:
        return 0
    forgotten = pa.array(sorted(user_keys), pa.string())
    old = [entry for entry in manifest.files if entry.path.startswith(f"{INTERACTIONS_FOLDER}/")]
    _remove_unlisted(folder, manifest.files)
    if not any(_names_any(folder, entry, forgotten) for entry in old):
        return 0
    split = Purpose.FULL if manifest.kind == "full" else Purpose.FRESH
    writer = InteractionsWriter(folder, split, part_prefix=f"part-{uuid4().hex[:8]}")
    writer.write(
        batch.filter(pc.invert(pc.is_in(batch.column(Columns.USER_KEY), value_set=forgotten)))
        for entry in old
        for batch in _batches(folder, entry)
    )
    boundary = microseconds(manifest.held_out_from)
    kept = [entry for entry in manifest.files if entry not in old]
    folder.write_manifest(
        replace(
            manifest,
            rows=writer.rows,
            held_out_rows=sum(int((times >= boundary).sum()) for times in writer.split_times()),
            rows_by_purpose=writer.rows_by_purpose,
            users=writer.users,
            files=(*writer.files, *kept),
            erased_from=(*manifest.erased_from, manifest.digest),
        )
    )
    _remove_unlisted(folder, (*writer.files, *kept))
    return manifest.rows - writer.rows


def _batches(folder: Folder, entry: FileEntry) -> Iterator[pa.RecordBatch]:
    with folder.fs.open(f"{folder.path}/{entry.path}", "rb") as stream:
        yield from pq.ParquetFile(stream).iter_batches()


def _names_any(folder: Folder, entry: FileEntry, user_keys: pa.Array) -> bool:
    with folder.fs.open(f"{folder.path}/{entry.path}", "rb") as stream:
        return any(
            pc.any(pc.is_in(batch.column(0), value_set=user_keys)).as_py()
            for batch in pq.ParquetFile(stream).iter_batches(columns=[Columns.USER_KEY])
        )


def _remove_unlisted(folder: Folder, listed: Collection[FileEntry]) -> None:
    """Delete parts that the manifest does not name: a writer was killed, or they were replaced."""
    known = {entry.path for entry in listed}
    path = f"{folder.path}/{INTERACTIONS_FOLDER}"
    folder.fs.invalidate_cache()
    for name in folder.fs.ls(path, detail=False):
        part = name.rstrip("/").rsplit("/", 1)[-1]
        if f"{INTERACTIONS_FOLDER}/{part}" not in known:
            folder.fs.rm_file(f"{path}/{part}")
