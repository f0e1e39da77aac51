"""Split a CSV block into records one by one, for blocks that Arrow cannot parse."""

import csv

_MAX_RECORD_LINES = 100_000
_MAX_RECORD_CHARACTERS = 16 << 20

Place = tuple[int, str]
"""Offset in lines of a record in its block, and the record's text."""


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
    # Invalid UTF-8 is kept as lone surrogates; the value checks report it.
    lines = block.decode("utf-8", "surrogateescape").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    lines = [line.removesuffix("\r") for line in lines]
    good: list[list[bytes]] = []
    places: list[Place] = []
    bad: list[tuple[int, str, str]] = []
    index = 0
    while index < len(lines):
        if not lines[index]:
            index += 1
            continue
        text, used = _record_at(lines, index, delimiter)
        fields = parse_record(text, delimiter)
        if fields is not None and len(fields) == width:
            good.append([value.encode("utf-8", "surrogateescape") for value in fields])
            places.append((index, _printable(text)))
            index += used
            continue
        fields = parse_record(lines[index], delimiter)
        reason = (
            "a quote is not closed"
            if fields is None
            else f"has {len(fields)} fields, but the header has {width}"
        )
        bad.append((index, reason, _printable(lines[index])))
        index += 1
    return good, places, bad


def _record_at(lines: list[str], index: int, delimiter: str) -> tuple[str, int]:
    """Return the record that starts at a line, and its number of lines."""
    text = lines[index]
    quotes, characters = text.count('"'), len(text)
    if quotes % 2 == 0 or parse_record(text, delimiter) is not None:
        return text, 1
    for end in range(index + 1, min(index + _MAX_RECORD_LINES, len(lines))):
        quotes += lines[end].count('"')
        characters += len(lines[end])
        if characters > _MAX_RECORD_CHARACTERS:
            break
        if quotes % 2 == 0:
            return "\n".join(lines[index : end + 1]), end + 1 - index
    return text, 1


def _printable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
