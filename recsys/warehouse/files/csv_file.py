"""Read CSV files. Arrow parses whole blocks; a block that it cannot parse is parsed record by record."""

import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from recsys.errors import IngestError
from recsys.warehouse.files.chunks import BadLine, Chunk, Source, columns_of
from recsys.warehouse.files.csv_records import parse_record, split_records
from recsys.warehouse.files.line_file import LineFile
from recsys.warehouse.files.tsv_quotes import encloses_every_field, split_tsv_records, unquote
from recsys.warehouse.files.whole_records import quotes_are_strict, whole_csv_records, whole_tsv_records

TAB = "\t"
_DELIMITERS = (",", ";", TAB, "|")

logger = logging.getLogger(__name__)


def open_csv(path: Path, compressed: bool, known: frozenset[str], delimiter: str) -> Source:
    """Open a CSV file with a header; raise IngestError if the header repeats a name.

    If `delimiter` separates no known column, a comma, semicolon, tab or bar that does is used instead.
    """
    lines = LineFile(path, compressed)
    head = lines.first_line().decode("utf-8", "replace")
    names = _names(head, delimiter)
    if known.isdisjoint(names):
        found = max(_DELIMITERS, key=lambda other: len(known.intersection(_names(head, other))))
        if known.intersection(_names(head, found)):
            logger.info("%s: the separator is %r", path, found)
            delimiter, names = found, _names(head, found)
    # Without a known name this is no header but a row, which the message must not show.
    if not known.isdisjoint(names) and (twice := sorted({name for name in names if names.count(name) > 1})):
        raise IngestError(
            f"{path}: the header has {', '.join(map(repr, twice))} more than once; rename those columns"
        )
    wanted = [name for name in names if name in known]

    literal = delimiter == TAB and not encloses_every_field(head)

    def whole_records(block: bytes) -> int:
        return (
            whole_tsv_records(block, len(names))
            if literal
            else whole_csv_records(block, len(names), delimiter)
        )

    def chunks() -> Iterator[Chunk]:
        for first_line, block in lines.blocks(2, whole_records):
            yield _csv_chunk(first_line, block, names, wanted, delimiter, literal)
        yield from lines.lines_skipped()

    return Source(names, chunks(), lines.size, lines.position)


def _names(head: str, delimiter: str) -> list[str]:
    header = parse_record(head, delimiter) or head.split(delimiter)
    return [name.strip().lower() for name in header]


def _csv_chunk(
    first_line: int, block: bytes, names: list[str], wanted: list[str], delimiter: str, literal: bool
) -> Chunk:
    @cache
    def records() -> tuple[list[list[bytes]], list[tuple[int, str]], list[BadLine]]:
        good, places, bad = (
            split_tsv_records(block, len(names)) if literal else split_records(block, len(names), delimiter)
        )
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

    if wanted and _is_plain(block) and (literal or quotes_are_strict(block, delimiter)):
        try:
            table = pa.csv.read_csv(
                pa.BufferReader(block),
                pa.csv.ReadOptions(use_threads=False, column_names=names, block_size=len(block)),
                pa.csv.ParseOptions(
                    delimiter=delimiter,
                    quote_char=not literal and '"',
                    newlines_in_values=not literal,
                    invalid_row_handler=refuse,
                ),
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
            found = columns_of(table)
            if literal and b'"' in block:
                found = {name: unquote(column) for name, column in found.items()}
            return Chunk(found, table.num_rows, lambda row: records()[1][row])
    good, places, bad = records()
    columns = {
        name: pa.array([record[names.index(name)] or None for record in good], pa.binary()) for name in wanted
    }
    return Chunk(columns, len(good), lambda row: places[row], bad)


def _is_plain(block: bytes) -> bool:
    """Whether Arrow leaves the block as it is: it drops a BOM, and ends a line at a CR alone."""
    if block.startswith(b"\xef\xbb\xbf"):
        return False
    return b"\r" not in block or block.count(b"\r") == block.count(b"\r\n")
