"""Quotes in TSV files, which are text in most files and enclose fields in some.

Most public data (IMDb, MIND, Last.fm) has no quoting: a tab ends a field, a line feed ends a record, and a
quote is a character. Other writers enclose a field that holds a tab, a line feed or a quote in quotes and
double the quotes in it. A line that has as many fields as the header is therefore a record as it stands.
"""

import pyarrow as pa
import pyarrow.compute as pc

from recsys.warehouse.files.csv_records import Place, printable, record_at, split_lines

_WRONG_WIDTH = "has {} fields, but the header has {}"


def encloses_every_field(header: str) -> bool:
    """Whether a file encloses its fields in quotes, as its header shows."""
    names = header.split("\t")
    return all(len(name) > 1 and name.startswith('"') and name.endswith('"') for name in names)


def unquote(column: pa.Array) -> pa.Array:
    """Remove the quotes that enclose values `[rows]` of a column of bytes.

    Only values with doubled quotes inside are enclosed: a writer that encloses what needs it has no other
    reason in a value without tabs and line feeds.
    """
    starts = pc.fill_null(pc.starts_with(column, '"'), False)
    if not pc.any(starts).as_py():
        return column
    values = column.to_pylist()
    for row in pc.indices_nonzero(starts).to_pylist():
        values[row] = _unquoted(values[row]) or None
    return pa.array(values, column.type)


def _unquoted(value: bytes) -> bytes:
    inside = value[1:-1]
    if len(value) < 2 or value[:1] + value[-1:] != b'""' or b'"' in inside.replace(b'""', b""):
        return value
    return inside.replace(b'""', b'"') if b'""' in inside or not inside else value


def split_tsv_records(
    block: bytes, width: int
) -> tuple[list[list[bytes]], list[Place], list[tuple[int, str, str]]]:
    """Split a block of a TSV file into records of `width` fields.

    A quoted field may span lines only if none of them is a record of its own. So a stray quote cannot
    swallow the rows after it.

    Returns
    -------
    tuple
        As `split_records`.
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
        literal = line.split("\t")
        whole = len(literal) == width
        fields, used = (None, 1)
        # The last field may begin with a quote that a later line closes.
        if not whole or (literal[-1].startswith('"') and line.count('"') % 2):
            fields, used = _quoted_record(lines, index, width)
        if whole or fields is not None:
            raw = [value.encode("utf-8", "surrogateescape") for value in fields or literal]
            good.append(raw if fields else [_unquoted(value) for value in raw])
            text = "\n".join(lines[index : index + used]).removesuffix("\r")
            places.append((index, printable(text)))
        else:
            bad.append((index, _WRONG_WIDTH.format(len(literal), width), printable(line)))
        index += used
    return good, places, bad


def _quoted_record(lines: list[str], index: int, width: int) -> tuple[list[str] | None, int]:
    """Return the fields of a record with quoted fields, or None, and the number of its lines."""
    if '"' not in lines[index]:
        return None, 1
    end = index + 1
    while end < len(lines) and lines[end].count("\t") + 1 != width:
        end += 1
    fields, used, _ = record_at(lines, index, end, "\t")
    return (fields, used) if fields is not None and len(fields) == width else (None, 1)
