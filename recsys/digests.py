"""SHA-256 of files and folders."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path, PurePosixPath


def file_digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file in a folder by its path in the folder."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                content = sha256()
                while block := file.read(1 << 20):
                    content.update(block)
            found[path.relative_to(folder).as_posix()] = content.hexdigest()
    return found


def digest_of(files: Mapping[str, str]) -> str:
    """Return a sha256 over the names and digests of files."""
    whole = sha256()
    for name in sorted(files, key=PurePosixPath):
        whole.update(f"{name}\0{files[name]}\n".encode())
    return whole.hexdigest()


def folder_digest(folder: Path) -> str:
    """Return a sha256 over the names and contents of all files in a folder."""
    return digest_of(file_digests(folder))
