"""Read JSON Lines files. Arrow parses blocks of plain columns; other blocks are parsed line by line."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from recsys.errors import IngestError
from recsys.warehouse.files.chunks import BadLine, Chunk, Source, columns_of
from recsys.warehouse.files.line_file import LineFile
from recsys.warehouse.files.values import json_text, text_as_bytes

_SAMPLE_LINES = 100


def open_jsonl(path: Path, compressed: bool, known: frozenset[str], number_columns: frozenset[str]) -> Source:
    """Open a JSON Lines file; raise IngestError if it is one JSON array or indented."""
    sample = LineFile(path, compressed)
    head = sample.head(_SAMPLE_LINES)
    if head[0].lstrip().startswith(b"["):
        raise IngestError(f"{path} is one JSON array; write one JSON object on each line instead")
    if head[0].strip() == b"{":
        raise IngestError(
            f"{path} has JSON objects over several lines; write each object on one line instead"
        )
    found: dict[str, type] = {}
    for line in head:
        try:
            found |= {name: type(value) for name, value in json.loads(line).items() if value is not None}
        except (ValueError, AttributeError, RecursionError):
            continue
    lines = LineFile(path, compressed)
    # Arrow reads a JSON column only if all its values have one plain type.
    plain = all(
        kind is str or (kind in (int, float) and name in number_columns)
        for name, kind in found.items()
        if name in known
    )
    schema = pa.schema(
        [(name, pa.string() if found.get(name, str) is str else pa.float64()) for name in known]
    )

    def chunks() -> Iterator[Chunk]:
        for first_line, block in lines.blocks(1):
            yield _jsonl_chunk(first_line, block, known, number_columns, schema if plain else None)
        yield from lines.lines_skipped()

    return Source(list(found), chunks(), lines.size, lines.position)


def _jsonl_chunk(
    first_line: int, block: bytes, known: frozenset[str], numbers: frozenset[str], schema: pa.Schema | None
) -> Chunk:
    if first_line == 1:
        block = block.removeprefix(b"\xef\xbb\xbf")
    lines = block.split(b"\n")[:-1]

    def place(index: int) -> tuple[int, str]:
        return first_line + index, lines[index].decode("utf-8", "backslashreplace").removesuffix("\r")

    if schema is not None and _is_utf8(block) and _has_an_object_on_each_line(block):
        try:
            table = pa.json.read_json(
                pa.BufferReader(block),
                pa.json.ReadOptions(use_threads=False, block_size=len(block) + 1),
                pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
            )
        except pa.ArrowInvalid:
            pass
        else:
            if table.num_rows == len(lines):
                columns = {name: text_as_bytes(column) for name, column in columns_of(table).items()}
                return Chunk(columns, table.num_rows, place)
    rows: list[dict[str, bytes | None]] = []
    places: list[int] = []
    bad: list[BadLine] = []
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        row = _json_row(line, known, numbers)
        if isinstance(row, str):
            number, text = place(index)
            bad.append(BadLine(number, row, text))
        else:
            rows.append(row)
            places.append(index)
    columns = {name: pa.array([row.get(name) for row in rows], pa.binary()) for name in known}
    return Chunk(columns, len(rows), lambda row: place(places[row]), bad)


def _is_utf8(block: bytes) -> bool:
    """Whether a block is text; Arrow does not look at values that are not read."""
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _has_an_object_on_each_line(block: bytes) -> bool:
    """Whether each line begins and ends an object.

    Arrow also reads two objects on one line, or one on two. The line numbers of rows would be wrong.
    """
    content = np.frombuffer(block.replace(b"\r\n", b"\n") if b"\r" in block else block, np.uint8)
    ends = np.flatnonzero(content == ord("\n"))
    first = np.concatenate([content[:1], content[ends[:-1] + 1]])
    return bool((first == ord("{")).all() and (content[ends - 1] == ord("}")).all())


def _json_row(line: bytes, known: frozenset[str], numbers: frozenset[str]) -> dict[str, bytes | None] | str:
    """Return the line's known values as text, or the reason why it is not a row."""
    try:
        row = json.loads(line.decode())  # from bytes, json would read halves of surrogate pairs
    except UnicodeDecodeError:
        return "not valid UTF-8"
    except RecursionError:
        return "nested too deep"
    except ValueError as error:
        if not isinstance(error, json.JSONDecodeError):
            return f"a number has more than {sys.get_int_max_str_digits()} digits"
        if line.lstrip().startswith(b"{'"):
            return "not JSON but a Python literal; JSON has double quotes, as json.dumps writes it"
        return f"not valid JSON: {error}"
    if not isinstance(row, dict):
        return f"not a JSON object but {type(row).__name__}"
    try:
        return {name: json_text(_given(name, value, numbers)) for name, value in row.items() if name in known}
    except UnicodeEncodeError:
        return "not valid Unicode: half of a surrogate pair"
    except RecursionError:
        return "nested too deep"
    except ValueError as error:
        return f"not valid: {error}"


def _given(name: str, value: Any, numbers: frozenset[str]) -> Any:
    """Return None for NaN, with which Python writes an empty cell; as a number it is wrong."""
    return None if isinstance(value, float) and value != value and name not in numbers else value
