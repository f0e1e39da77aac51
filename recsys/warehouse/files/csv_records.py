"""Split a CSV block into records one by one, for blocks that Arrow cannot parse."""

import csv
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_MAX_RECORD_LINES = 100_000
_MAX_RECORD_CHARACTERS = 16 << 20

Place = tuple[int, str]
"""Offset in lines of a record in its block, and the record's text."""


class Record(NamedTuple):
    """A record of a CSV block.

    Attributes
    ----------
    fields
        None if a quote is not closed or is in the wrong place.
    lines
        Number of its lines.
    open_at_end
        Whether a quote is open where the lines end, so that the next block may close it.
    """

    fields: list[str] | None
    lines: int
    open_at_end: bool


def parse_record(text: str, delimiter: str) -> list[str] | None:
    """Return the fields of one record; None if a quote is not closed or is in the wrong place."""
    csv.field_size_limit(1 << 30)
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return None


def split_records(
    block: bytes, width: int, delimiter: str
) -> tuple[list[list[bytes]], list[Place], list[tuple[int, str, str]]]:
    """Split a block into records of `width` fields.

    If no following line closes an opening quote, only its own line is bad, and parsing continues with the
    next line.

    Returns
    -------
    tuple
        Records as bytes; the place of each record; and the offset, the reason and the text of each bad line.
    """
    lines = split_lines(block)
    good: list[list[bytes]] = []
    places: list[Place] = []
    bad: list[tuple[int, str, str]] = []
    index = 0
    while index < len(lines):
        line = lines[index].removesuffix("\r")
        if not line:
            index += 1
            continue
        fields, used, _ = record_at(lines, index, len(lines), delimiter)
        if fields is not None and len(fields) == width:
            good.append([value.encode("utf-8", "surrogateescape") for value in fields])
            places.append((index, printable("\n".join(lines[index : index + used]).removesuffix("\r"))))
            index += used
            continue
        fields = parse_record(line, delimiter)
        reason = (
            _not_a_record(line) if fields is None else f"has {len(fields)} fields, but the header has {width}"
        )
        bad.append((index, reason, printable(line)))
        index += 1
    return good, places, bad


def _not_a_record(line: str) -> str:
    if '\\"' in line:
        return 'a quote is escaped with a backslash; CSV doubles it: ""'
    if '"' not in line or parse_record(line.replace("\r", ""), ",") is not None:
        return "a carriage return is inside a field without quotes"
    return "a quote is not closed"


def split_lines(block: bytes) -> list[str]:
    """Return the lines of a block, which may end with CR.

    Invalid UTF-8 becomes lone surrogates, which the value checks report.
    """
    lines = block.decode("utf-8", "surrogateescape").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return lines


def record_at(lines: Sequence[str], index: int, end: int, delimiter: str) -> Record:
    """Read the record that starts at a line and ends before the line `end`."""
    csv.field_size_limit(1 << 30)
    used = characters = 0
    exhausted = False

    def following() -> Iterator[str]:
        nonlocal used, characters, exhausted
        while index + used < min(end, index + _MAX_RECORD_LINES) and characters <= _MAX_RECORD_CHARACTERS:
            line = lines[index + used]
            used += 1
            characters += len(line)
            yield f"{line}\n"
        exhausted = True

    try:
        return Record(next(csv.reader(following(), delimiter=delimiter, strict=True), []), used, False)
    except csv.Error:
        return Record(None, 1, exhausted and index + used == end)


def printable(text: str) -> str:
    """Return text that can be written, with invalid UTF-8 as escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
