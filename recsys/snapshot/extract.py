"""Streams the result of a statement out of Postgres as Arrow record batches, in constant memory."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from adbc_driver_manager import Error as AdbcError
from adbc_driver_postgresql import dbapi

from recsys.errors import ServiceUnavailableError
from recsys.snapshot.records import SCAN_FROM_THE_START, stream_records
from recsys.warehouse.engine import asyncpg_arguments
from recsys.warehouse.statements import render_literals

_BATCH_BYTES = 2 * 1024 * 1024


class Extraction:
    """Statements of one read-only transaction: all of them see the same moment."""

    def __init__(self, connection: Any, url: sa.URL) -> None:
        self._connection = connection
        self._url = url

    def batches(self, statement: str, **parameters: Any) -> Iterator[pa.RecordBatch]:
        """Yield the result of a statement with `:name` parameters.

        COPY takes no bind parameters, so they are rendered as literals by SQLAlchemy.
        """
        with self._executed(statement, parameters) as cursor:
            yield from cursor.fetch_record_batch()

    def table(self, statement: str, **parameters: Any) -> pa.Table:
        """Return the whole result of a statement that is known to be small."""
        with self._executed(statement, parameters) as cursor:
            return cursor.fetch_arrow_table()

    def records(
        self, statement: str, schema: pa.Schema, rows: int, **parameters: Any
    ) -> Iterator[pa.RecordBatch]:
        """Yield the result of a statement whose values all have eight bytes, as `stream_records` does."""
        snapshot = self.table("SELECT pg_export_snapshot() AS snapshot").column("snapshot")[0].as_py()
        return stream_records(
            asyncpg_arguments(self._url), snapshot, render_literals(statement, parameters), schema, rows
        )

    @contextmanager
    def _executed(self, statement: str, parameters: Mapping[str, Any]) -> Iterator[dbapi.Cursor]:
        with self._connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(_BATCH_BYTES)})
            cursor.execute(render_literals(statement, parameters))
            yield cursor


@contextmanager
def extraction(engine: sa.Engine) -> Iterator[Extraction]:
    """Open a repeatable-read, read-only transaction on the engine's database.

    Raises
    ------
    ServiceUnavailableError
        Postgres cannot be reached or ended the transaction.
    """
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        with dbapi.connect(url, autocommit=False) as connection:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                cursor.execute(SCAN_FROM_THE_START)
            yield Extraction(connection, engine.url)
            connection.rollback()
    except AdbcError as error:
        raise ServiceUnavailableError(f"extraction from the warehouse broke off: {error}") from error
