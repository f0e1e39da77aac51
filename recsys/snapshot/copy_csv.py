"""Decode COPY's CSV format into Arrow record batches.

This is as fast as a driver that returns Arrow data, and faster on small results (docs/performance.md).
"""

from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyarrow import csv

_BLOCK_BYTES = 2 * 1024 * 1024


def decode_csv(chunks: Iterable[bytes], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a COPY as batches of about 2 MiB of text.

    Parameters
    ----------
    chunks
        Output of COPY in the CSV format, with a header.
    schema
        Name and type of each column to return. Times are ISO 8601 with a zone, in the years 1 to 9999.
    """
    pending: list[bytes] = []
    size = 0
    names: list[str] = []
    for chunk in chunks:
        pending.append(chunk)
        size += len(chunk)
        if size >= _BLOCK_BYTES:
            block = b"".join(pending)
            pending = [block]
            if _ends_row(block):
                names, rows = _split_header(names, block)
                if rows:
                    yield _decode(rows, names, schema)
                pending, size = [], 0
    names, rows = _split_header(names, b"".join(pending))
    if rows:
        yield _decode(rows, names, schema)


def _split_header(names: list[str], block: bytes) -> tuple[list[str], bytes]:
    """Return the columns' names, and the block without them if it is the first."""
    if names:
        return names, block
    header, _, rows = block.partition(b"\n")
    return header.decode().split(","), rows


def _ends_row(block: bytes) -> bool:
    """Return whether the text ends with a row: a line break inside a quoted value follows an odd quote."""
    return block.endswith(b"\n") and block.count(b'"') % 2 == 0


def _decode(block: bytes, names: list[str], schema: pa.Schema) -> pa.RecordBatch:
    table = csv.read_csv(
        pa.BufferReader(block),
        csv.ReadOptions(column_names=names, block_size=len(block) + 1, use_threads=False),
        csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        # COPY writes null as nothing and an empty text as two quotes.
        csv.ConvertOptions(
            column_types=schema,
            include_columns=schema.names,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    )
    (batch,) = table.combine_chunks().to_batches()
    return batch
