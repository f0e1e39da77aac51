"""Which records a file has, stated from docs/files.md without the product's reader.

Python's csv module reads CSV with the declared dialect, its json module reads JSON Lines, and pyarrow's
Python values are what a Parquet file says.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.fuzz.oracle_values import Refused, plain

_DELIMITERS = (",", ";", "\t", "|")


@dataclass
class Reading:
    """What a file says.

    Attributes
    ----------
    refused
        Why the whole file must be refused; None if it is read.
    records
        Line and values by column of every record.
    rejected
        Lines that are no record, with the reason.
    """

    refused: str | None = None
    records: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    rejected: dict[int, str] = field(default_factory=dict)


class Unreadable(Exception):  # noqa: N818 - a value for the oracle, not an error
    """A value of a Parquet file that Python cannot represent."""


def read(name: str, content: bytes, known: frozenset[str], required: tuple[str, ...]) -> Reading:
    """Return what a file says; `known` are the columns of its table."""
    suffixes = name.lower().split(".")[1:]
    if not content:
        return Reading(refused="empty")
    if suffixes[-1] == "parquet":
        return _parquet(content, known, required)
    if content.startswith((b"PK\x03\x04", b"PAR1")):
        return Reading(refused="another container")
    if suffixes[-1] == "gz" or content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            return Reading(refused="damaged gzip")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:4]:
        return Reading(refused="UTF-16")
    content = content.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in content.partition(b"\n")[0].removesuffix(b"\r"):
        return Reading(refused="CR alone")
    if suffixes[0] == "jsonl":
        return _jsonl(content, known, required)
    return _delimited(content, "\t" if suffixes[0] == "tsv" else ",", known, required)


def _delimited(content: bytes, delimiter: str, known: frozenset[str], required: tuple[str, ...]) -> Reading:
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    head = lines[0].removesuffix("\r")
    if not known.intersection(_names(head, delimiter)):
        delimiter = max(_DELIMITERS, key=lambda each: len(known.intersection(_names(head, each))))
    names = _names(head, delimiter)
    if len(set(names)) < len(names):
        return Reading(refused="a column occurs twice")
    if not set(required) <= set(names):
        return Reading(refused="a column is missing")
    quoted_head = all(len(name) > 1 and name[0] == name[-1] == '"' for name in head.split("\t"))
    split = _tsv_records if delimiter == "\t" and not quoted_head else _csv_records
    reading = Reading()
    for line, fields in split(lines, len(names), delimiter):
        if fields is None:
            reading.rejected[line] = "not a record"
        else:
            raw = [value.encode("utf-8", "surrogateescape") or None for value in fields]
            reading.records.append((line, {n: v for n, v in zip(names, raw, strict=True) if n in known}))
    return reading


def _names(head: str, delimiter: str) -> list[str]:
    fields = _record([head], delimiter)
    return [name.strip().lower() for name in (fields[0] if fields else head.split(delimiter))]


def _record(lines: list[str], delimiter: str) -> tuple[list[str], int] | None:
    """Return the first record by the csv module and its number of lines; None if it is not well formed."""
    csv.field_size_limit(1 << 30)
    count = 0

    def counted() -> Iterator[str]:
        nonlocal count
        for number, line in enumerate(lines):
            count += 1
            yield line + ("\n" if number + 1 < len(lines) else "")

    try:
        return next(csv.reader(counted(), delimiter=delimiter, strict=True), []), count
    except csv.Error:
        return None


def _csv_records(lines: list[str], width: int, delimiter: str) -> Iterator[tuple[int, list[str] | None]]:
    at = 1
    while at < len(lines):
        if lines[at].strip("\r"):
            record = _record(lines[at:], delimiter)
            if record is not None and len(record[0]) == width:
                yield at + 1, record[0]
                at += record[1]
                continue
            yield at + 1, None
        at += 1


def _tsv_records(lines: list[str], width: int, delimiter: str) -> Iterator[tuple[int, list[str] | None]]:
    at = 1
    while at < len(lines):
        line = lines[at].removesuffix("\r")
        fields = line.split(delimiter)
        if not line:
            at += 1
            continue
        whole = len(fields) == width
        if not whole or (fields[-1].startswith('"') and line.count('"') % 2):
            # The record may go on, up to the next line that is a record of its own.
            end = at + 1
            while end < len(lines) and lines[end].count(delimiter) + 1 != width:
                end += 1
            record = _record(lines[at:end], delimiter) if '"' in line else None
            if record is not None and len(record[0]) == width:
                yield at + 1, record[0]
                at += record[1]
                continue
        yield at + 1, [_unquoted(value) for value in fields] if whole else None
        at += 1


def _unquoted(value: str) -> str:
    inside = value[1:-1]
    if len(value) < 2 or value[0] != '"' or value[-1] != '"' or '"' in inside.replace('""', ""):
        return value
    return inside.replace('""', '"') if '""' in inside or not inside else value


def _jsonl(content: bytes, known: frozenset[str], required: tuple[str, ...]) -> Reading:
    lines = content.split(b"\n")
    if lines[0].lstrip().startswith(b"["):
        return Reading(refused="a JSON array")
    if lines[0].strip() == b"{":
        return Reading(refused="indented JSON")
    reading = Reading()
    names: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
            if not isinstance(row, dict):
                raise Refused("not an object")
            names |= {name for name, value in row.items() if value is not None} if number <= 100 else set()
            reading.records.append((number, {name: value for name, value in row.items() if name in known}))
        except (ValueError, RecursionError, Refused) as error:
            reading.rejected[number] = str(error)
    if not set(required) <= names:
        return Reading(refused="a column is missing")
    return reading


def _parquet(content: bytes, known: frozenset[str], required: tuple[str, ...]) -> Reading:
    try:
        names = pq.read_schema(io.BytesIO(content)).names
        # Damage in a column that is not read does not matter.
        table = pq.read_table(
            io.BytesIO(content), columns=[name for name in names if name in known], use_threads=False
        )
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError):
        return Reading(refused="not Parquet")
    if len(set(names)) < len(names):
        return Reading(refused="a column occurs twice")
    if not set(required) <= set(table.column_names):
        return Reading(refused="a column is missing")
    reading = Reading()
    columns = {name: _python(table[name]) for name in table.column_names if name in known}
    for row in range(table.num_rows):
        reading.records.append((row + 1, {name: values[row] for name, values in columns.items()}))
    return reading


def _python(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        # Python cannot show the last hours of the year 9999 in a zone east of Greenwich.
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    values: list[Any] = []
    for scalar in column:
        try:
            value = scalar.as_py()
        except (ValueError, OverflowError):
            value = Unreadable()
        if pa.types.is_map(column.type) and value is not None and not isinstance(value, Unreadable):
            value = dict(value)
        if isinstance(value, dict | list):
            try:
                value = plain(value)
            except (Refused, RecursionError):
                value = Unreadable()
        values.append(value)
    return values
