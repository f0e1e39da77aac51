"""Convert typed values of JSON and Parquet files to the text that a CSV file would have."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def json_text(value: Any) -> bytes | None:
    """Return a JSON value as text: strings unchanged, None for null and "", other values as JSON."""
    if value is None or value == "":
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode()


def text_as_bytes(column: pa.Array) -> pa.Array:
    """Convert text to bytes (null if empty) and nested values to JSON; leave numbers and times unchanged."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return text_as_bytes(column.dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        text = column.cast(pa.string())
        return pc.if_else(pc.equal(text, ""), None, text).cast(pa.binary())
    if pa.types.is_map(kind):
        return pa.array([json_text(value and dict(value)) for value in column.to_pylist()], pa.binary())
    if pa.types.is_nested(kind):
        return pa.array([json_text(_without_nulls(value)) for value in column.to_pylist()], pa.binary())
    if pa.types.is_boolean(kind):
        return column.cast(pa.string()).cast(pa.binary())
    return column


def _without_nulls(value: Any) -> Any:
    # A Parquet struct has every key in every row, with null for those that a row lacks.
    if isinstance(value, dict):
        return {name: _without_nulls(entry) for name, entry in value.items() if entry is not None}
    return value
