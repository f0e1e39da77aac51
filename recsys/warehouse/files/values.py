"""Convert typed values of JSON and Parquet files to the text that a CSV file would have."""

import json
import math
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

_UUID_BYTES = 16


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
    if isinstance(kind, pa.UuidType):
        return pa.array([value and str(value).encode() for value in column.to_pylist()], pa.binary())
    if pa.types.is_fixed_size_binary(kind):
        return pa.array([_fixed_size(value) for value in column.to_pylist()], pa.binary())
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return text_as_bytes(column.cast(pa.binary()))
    if pa.types.is_binary(kind):
        return pc.if_else(pc.equal(pc.binary_length(column), 0), None, column)
    if pa.types.is_nested(kind):
        return pa.array([_nested(value) for value in column], pa.binary())
    if pa.types.is_boolean(kind):
        return column.cast(pa.string()).cast(pa.binary())
    return column


def _fixed_size(value: bytes | None) -> bytes | None:
    """Return bytes of a fixed size as text: 16 bytes that are not readable are a UUID."""
    if not value or len(value) != _UUID_BYTES or (value.isascii() and value.decode().isprintable()):
        return value or None
    return str(UUID(bytes=value)).encode()


def _nested(scalar: pa.Scalar) -> bytes | None:
    """Return a list, struct or map as JSON, or a text that is not JSON if Python cannot represent it."""
    try:
        value = scalar.as_py(maps_as_pydicts="lossy")
    except (ValueError, OverflowError) as error:
        return f"a nested value that cannot be read ({error})".encode()
    return json_text(_plain(value))


def _plain(value: Any) -> Any:
    """Return a nested value with the types of JSON, without keys that have no value."""
    if isinstance(value, dict):
        # A Parquet struct has every key in every row, with null (or NaN) for those that a row lacks.
        entries = {str(name): _plain(entry) for name, entry in value.items()}
        return {name: entry for name, entry in entries.items() if entry is not None}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
