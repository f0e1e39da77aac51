"""What a file is read as: chunks of columns, with the place of every row.

A chunk is a few MiB, whatever the size of the file.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa


@dataclass(frozen=True)
class BadLine:
    """A line that cannot be a row, and why."""

    line: int
    reason: str
    text: str


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a file."""

    columns: Mapping[str, pa.Array]
    """Text as bytes, null where nothing is given; Parquet also gives typed columns."""
    rows: int
    locate: Callable[[int], tuple[int, str]]
    """Line number (Parquet: row number) and text of a row of this chunk."""
    bad: list[BadLine] = field(default_factory=list)


@dataclass
class Source:
    """An opened file: which columns it has, and its chunks."""

    columns: list[str]
    chunks: Iterator[Chunk]
    size: int
    """Bytes, or rows of a Parquet file."""
    position: Callable[[], int]
    """How far reading has come, in units of `size`."""


def columns_of(table: pa.Table) -> dict[str, pa.Array]:
    """Return a table's columns, each in one piece."""
    return {name: table[name].combine_chunks() for name in table.column_names}
