"""Find where the last whole record of a block ends, so that no block ends inside a record."""

import numpy as np

from recsys.warehouse.files.csv_records import record_at, split_lines

_QUOTE, _LINE_FEED = ord('"'), ord("\n")


def whole_csv_records(block: bytes, width: int, delimiter: str) -> int:
    """Return how many bytes of a block of lines are whole records of `width` fields."""
    if b'"' not in block:
        return len(block)
    content = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(content == _LINE_FEED)
    outside = ends[np.searchsorted(np.flatnonzero(content == _QUOTE), ends) % 2 == 0]
    whole = int(outside[-1]) + 1 if len(outside) else 0
    # Where quotes are not strict, an even number of them does not say that all are closed.
    return whole if quotes_are_strict(block[:whole], delimiter) else _walk(block, width, delimiter)


def _walk(block: bytes, width: int, delimiter: str) -> int:
    lines = split_lines(block)
    index = 0
    while index < len(lines):
        record = record_at(lines, index, len(lines), delimiter)
        if record.open_at_end:
            return len("\n".join([*lines[:index], ""]).encode("utf-8", "surrogateescape"))
        index += record.lines if record.fields is not None and len(record.fields) == width else 1
    return len(block)


def whole_tsv_records(block: bytes, width: int) -> int:
    """Return the same for a TSV file: a record goes on at most to the next line of `width` fields."""
    end = len(block)
    while end and b'"' in block:
        start = block.rfind(b"\n", 0, end - 1) + 1
        line = block[start : end - 1].removesuffix(b"\r")
        if line.count(b"\t") + 1 == width:
            may_go_on = end < len(block) or (b'\t"' in b"\t" + line and line.count(b'"') % 2)
            return start if may_go_on else end
        end = start
    return end


def quotes_are_strict(block: bytes, delimiter: str) -> bool:
    """Whether every quote opens or closes a whole field, or is one of a pair inside a field.

    Arrow is lenient: for an opening quote without a closing one, it would read all lines after it as one
    long value.
    """
    if b'"' not in block:
        return True
    content = np.frombuffer(block, np.uint8)
    quotes = np.flatnonzero(content == _QUOTE)
    if len(quotes) % 2:
        return False
    opening, closing = quotes[::2], quotes[1::2]
    around = np.frombuffer(f'{delimiter}\r\n"'.encode(), np.uint8)
    before = content[opening - 1][opening > 0]
    # A block ends with a line feed, so something follows each quote.
    return bool(np.isin(before, around).all() and np.isin(content[closing + 1], around).all())
