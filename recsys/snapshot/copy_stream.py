"""Stream the result of a statement out of Postgres with COPY, in constant memory.

asyncpg passes on what the socket delivers, many rows at a time. psycopg2 makes a Python object of every row,
which takes twice the CPU time (docs/performance.md). So asyncpg reads snapshots, and SQLAlchemy with psycopg2
runs all other statements.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

import asyncpg

from recsys.errors import ConfigurationError, ServiceUnavailableError
from recsys.warehouse.private_errors import hide_values

_SESSION = (
    # Otherwise a scan starts where a concurrent one is, and rows come in another order each time.
    "SET LOCAL synchronize_seqscans TO off",
    # The text that the CSV reader expects, whatever the database or the role is configured to.
    "SET LOCAL datestyle TO 'ISO'",
    "SET LOCAL timezone TO 'UTC'",
    "SET LOCAL extra_float_digits TO 1",
)
_CHUNK_BYTES = 256 * 1024
# Postgres sends 8 KiB at a time, and waking up for each piece costs several times what reading it does. Its
# socket buffers about 200 KiB before Postgres has to wait for this process.
_SMALL_BYTES = 64 * 1024
_GATHERING_SECONDS = 0.0005


def stream_copy(
    arguments: Mapping[str, Any], snapshot: str, statement: str, copy_format: Literal["binary", "csv"]
) -> Iterator[bytes]:
    """Yield what `COPY (statement) TO STDOUT` sends, in chunks of about 256 KiB; CSV with a header.

    Nothing is read while the caller does not ask for more; Postgres waits. The connection closes with the
    iterator.

    Parameters
    ----------
    arguments
        Arguments of `asyncpg.connect`.
    snapshot
        Result of `pg_export_snapshot()` in a transaction that stays open until the last chunk.
    statement
        SQL without parameters.

    Raises
    ------
    ConfigurationError
        asyncpg cannot use the connection arguments.
    ServiceUnavailableError
        Postgres cannot be reached, or the connection broke.
    """
    loop = asyncio.new_event_loop()
    arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
    copying = loop.create_task(_copy(arguments, snapshot, statement, copy_format, arrived.put_nowait))
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
    arguments: Mapping[str, Any],
    snapshot: str,
    statement: str,
    copy_format: str,
    put: Callable[[bytes], None],
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
        header = {"header": True} if copy_format == "csv" else {}
        await connection.copy_from_query(statement, output=take, format=copy_format, **header)
    put(b"".join(pending))


@asynccontextmanager
async def _transaction(arguments: Mapping[str, Any], snapshot: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**arguments)
    try:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await connection.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
        await connection.execute("; ".join(_SESSION))
        yield connection
        await connection.close()
    finally:
        connection.terminate()


def _raise_error(copying: "asyncio.Task[None]") -> None:
    try:
        copying.result()
    except asyncpg.exceptions.ClientConfigurationError as error:
        raise ConfigurationError(f"asyncpg cannot use RECSYS_WAREHOUSE_URL: {error}") from error
    except asyncpg.PostgresError as error:
        reason = hide_values(error)
        raise ServiceUnavailableError(f"extraction from the warehouse broke off: {reason}") from error
    except (asyncpg.InterfaceError, OSError) as error:
        raise ServiceUnavailableError(f"extraction from the warehouse broke off: {error}") from error
