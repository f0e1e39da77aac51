"""Snapshot folders on any fsspec file system, written so that readers see all of one or none of it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pyarrow as pa
import sqlalchemy as sa

from recsys.errors import ConfigurationError
from recsys.snapshot.manifest import MANIFEST_NAME, FileEntry, Manifest
from recsys.warehouse.advisory_locks import confirm_lock, hold_lock

_UNFINISHED_PREFIX = ".unfinished-"
# Extra of this package that installs an object store's client, by protocol.
_EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("abfs", "abfss", "az"), "azure"),
}


class Folder:
    """One folder of an fsspec file system.

    Parameters
    ----------
    uri
        fsspec URL or local path.

    Raises
    ------
    ConfigurationError
        The client of the object store is not installed, or the protocol is unknown.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        try:
            self.fs, self.path = fsspec.core.url_to_fs(self.uri)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"cannot keep snapshots at {self.uri}: {_remedy(uri, error)}") from error

    @property
    def is_local(self) -> bool:
        """Whether the folder is on a mounted disk, where a rename is atomic."""
        protocol = self.fs.protocol
        return "file" in (protocol if isinstance(protocol, tuple) else (protocol,))

    def child(self, name: str) -> "Folder":
        """Return a subfolder."""
        return Folder(f"{self.uri}/{name}")

    def exists(self, name: str) -> bool:
        """Whether a file or folder of this name exists now."""
        self.fs.invalidate_cache()
        return bool(self.fs.exists(f"{self.path}/{name}"))

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes; None if it does not exist."""
        self.fs.invalidate_cache()
        try:
            return int(self.fs.info(f"{self.path}/{name}")["size"])
        except FileNotFoundError:
            return None

    def folders(self) -> list[str]:
        """Return the sorted names of the direct subfolders; none if the folder does not exist."""
        self.fs.invalidate_cache()
        if not self.fs.isdir(self.path):
            return []
        entries = self.fs.ls(self.path, detail=True)
        return sorted(
            entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry["type"] == "directory"
        )

    def read_manifest(self) -> Manifest:
        """Return the manifest; raise FileNotFoundError if there is none, SnapshotError if it is damaged."""
        return Manifest.from_json(self.fs.cat_file(f"{self.path}/{MANIFEST_NAME}"), self.uri)

    def write_manifest(self, manifest: Manifest) -> None:
        """Write or replace the manifest atomically."""
        target = f"{self.path}/{MANIFEST_NAME}"
        content = manifest.to_json().encode()
        if self.is_local:
            unfinished = Path(self.path) / f"{_UNFINISHED_PREFIX}{uuid4().hex}"
            with unfinished.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
            self.sync()
        else:  # an object store shows an object only when it is complete
            self.fs.pipe_file(target, content)

    def sync(self) -> None:
        """Make the names in a local folder and its subfolders survive a power failure."""
        if self.is_local:
            for path, _, _ in os.walk(self.path):
                _sync_names(path)

    def remove(self) -> None:
        """Delete the folder; its manifest first, so that nobody reads half of the snapshot."""
        self.fs.invalidate_cache()
        if self.fs.exists(f"{self.path}/{MANIFEST_NAME}"):
            self.fs.rm_file(f"{self.path}/{MANIFEST_NAME}")
        if self.fs.exists(self.path):
            self.fs.rm(self.path, recursive=True)

    @contextmanager
    def writing(self, name: str) -> Iterator["HashingFile"]:
        """Open a file of this folder for writing; afterwards it is on disk and its `entry` is complete."""
        path = f"{self.path}/{name}"
        self.fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        with self.fs.open(path, "wb") as stream:
            file = HashingFile(name, stream)
            yield file
            if self.is_local:
                stream.flush()
                os.fsync(stream.fileno())


class HashingFile:
    """A file for writing that computes its digest."""

    def __init__(self, name: str, stream: Any) -> None:
        self._name = name
        self._stream = stream
        self._digest = sha256()
        self._bytes = 0
        self.closed = False

    def write(self, data: Any) -> int:
        """Append bytes."""
        view = memoryview(data)
        self._digest.update(view)
        self._bytes += view.nbytes
        self._stream.write(view)
        return view.nbytes

    def tell(self) -> int:
        """Return the number of bytes written so far."""
        return self._bytes

    def flush(self) -> None:
        """Do nothing; closing flushes the stream."""

    def close(self) -> None:
        """Accept no more bytes."""
        self.closed = True

    def arrow(self) -> pa.NativeFile:
        """Return the file for pyarrow's writers."""
        return pa.PythonFile(self, mode="w")

    @property
    def entry(self) -> FileEntry:
        """Entry for the manifest."""
        return FileEntry(self._name, self._bytes, self._digest.hexdigest())


@contextmanager
def new_folder(parent: Folder, name: str) -> Iterator[Folder]:
    """Yield an empty folder that becomes `parent/name` at the end; the caller writes the manifest last.

    On a disk the folder has a temporary name until the end and is then renamed, which is atomic. Object
    stores cannot rename, so files are written in place and the manifest completes the snapshot. A killed
    writer leaves a folder without a manifest or with a temporary name. Nobody reads it, and the next writer
    of the same snapshot or housekeeping removes it. The caller keeps other writers of the same snapshot out.
    """
    final = parent.child(name)
    folder = parent.child(f"{_UNFINISHED_PREFIX}{name}-{uuid4().hex[:8]}") if parent.is_local else final
    for left_over in parent.folders():
        if left_over.startswith(f"{_UNFINISHED_PREFIX}{name}-"):
            parent.child(left_over).remove()
    if parent.exists(name):
        final.remove()
    folder.fs.makedirs(folder.path, exist_ok=True)
    try:
        yield folder
    except BaseException:
        folder.remove()
        raise
    if parent.is_local:
        os.rename(folder.path, final.path)  # noqa: PTH104 -- fails if there is one already
        _sync_names(parent.path)


def write_once(engine: sa.Engine, parent: Folder, name: str, write: Callable[[Folder], Manifest]) -> Folder:
    """Write the snapshot `parent/name` unless it exists, and return its folder.

    A second attempt of the same run waits for the first and finds its snapshot. Otherwise it would remove
    what the first has written so far, and the first would complete a snapshot without these files.

    Parameters
    ----------
    write
        Writes the files into an empty folder and returns the manifest.

    Raises
    ------
    ServiceUnavailableError
        The connection that keeps other attempts out broke: another one may write by now.
    """
    folder = parent.child(name)
    with hold_lock(engine, f"snapshot {folder.uri}") as connection:
        if not folder.exists(MANIFEST_NAME):
            with new_folder(parent, name) as unfinished:
                manifest = write(unfinished)
                confirm_lock(connection)
                unfinished.write_manifest(manifest)
    return folder


def _sync_names(path: str) -> None:
    """Make the names in a local folder survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_unfinished(name: str) -> bool:
    """Whether a writer has not finished the folder of this name."""
    return name.startswith(_UNFINISHED_PREFIX)


def _remedy(uri: str, error: Exception) -> str:
    protocol = uri.split("://", 1)[0]
    if protocol in _EXTRAS:
        return (
            f"the client for {protocol}:// is not installed ({error}); install the extra with "
            f"`pip install --constraint constraints.txt '.[{_EXTRAS[protocol]}]'`, in images with "
            f"OBJECT_STORE={_EXTRAS[protocol]}"
        )
    return f"{error}; RECSYS_SNAPSHOT_ROOT is a path or an fsspec URL such as s3://bucket/snapshots"
