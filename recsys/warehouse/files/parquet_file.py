"""Read Parquet files."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import IngestError
from recsys.warehouse.files.chunks import Chunk, Source
from recsys.warehouse.files.values import text_as_bytes

_CHUNK_ROWS = 65_536


def open_parquet(path: Path, known: frozenset[str]) -> Source:
    """Open a Parquet file; raise IngestError if it is not one."""
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise IngestError(f"{path} is not a Parquet file: {error}") from error
    names = list(file.schema_arrow.names)
    done = 0

    def chunks() -> Iterator[Chunk]:
        nonlocal done
        try:
            for batch in file.iter_batches(_CHUNK_ROWS, columns=[name for name in names if name in known]):
                first_row = done + 1
                done += batch.num_rows
                yield _parquet_chunk(first_row, batch)
        except (pa.ArrowInvalid, OSError) as error:
            raise IngestError(
                f"{path} cannot be read to its end: {error}; check that the file is complete"
            ) from error
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
    return Chunk({name: text_as_bytes(column) for name, column in columns.items()}, batch.num_rows, place)
