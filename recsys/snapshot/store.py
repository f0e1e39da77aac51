"""Folders of snapshots on any fsspec file system, and how one becomes visible whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pyarrow as pa

from recsys.errors import ConfigurationError
from recsys.snapshot.manifest import MANIFEST_NAME, FileEntry, Manifest

_UNFINISHED_PREFIX = ".unfinished-"
# Extras of this package that bring the client of an object store, by the protocol in its URL.
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
        When the client of the URL's object store is not installed, or nobody knows its protocol.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        try:
            self.fs, self.path = fsspec.core.url_to_fs(self.uri)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(
                f"no snapshots can be kept at {self.uri}: {_remedy(uri, error)}"
            ) from error

    @property
    def is_local(self) -> bool:
        """Whether the folder lies on a mounted disk, where a rename is atomic."""
        protocol = self.fs.protocol
        return "file" in (protocol if isinstance(protocol, tuple) else (protocol,))

    def child(self, name: str) -> "Folder":
        """Return a folder inside this one."""
        return Folder(f"{self.uri}/{name}")

    def exists(self, name: str) -> bool:
        """Whether a file or folder of this name is there now."""
        self.fs.invalidate_cache()
        return bool(self.fs.exists(f"{self.path}/{name}"))

    def folders(self) -> list[str]:
        """Return the names of the folders directly in this one, sorted; none when it is missing."""
        self.fs.invalidate_cache()
        if not self.fs.isdir(self.path):
            return []
        entries = self.fs.ls(self.path, detail=True)
        return sorted(
            entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry["type"] == "directory"
        )

    def read_manifest(self) -> Manifest:
        """Return the manifest; raise FileNotFoundError when the folder has none."""
        return Manifest.from_json(self.fs.cat_file(f"{self.path}/{MANIFEST_NAME}").decode(), self.uri)

    def write_manifest(self, manifest: Manifest) -> None:
        """Write or replace the manifest, whole or not at all."""
        target = f"{self.path}/{MANIFEST_NAME}"
        content = manifest.to_json().encode()
        if self.is_local:
            unfinished = Path(self.path) / f"{_UNFINISHED_PREFIX}{uuid4().hex}"
            unfinished.write_bytes(content)
            unfinished.replace(target)
        else:  # object stores show an object only when it is complete
            self.fs.pipe_file(target, content)

    def remove(self) -> None:
        """Delete the folder with everything in it; its manifest first, so that nobody reads half of it."""
        self.fs.invalidate_cache()
        if self.fs.exists(f"{self.path}/{MANIFEST_NAME}"):
            self.fs.rm_file(f"{self.path}/{MANIFEST_NAME}")
        if self.fs.exists(self.path):
            self.fs.rm(self.path, recursive=True)

    @contextmanager
    def writing(self, name: str) -> Iterator["HashingFile"]:
        """Open a file of this folder for writing; its entry for the manifest is ready at the end."""
        path = f"{self.path}/{name}"
        self.fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        with self.fs.open(path, "wb") as stream:
            file = HashingFile(name, stream)
            yield file


class HashingFile:
    """A file that computes the digest of what is written through it."""

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
        """Return the number of bytes written."""
        return self._bytes

    def flush(self) -> None:
        """Do nothing: the stream is flushed when it is closed."""

    def close(self) -> None:
        """Take no more bytes."""
        self.closed = True

    def arrow(self) -> pa.NativeFile:
        """Return the file as pyarrow's writers want it."""
        return pa.PythonFile(self, mode="w")

    @property
    def entry(self) -> FileEntry:
        """What the manifest says about the file."""
        return FileEntry(self._name, self._bytes, self._digest.hexdigest())


@contextmanager
def new_folder(parent: Folder, name: str) -> Iterator[Folder]:
    """Yield an empty folder that becomes `parent/name` at the end, once its manifest is written.

    On a disk the folder is filled under another name and renamed, which is atomic. Object stores have
    no rename: there the files lie in place, and the manifest, written last, is what completes them.
    A killed writer leaves a folder without manifest or an unfinished one, which nobody reads; the
    next writer of the same snapshot and housekeeping remove them.
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
        os.rename(folder.path, final.path)  # noqa: PTH104 -- fails when another writer was faster


def is_unfinished(name: str) -> bool:
    """Whether a folder of this name was left by a writer that did not end."""
    return name.startswith(_UNFINISHED_PREFIX)


def _remedy(uri: str, error: Exception) -> str:
    protocol = uri.split("://", 1)[0]
    if protocol in _EXTRAS:
        return (
            f"the client for {protocol}:// is not installed ({error}); install the extra with "
            f"`pip install --constraint constraints.txt '.[{_EXTRAS[protocol]}]'`, in the images by "
            f"OBJECT_STORE={_EXTRAS[protocol]}"
        )
    return f"{error}; RECSYS_SNAPSHOT_ROOT takes a path or a URL of fsspec such as s3://bucket/snapshots"
