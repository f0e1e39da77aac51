"""Open a file in the format that its suffix names."""

from pathlib import Path

from recsys.errors import IngestError
from recsys.warehouse.files.chunks import Source
from recsys.warehouse.files.csv_file import open_csv
from recsys.warehouse.files.jsonl_file import open_jsonl
from recsys.warehouse.files.parquet_file import open_parquet


def open_source(path: Path, known: frozenset[str], number_columns: frozenset[str]) -> Source:
    """Open a file by its suffix: .csv, .tsv, .jsonl, .ndjson (each also with .gz), .parquet.

    Parameters
    ----------
    known
        Columns to read. `Source.columns` also names the others.
    number_columns
        Columns that may be numbers in JSON.

    Raises
    ------
    IngestError
        The file is missing or empty, its suffix is unknown, or its content does not match its suffix.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = bool(suffixes) and suffixes[-1] == ".gz"
    kind = suffixes[-1 - compressed] if len(suffixes) > compressed else ""
    if not path.is_file():
        raise IngestError(f"{path} is not a file; give the path of a CSV, JSONL or Parquet file")
    if path.stat().st_size == 0:
        raise IngestError(f"{path} is empty; give a file with at least a header or a row")
    if kind in (".csv", ".tsv"):
        return open_csv(path, compressed, known, "\t" if kind == ".tsv" else ",")
    if kind in (".jsonl", ".ndjson"):
        return open_jsonl(path, compressed, known, number_columns)
    if kind in (".parquet", ".pq") and not compressed:
        return open_parquet(path, known)
    raise IngestError(
        f"{path} has no suffix of a known format; name it .csv, .tsv, .jsonl or .ndjson (.gz may follow), or "
        ".parquet"
    )
