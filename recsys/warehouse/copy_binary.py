"""PostgreSQL's binary COPY format: what frames the rows, and arrays in them.

It takes texts as bytes that are encoded only once. The text format would cost several times as much.
"""

import io
from collections.abc import Iterable
from struct import pack
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

COPY_BINARY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""Signature, no flags, no header extension."""
COPY_BINARY_TRAILER = b"\xff\xff"
BOOL, TEXT, FLOAT4 = 16, 25, 700
"""Postgres' numbers of the types of the elements of an array."""
NULL = pack(">i", -1)
REAL_BYTES = 8
"""Size of an element of a real[]."""


def copy_rows(connection: sa.Connection, target: str, rows: Iterable[bytes]) -> None:
    """Write rows, each the number of its fields as two bytes and then the fields, to `table (columns)`."""
    message = io.BytesIO(b"".join([COPY_BINARY_HEADER, *rows, COPY_BINARY_TRAILER]))
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor:
        cursor.copy_expert(f"copy {target} from stdin (format binary)", message)


def field(value: bytes) -> bytes:
    """Return a field or an element: its length comes before it."""
    return pack(">i", len(value)) + value


def text_elements(texts: Iterable[str]) -> list[bytes]:
    """Return elements of a text[]."""
    return [field(text.encode()) for text in texts]


def real_elements(values: NDArray[np.float32]) -> bytes:
    """Return elements of a real[], joined; `REAL_BYTES` each."""
    elements = np.empty(values.shape, dtype=[("bytes", ">i4"), ("value", ">f4")])
    elements["bytes"] = 4
    elements["value"] = values
    return elements.tobytes()


def array(element_type: int, length: int, elements: bytes, *, nulls: bool = False) -> bytes:
    """Return an array of one dimension; `nulls` says whether elements are null."""
    if length == 0:
        return pack(">iii", 0, 0, element_type)
    return pack(">iiiii", 1, nulls, element_type, length, 1) + elements
