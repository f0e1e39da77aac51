"""Reads CSV, JSONL and Parquet files in chunks of columns, with the place of every row.

A chunk is a few MiB, whatever the size of the file. Arrow splits it into columns; only a chunk that
Arrow refuses is split row by row, so that one broken line costs one line.
"""

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from recsys.errors import IngestError
from recsys.warehouse.csv_records import parse_record, split_records

BLOCK_BYTES = 8 << 20
MAX_LINE_BYTES = 64 << 20
_MAX_QUOTED_BYTES = 16 << 20
_PARQUET_ROWS = 65_536
_SAMPLE_LINES = 100


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


def open_source(path: Path, known: frozenset[str], number_columns: frozenset[str]) -> Source:
    """Open a file by its suffix: .csv, .tsv, .jsonl, .ndjson (each also with .gz), .parquet.

    Parameters
    ----------
    known
        Columns to read; others are listed in `Source.columns` only.
    number_columns
        Columns that JSON may give as numbers.

    Raises
    ------
    IngestError
        The file is missing, of an unknown kind, empty, or not what its suffix says.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = bool(suffixes) and suffixes[-1] == ".gz"
    kind = suffixes[-1 - compressed] if len(suffixes) > compressed else ""
    if not path.is_file():
        raise IngestError(f"{path} is not a file; give the path of a CSV, JSONL or Parquet file")
    if path.stat().st_size == 0:
        raise IngestError(f"{path} is empty: there is not even a header")
    if kind in (".csv", ".tsv"):
        return _open_csv(path, compressed, known, "\t" if kind == ".tsv" else ",")
    if kind in (".jsonl", ".ndjson"):
        return _open_jsonl(path, compressed, known, number_columns)
    if kind in (".parquet", ".pq") and not compressed:
        return _open_parquet(path, known)
    raise IngestError(
        f"{path} has no suffix that tells its format; name it .csv, .tsv, .jsonl or .ndjson "
        "(.gz may follow), or .parquet"
    )


class _Lines:
    """Blocks of whole lines of a file that may be compressed."""

    def __init__(self, path: Path, compressed: bool) -> None:
        self.path = path
        self.size = path.stat().st_size
        self._raw = path.open("rb")
        self._stream = cast("IO[bytes]", gzip.GzipFile(fileobj=self._raw) if compressed else self._raw)
        self._rest = b""

    def position(self) -> int:
        return self.size if self._raw.closed else self._raw.tell()

    def first_line(self) -> bytes:
        """Take the first line, without its end and without a byte order mark."""
        while b"\n" not in self._rest and len(self._rest) <= MAX_LINE_BYTES:
            more = self._read()
            if not more:
                break
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\r")

    def blocks(self, first_line: int, quoted: bool) -> Iterator[tuple[int, bytes]]:
        """Yield line number and bytes of blocks that end with a line feed.

        With `quoted`, a block is not cut inside a quoted field (up to 16 MiB of it: a quote that is
        never closed must not swallow the file).
        """
        line = first_line
        rest, self._rest = self._rest, b""
        with self._raw:
            while more := self._read():
                rest += more
                cut = rest.rfind(b"\n") + 1
                if quoted and rest.count(b'"', 0, cut) % 2:
                    before_quote = rest.rfind(b"\n", 0, rest.rfind(b'"', 0, cut)) + 1
                    if cut - before_quote <= _MAX_QUOTED_BYTES:
                        cut = before_quote
                if cut:
                    block, rest = rest[:cut], rest[cut:]
                    yield line, block
                    line += block.count(b"\n")
                elif len(rest) > MAX_LINE_BYTES:
                    raise IngestError(f"{self.path}: line {line} is longer than {MAX_LINE_BYTES >> 20} MiB")
        if rest:
            yield line, rest + b"\n"

    def _read(self) -> bytes:
        try:
            return self._stream.read(BLOCK_BYTES)
        except (OSError, EOFError) as error:
            raise IngestError(f"{self.path} cannot be read to its end: {error}") from error


def _open_csv(path: Path, compressed: bool, known: frozenset[str], delimiter: str) -> Source:
    lines = _Lines(path, compressed)
    header = parse_record(lines.first_line().decode("utf-8", "replace"), delimiter) or []
    names = [name.strip().lower() for name in header]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise IngestError(f"{path}: the header names {', '.join(map(repr, twice))} more than once")
    wanted = [name for name in names if name in known]

    def chunks() -> Iterator[Chunk]:
        for first_line, block in lines.blocks(2, quoted=True):
            yield _csv_chunk(first_line, block, names, wanted, delimiter)

    return Source(names, chunks(), lines.size, lines.position)


def _csv_chunk(first_line: int, block: bytes, names: list[str], wanted: list[str], delimiter: str) -> Chunk:
    @cache
    def records() -> tuple[list[list[bytes]], list[tuple[int, str]], list[BadLine]]:
        good, places, bad = split_records(block, len(names), delimiter)
        return (
            good,
            [(first_line + line, text) for line, text in places],
            [BadLine(first_line + line, reason, text) for line, reason, text in bad],
        )

    malformed = False

    def refuse(_: object) -> str:
        nonlocal malformed
        malformed = True
        return "skip"

    if wanted:
        try:
            table = pa.csv.read_csv(
                pa.BufferReader(block),
                pa.csv.ReadOptions(use_threads=False, column_names=names, block_size=len(block)),
                pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=refuse),
                pa.csv.ConvertOptions(
                    check_utf8=False,
                    column_types=dict.fromkeys(names, pa.binary()),
                    include_columns=wanted,
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
        except pa.ArrowInvalid:
            malformed = True
        if not malformed:
            return Chunk(_contiguous(table), table.num_rows, lambda row: records()[1][row])
    good, places, bad = records()
    columns = {
        name: pa.array([record[names.index(name)] or None for record in good], pa.binary()) for name in wanted
    }
    return Chunk(columns, len(good), lambda row: places[row], bad)


def _open_jsonl(
    path: Path, compressed: bool, known: frozenset[str], number_columns: frozenset[str]
) -> Source:
    sample = _Lines(path, compressed)
    with sample._raw:
        start = sample.first_line()
        head = [start, *sample._rest.split(b"\n")[: _SAMPLE_LINES - 1]]
    if start.lstrip().startswith(b"["):
        raise IngestError(f"{path} is one JSON array; write one JSON object a line instead")
    found: dict[str, type] = {}
    for line in head:
        try:
            found |= {name: type(value) for name, value in json.loads(line).items() if value is not None}
        except (ValueError, AttributeError, RecursionError):
            continue
    lines = _Lines(path, compressed)
    # Arrow reads JSON only into columns of one plain type; other files go row by row.
    plain = all(
        kind is str or (kind in (int, float) and name in number_columns)
        for name, kind in found.items()
        if name in known
    )
    schema = pa.schema(
        [(name, pa.string() if found.get(name, str) is str else pa.float64()) for name in known]
    )

    def chunks() -> Iterator[Chunk]:
        for first_line, block in lines.blocks(1, quoted=False):
            yield _jsonl_chunk(first_line, block, known, schema if plain else None)

    return Source(list(found), chunks(), lines.size, lines.position)


def _jsonl_chunk(first_line: int, block: bytes, known: frozenset[str], schema: pa.Schema | None) -> Chunk:
    if first_line == 1:
        block = block.removeprefix(b"\xef\xbb\xbf")
    lines = block.split(b"\n")[:-1]

    def place(index: int) -> tuple[int, str]:
        return first_line + index, lines[index].decode("utf-8", "backslashreplace").removesuffix("\r")

    if schema is not None:
        try:
            table = pa.json.read_json(
                pa.BufferReader(block),
                pa.json.ReadOptions(use_threads=False, block_size=len(block) + 1),
                pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
            )
        except pa.ArrowInvalid:
            pass
        else:
            # Fewer rows than lines: some are blank, and rows can no longer be told apart by number.
            if table.num_rows == len(lines):
                columns = {name: _plain(column) for name, column in _contiguous(table).items()}
                return Chunk(columns, table.num_rows, place)
    rows: list[dict[str, bytes | None]] = []
    places: list[int] = []
    bad: list[BadLine] = []
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        row = _json_row(line, known)
        if isinstance(row, str):
            number, text = place(index)
            bad.append(BadLine(number, row, text))
        else:
            rows.append(row)
            places.append(index)
    columns = {name: pa.array([row.get(name) for row in rows], pa.binary()) for name in known}
    return Chunk(columns, len(rows), lambda row: place(places[row]), bad)


def _json_row(line: bytes, known: frozenset[str]) -> dict[str, bytes | None] | str:
    """Return a line's known values as text, or why it is not a row."""
    try:
        row = json.loads(line)
    except UnicodeDecodeError:
        return "not valid UTF-8"
    except (ValueError, RecursionError) as error:
        return f"not valid JSON: {error}"
    if not isinstance(row, dict):
        return f"not a JSON object but {type(row).__name__}"
    try:
        return {name: _json_text(value) for name, value in row.items() if name in known}
    except UnicodeEncodeError:
        return "not valid Unicode: half of a surrogate pair"


def _json_text(value: Any) -> bytes | None:
    if value is None or value == "":
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode()


def _open_parquet(path: Path, known: frozenset[str]) -> Source:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise IngestError(f"{path} is not a Parquet file: {error}") from error
    names = list(file.schema_arrow.names)
    done = 0

    def chunks() -> Iterator[Chunk]:
        nonlocal done
        try:
            for batch in file.iter_batches(_PARQUET_ROWS, columns=[name for name in names if name in known]):
                first_row = done + 1
                done += batch.num_rows
                yield _parquet_chunk(first_row, batch)
        except (pa.ArrowInvalid, OSError) as error:
            raise IngestError(f"{path} cannot be read to its end: {error}") from error
        finally:
            file.close()

    return Source(names, chunks(), file.metadata.num_rows, lambda: done)


def _parquet_chunk(first_row: int, batch: pa.RecordBatch) -> Chunk:
    def place(row: int) -> tuple[int, str]:
        try:
            values = batch.slice(row, 1).to_pylist()[0]
        except (OverflowError, ValueError):
            return first_row + row, ""  # a time that Python cannot represent
        return first_row + row, json.dumps(values, ensure_ascii=False, default=str)

    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    return Chunk({name: _plain(column) for name, column in columns.items()}, batch.num_rows, place)


def _plain(column: pa.Array) -> pa.Array:
    """Return text as bytes and nested values as JSON text; leave numbers and times."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        text = column.cast(pa.string())
        return pc.if_else(pc.equal(text, ""), None, text).cast(pa.binary())
    if pa.types.is_map(kind):
        return pa.array([_json_text(value and dict(value)) for value in column.to_pylist()], pa.binary())
    if pa.types.is_nested(kind):
        return pa.array([_json_text(_without_nulls(value)) for value in column.to_pylist()], pa.binary())
    if pa.types.is_boolean(kind):
        return column.cast(pa.string()).cast(pa.binary())
    return column


def _without_nulls(value: Any) -> Any:
    # A Parquet struct has every key in every row.
    if isinstance(value, dict):
        return {name: _without_nulls(entry) for name, entry in value.items() if entry is not None}
    return value


def _contiguous(table: pa.Table) -> dict[str, pa.Array]:
    return {name: table[name].combine_chunks() for name in table.column_names}
