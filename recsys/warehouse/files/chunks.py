"""Chunks of columns that a file is read in, with the location of each row in the file.

A chunk has a few MiB, whatever the size of the file.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa


@dataclass(frozen=True)
class BadLine:
    """A line that is not a valid row, with the reason."""

    line: int
    reason: str
    text: str


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a file."""

    columns: Mapping[str, pa.Array]
    """Columns `[rows]`: text as bytes, null where the file has no value. Parquet columns may be typed."""
    rows: int
    locate: Callable[[int], tuple[int, str]]
    """Line number (Parquet: row number) and text of a row of this chunk."""
    bad: list[BadLine] = field(default_factory=list)


@dataclass
class Source:
    """An open file: the names of its columns, and its chunks."""

    columns: list[str]
    chunks: Iterator[Chunk]
    size: int
    """Size of the file in bytes, or the rows of a Parquet file."""
    position: Callable[[], int]
    """Returns how much has been read, in the unit of `size`."""


def columns_of(table: pa.Table) -> dict[str, pa.Array]:
    """Return a table's columns, each as one contiguous array."""
    return {name: table[name].combine_chunks() for name in table.column_names}
