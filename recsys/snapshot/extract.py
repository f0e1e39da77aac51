"""Read the results of several statements as of one moment, as Arrow data."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from recsys.errors import ServiceUnavailableError
from recsys.snapshot.copy_csv import decode_csv
from recsys.snapshot.copy_fixed_width import decode_fixed_width
from recsys.snapshot.copy_stream import stream_copy
from recsys.warehouse.engine import asyncpg_arguments
from recsys.warehouse.statements import render_literals


class Extraction:
    """Statements that all see the same moment, each on a separate connection.

    Statements take `:name` parameters. COPY has no bind parameters, so SQLAlchemy renders them as literals.
    """

    def __init__(self, url: sa.URL, snapshot: str) -> None:
        self._url = url
        self._snapshot = snapshot

    def batches(self, statement: str, schema: pa.Schema, **parameters: Any) -> Iterator[pa.RecordBatch]:
        """Yield the result of a statement as `decode_csv` does, in constant memory."""
        return decode_csv(self._copy(statement, parameters, "csv"), schema)

    def table(self, statement: str, schema: pa.Schema, **parameters: Any) -> pa.Table:
        """Return the whole result of a statement."""
        return pa.Table.from_batches(self.batches(statement, schema, **parameters), schema)

    def fixed_width_batches(
        self, statement: str, schema: pa.Schema, rows: int, **parameters: Any
    ) -> Iterator[pa.RecordBatch]:
        """Yield the result of a statement as `decode_fixed_width` does, in constant memory."""
        return decode_fixed_width(self._copy(statement, parameters, "binary"), schema, rows)

    def _copy(self, statement: str, parameters: dict[str, Any], copy_format: Any) -> Iterator[bytes]:
        return stream_copy(
            asyncpg_arguments(self._url), self._snapshot, render_literals(statement, parameters), copy_format
        )


@contextmanager
def extraction(engine: sa.Engine) -> Iterator[Extraction]:
    """Open an extraction; a read-only transaction holds its moment until the end.

    Raises
    ------
    ServiceUnavailableError
        Postgres cannot be reached or ended the transaction.
    """
    try:
        with engine.connect().execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        ) as connection:
            # This transaction idles while others read.
            connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout TO 0"))
            snapshot = connection.scalar(sa.text("SELECT pg_export_snapshot()"))
            yield Extraction(engine.url, snapshot)
    except sa.exc.OperationalError as error:
        raise ServiceUnavailableError(f"extraction from the warehouse broke off: {error}") from error
