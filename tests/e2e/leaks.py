"""Find what people said, who they are and secrets in whatever a stack leaves: files, databases, output.

Every user id, event id and comment of the stack's world contains a mark that occurs nowhere else.
"""

import gzip
import io
import os
import subprocess
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pyarrow.parquet as pq

from recsys.local.postgres import postgres_binary
from recsys.warehouse.analytics import SCHEMA

PERSON, COMMENT = "reader-kx2zq7f", "marmalade-kx2zq7f"
"""The marks of ids and of comments."""

MAY_HOLD: dict[str, tuple[str, ...]] = {
    "secrets.json": ("secret",),
    "recsys.env": ("secret",),
    "airflow/passwords.json": ("secret",),
    "mlflow/basic_auth.ini": ("secret",),
    # What was loaded, and what of it was rejected: docs/files.md.
    "demo-data/*": ("person", "comment"),
    "*.rejected.jsonl": ("person", "comment"),
    # A model reads comments beside keyed hashes.
    "snapshots/*": ("comment",),
}
"""Files of the home folder that hold such a thing because that is what they are for; they are private."""

_POSTGRES_FILES = "postgres/*"
"""The databases themselves, which are read through the server."""

TABLES_OF_PEOPLE = (
    *("users", "feedback", "impressions", "quarantine", "erasure_requests"),
    *("recommendation_lists", "user_vectors", "noisy_feedback", "quarantined_impressions"),
    *("feedback_by_user", "changed_feedback"),
)
"""Tables of the warehouse that hold ids or comments because that is what they are for."""


@dataclass(frozen=True)
class Leak:
    """What was found, and where."""

    kind: str
    place: str
    around: str


def find_leaks(places: Iterable[tuple[str, bytes]], words: Mapping[str, Iterable[str]]) -> list[Leak]:
    """Return the first occurrence in each place of each kind of word that the place may not hold.

    Parameters
    ----------
    places
        Names and contents.
    words
        What must not be found, by kind: `person`, `comment`, `secret`.
    """
    wanted = [(kind, word.encode().lower()) for kind, known in words.items() for word in known]
    leaks: dict[tuple[str, str], Leak] = {}
    for name, content in places:
        allowed = {kind for path, kinds in MAY_HOLD.items() if fnmatch(name, path) for kind in kinds}
        lowered = content.lower()
        for kind, word in wanted:
            if kind in allowed or (kind, name) in leaks or (at := lowered.find(word)) < 0:
                continue
            leaks[kind, name] = Leak(kind, name, repr(content[max(at - 200, 0) : at + 120]))
    return list(leaks.values())


def files(home: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file of the home folder, and what is packed in it, by relative path."""
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home).as_posix()
        if path.is_file() and not fnmatch(name, _POSTGRES_FILES):
            yield from _unpacked(name, path.read_bytes())


def _unpacked(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    yield name, content
    if name.endswith(".parquet"):
        yield name, str(pq.read_table(io.BytesIO(content)).to_pydict()).encode()
    elif content.startswith(b"\x1f\x8b"):
        yield from _unpacked(name.removesuffix(".gz"), gzip.decompress(content))
    elif zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield from _unpacked(f"{name}/{member}", archive.read(member))


def databases(url: str) -> Iterator[tuple[str, bytes]]:
    """Yield what Airflow and MLflow keep, and the tables and views of the warehouse that name nobody.

    Parameters
    ----------
    url
        URL of the server in libpq's form, with `{database}` for the database.
    """
    hidden = [f"--exclude-table-data=*.{table}" for table in TABLES_OF_PEOPLE]
    # Monthly partitions of feedback.
    hidden.append("--exclude-table-data=partitions.*")
    for database, options in (("airflow", []), ("mlflow", []), ("recsys", hidden)):
        yield f"database {database}", _run("pg_dump", url.format(database=database), *options)
    views = _run("psql", url.format(database="recsys"), "-Atc", _VIEWS).decode().split()
    assert views
    for view in views:
        yield f"view {view}", _run("psql", url.format(database="recsys"), "-Atc", f"TABLE {view}")


_VIEWS = f"""
SELECT oid::regclass FROM pg_class WHERE relnamespace = '{SCHEMA}'::regnamespace AND relkind IN ('v', 'm')
"""


def _run(program: str, url: str, *words: str) -> bytes:
    done = subprocess.run(
        [postgres_binary(program), "-d", url, *words], env=os.environ, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
