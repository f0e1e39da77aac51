"""Streams rows out of Postgres whose columns are all eight bytes wide, in constant memory.

COPY's binary format gives every value with its length. Where no value is null and each has eight bytes, all
rows are equally long and NumPy takes in thousands of them at once, in a fraction of the time that decoding
value by value takes.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.errors import ConfigurationError, ServiceUnavailableError, WarehouseError

SCAN_FROM_THE_START = "SET LOCAL synchronize_seqscans TO off"
"""Else a scan begins where another one is just now, and rows come in another order each time."""
_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # no flags, no extension of the header
_TRAILER = b"\xff\xff"
_WIDTH = 8
_POSTGRES_EPOCH_MICROSECONDS = 946_684_800_000_000  # 2000-01-01
_LATEST_MICROSECONDS = np.iinfo(np.int64).max - _POSTGRES_EPOCH_MICROSECONDS
_CHUNK_BYTES = 256 * 1024
# Postgres sends 8 KiB at a time, and waking up for each costs several times what reading it does. Its socket
# takes some 200 KiB before it has to wait for us.
_SMALL_BYTES = 64 * 1024
_GATHERING_SECONDS = 0.0005


def stream_records(
    arguments: Mapping[str, Any], snapshot: str, statement: str, schema: pa.Schema, rows: int
) -> Iterator[pa.RecordBatch]:
    """Yield the result of a statement as batches of `rows` rows, the last one of what is left.

    Parameters
    ----------
    arguments
        Of `asyncpg.connect`.
    snapshot
        What `pg_export_snapshot()` gave to a transaction that is open until the last batch.
    statement
        Without parameters. No column may ever be null.
    schema
        A column each: int64 for bigint, float64 for double precision (NaN stands for null), timestamp for
        timestamptz.

    Raises
    ------
    ServiceUnavailableError
        Postgres cannot be reached or broke off.
    WarehouseError
        A value is null or has not eight bytes.
    """
    block = _Block(schema, rows)
    for chunk in _chunks(arguments, snapshot, statement):
        yield from block.take(chunk)
    yield from block.rest()


class _Block:
    """Rows of a stream until there are enough for a batch."""

    def __init__(self, schema: pa.Schema, rows: int) -> None:
        self._schema = schema
        self._rows = rows
        self._record = np.dtype(
            [("fields", ">i2")]
            + [
                part
                for field in schema
                for part in (
                    (_width(field.name), ">i4"),
                    (field.name, ">f8" if pa.types.is_floating(field.type) else ">i8"),
                )
            ]
        )
        self._pending = b""
        self._begun = False
        self._new()

    def _new(self) -> None:
        self._columns: dict[str, NDArray[Any]] = {
            field.name: np.empty(self._rows, self._record[field.name].newbyteorder("="))
            for field in self._schema
        }
        self._filled = 0

    def take(self, chunk: bytes) -> Iterator[pa.RecordBatch]:
        """Take in what arrived; yield the batches that it completes."""
        data = self._pending + chunk if self._pending else chunk
        start = 0
        if not self._begun:
            if len(data) < len(_SIGNATURE):
                self._pending = data
                return
            if data[: len(_SIGNATURE)] != _SIGNATURE:
                raise WarehouseError(
                    f"Postgres begins COPY with {data[: len(_SIGNATURE)]!r}, a format that is not known"
                )
            start, self._begun = len(_SIGNATURE), True
        records = np.frombuffer(
            data, self._record, count=(len(data) - start) // self._record.itemsize, offset=start
        )
        self._pending = bytes(data[start + records.nbytes :])
        self._check(records)
        while len(records):
            taken = records[: self._rows - self._filled]
            records = records[len(taken) :]
            for name, column in self._columns.items():
                column[self._filled : self._filled + len(taken)] = taken[name]
            self._filled += len(taken)
            if self._filled == self._rows:
                yield self._batch()
                self._new()

    def rest(self) -> Iterator[pa.RecordBatch]:
        """Yield what is left at the end of the stream."""
        if self._pending != _TRAILER:
            raise WarehouseError(f"{self._uneven()}: {len(self._pending)} bytes are left at the end")
        if self._filled:
            yield self._batch()

    def _check(self, records: NDArray[Any]) -> None:
        expected = {"fields": len(self._schema)} | {_width(name): _WIDTH for name in self._schema.names}
        wrong = [records[name] != value for name, value in expected.items()]
        if any(rows.any() for rows in wrong):
            first = records[np.logical_or.reduce(wrong).argmax()]  # what follows it is out of step
            name = next(name for name, value in expected.items() if first[name] != value)
            raise WarehouseError(
                f"{self._uneven()}: {name} is {first[name]} where it has to be {expected[name]}"
            )

    def _uneven(self) -> str:
        return (
            f"rows of {', '.join(self._schema.names)} must have eight bytes a value and no null (width -1), "
            "which their statement in the folder sql has to see to"
        )

    def _batch(self) -> pa.RecordBatch:
        arrays = []
        for field in self._schema:
            values = self._columns[field.name][: self._filled]
            if pa.types.is_timestamp(field.type):
                # Only what no rule has judged yet can lie beyond what 64 bits hold since 1970.
                np.minimum(values, _LATEST_MICROSECONDS, out=values)
                values += _POSTGRES_EPOCH_MICROSECONDS
            arrays.append(pa.array(values, from_pandas=True).cast(field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)


def _width(column: str) -> str:
    return f"width of {column}"


def _chunks(arguments: Mapping[str, Any], snapshot: str, statement: str) -> Iterator[bytes]:
    """Yield what COPY sends. Nothing is read while nobody waits for it: Postgres waits then."""
    loop = asyncio.new_event_loop()
    arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
    copying = loop.create_task(_copy(arguments, snapshot, statement, arrived.put_nowait))
    copying.add_done_callback(lambda _: arrived.put_nowait(None))
    try:
        while (chunk := loop.run_until_complete(arrived.get())) is not None:
            yield chunk
        _raise_error(copying)
    finally:
        copying.cancel()
        loop.run_until_complete(asyncio.gather(copying, return_exceptions=True))
        loop.close()


async def _copy(
    arguments: Mapping[str, Any], snapshot: str, statement: str, put: Callable[[bytes], None]
) -> None:
    pending: list[bytes] = []
    size = 0

    async def take(data: bytes) -> None:
        nonlocal size
        pending.append(data)
        size += len(data)
        if size >= _CHUNK_BYTES:
            put(b"".join(pending))
            pending.clear()
            size = 0
        if len(data) < _SMALL_BYTES:
            time.sleep(_GATHERING_SECONDS)  # nothing else runs in this loop

    async with _transaction(arguments, snapshot) as connection:
        await connection.copy_from_query(statement, output=take, format="binary")
    put(b"".join(pending))


@asynccontextmanager
async def _transaction(arguments: Mapping[str, Any], snapshot: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**arguments)
    try:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await connection.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
        await connection.execute(SCAN_FROM_THE_START)
        yield connection
        await connection.close()
    finally:
        connection.terminate()


def _raise_error(copying: "asyncio.Task[None]") -> None:
    try:
        copying.result()
    except asyncpg.exceptions.ClientConfigurationError as error:
        raise ConfigurationError(f"asyncpg cannot use RECSYS_WAREHOUSE_URL: {error}") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise ServiceUnavailableError(f"extraction from the warehouse broke off: {error}") from error
