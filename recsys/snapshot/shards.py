"""Divide events that do not fit into memory into shards on disk, by user; each loads as `Sequences`."""

import shutil
from collections import abc
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from zlib import crc32

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import feather

from recsys.columns import Columns
from recsys.snapshot.dictionary import encode
from recsys.snapshot.interactions import SCHEMA
from recsys.snapshot.read import SEQUENCE_COLUMNS, Snapshot
from recsys.snapshot.sequences import EVENT_DTYPES, Sequences

SHARDS_FOLDER = "shards"
"""Name of the shards' folder in a run's folder."""
_UNSORTED_SCHEMA = pa.schema([SCHEMA.field(name) for name in SEQUENCE_COLUMNS])


class Shards(abc.Sequence[Sequences]):
    """Sequence of shards, each with some of the users and all their events. Indexing loads a shard.

    Parameters
    ----------
    folder
        Folder that `Shards.write` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = len(list(folder.iterdir()))

    @classmethod
    def write(cls, folder: Path, parts: Iterable[Sequences]) -> "Shards":
        """Write each part as a shard and replace the content of the folder."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for number, part in enumerate(parts):
            _save(part, folder / str(number))
        return cls(folder)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Sequences:  # type: ignore[override] # no slices
        if not 0 <= number < self._count:
            raise IndexError(number)
        return _load(self.folder / str(number))

    def rewrite(self, change: Callable[[Sequences], Sequences]) -> None:
        """Replace each shard by the result of `change`."""
        for number, part in enumerate(self):
            _save(change(part), self.folder / str(number))


def shard_folders(runs: Path) -> list[Path]:
    """Return the folders with events of running full fine-tunes and of killed ones.

    Parameters
    ----------
    runs
        `Settings.runs`.
    """
    return sorted(runs.glob(f"*/*/{SHARDS_FOLDER}*"))


def divide(snapshot: Snapshot, count: int, folder: Path, keep: Callable[[Sequences], Sequences]) -> Shards:
    """Divide a snapshot into `count` shards by a hash of the users' keys.

    One pass over the row groups distributes the events. Then each shard is sorted by itself.

    Parameters
    ----------
    folder
        On a local disk with room for about 150 bytes per event. Its content is replaced.
    keep
        Returns the events of a shard to keep.
    """
    unsorted = folder.with_name(f"{folder.name}-unsorted")
    shutil.rmtree(unsorted, ignore_errors=True)
    unsorted.mkdir(parents=True)
    files = [unsorted / str(number) for number in range(count)]
    try:
        _distribute(snapshot, files)
        return Shards.write(folder, (keep(part) for part in _sorted(snapshot, files)))
    finally:
        shutil.rmtree(unsorted, ignore_errors=True)


def _distribute(snapshot: Snapshot, files: list[Path]) -> None:
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with ExitStack() as stack:
        writers = [
            stack.enter_context(pa.ipc.new_stream(str(file), _UNSORTED_SCHEMA, options=options))
            for file in files
        ]
        for events in snapshot.row_groups(SEQUENCE_COLUMNS):
            shard = _shard_of(events.column(Columns.USER_KEY), len(files))
            ordered = events.cast(_UNSORTED_SCHEMA).take(np.argsort(shard, kind="stable"))
            ends = np.cumsum(np.bincount(shard, minlength=len(files)))
            for writer, start, end in zip(writers, [0, *ends[:-1]], ends, strict=True):
                writer.write_table(ordered.slice(start, end - start))


def _shard_of(user_keys: pa.ChunkedArray, count: int) -> NDArray[np.int64]:
    keys, codes = encode(user_keys)
    return np.fromiter((crc32(key.encode()) % count for key in keys.to_pylist()), np.int64, len(keys))[codes]


def _sorted(snapshot: Snapshot, files: list[Path]) -> Iterator[Sequences]:
    for file in files:
        with pa.OSFile(str(file)) as source:
            events = pa.ipc.open_stream(source).read_all()
        file.unlink()
        yield snapshot.sequences_of(events)


def _save(sequences: Sequences, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    tables = {
        "users": {
            "user_key": pa.array(sequences.user_keys.tolist(), pa.string()),
            "events": sequences.lengths,
        },
        "events": {name: getattr(sequences, name) for name in EVENT_DTYPES},
        "comments": {"text": sequences.comments},
    }
    for name, columns in tables.items():
        feather.write_feather(pa.table(columns), folder / name, compression="lz4")


def _load(folder: Path) -> Sequences:
    users, events, comments = (
        feather.read_table(folder / name, memory_map=False) for name in ("users", "events", "comments")
    )
    keys = np.empty(users.num_rows, dtype=object)
    keys[:] = users.column("user_key").to_pylist()
    return Sequences(
        user_keys=keys,
        offsets=np.concatenate([[0], np.cumsum(users.column("events").to_numpy(), dtype=np.int64)]),
        comments=pa.concat_arrays([pa.array([], pa.large_string()), *comments.column("text").chunks]),
        **{name: events.column(name).to_numpy() for name in EVENT_DTYPES},
    )
