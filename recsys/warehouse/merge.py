"""Copies checked rows into a temporary table and merges them into the warehouse."""

import io
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import psycopg2.errors
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import sqlalchemy as sa

from recsys.warehouse.incoming import Layout
from recsys.warehouse.partitions import ensure_months
from recsys.warehouse.statements import read_statement

_DEADLOCK_TRIES = 5
# Errors that are about a value in a row, not about the server.
_REFUSALS = (
    psycopg2.DataError,
    psycopg2.errors.CheckViolation,
    psycopg2.errors.ProgramLimitExceeded,
)


@dataclass
class MergeCounts:
    """What became of the rows so far."""

    inserted: int = 0
    updated: int = 0
    duplicates: int = 0
    new_users: int = 0


class Merger:
    """Merges chunks into one table, each in a transaction of its own.

    Parameters
    ----------
    register_users
        Whether users that feedback names for the first time are added.
    consent
        Consent to training of users who are added and whose file does not give it.
    """

    def __init__(self, engine: sa.Engine, layout: Layout, *, register_users: bool, consent: bool) -> None:
        self.counts = MergeCounts()
        self._engine = engine
        self._layout = layout
        self._register_users = register_users and layout.table == "feedback"
        self._parameters = {"consent": consent}
        self._months: set[datetime] = set()
        self._connection: sa.Connection | None = None

    def __enter__(self) -> Self:
        self._connection = self._engine.connect()
        with self._connection.begin():
            # Times without zone never get here; the hash of an event's content must not depend on it either.
            self._connection.execute(sa.text("SET TIME ZONE 'UTC'"))
            # A chunk is sorted and kept in memory, not in files.
            self._connection.execute(sa.text("SET work_mem = '64MB'; SET temp_buffers = '64MB'"))
            self._connection.execute(sa.text(read_statement(f"create_incoming_{self._layout.table}")))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._connection is not None
        # The temporary table and the time zone must not reach the next user of a pooled connection.
        self._connection.invalidate()
        self._connection.close()

    def merge(self, rows: pa.Table) -> list[tuple[int, str]]:
        """Merge rows; return the numbers of those that Postgres refuses, each with its reason."""
        if rows.num_rows == 0:
            return []
        self._ensure_partitions(rows)
        for _ in range(_DEADLOCK_TRIES - 1):
            try:
                return self._merge(rows, 0)
            except sa.exc.OperationalError as error:
                if not isinstance(error.orig, psycopg2.errors.DeadlockDetected):
                    raise
        return self._merge(rows, 0)

    def _merge(self, rows: pa.Table, first: int) -> list[tuple[int, str]]:
        try:
            self._merge_at_once(rows)
        except (sa.exc.DBAPIError, psycopg2.Error) as error:
            cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            if not isinstance(cause, _REFUSALS):
                raise
            if rows.num_rows == 1:
                return [(first, f"refused by Postgres: {cause.diag.message_primary}")]
            half = rows.num_rows // 2
            return self._merge(rows[:half], first) + self._merge(rows[half:], first + half)
        return []

    def _merge_at_once(self, rows: pa.Table) -> None:
        assert self._connection is not None
        table = self._layout.table
        new_users = 0
        with self._connection.begin():
            self._copy(rows)
            if self._register_users:
                new_users = self._execute("register_incoming_users").rowcount
            merged = self._execute(f"merge_incoming_{table}")
            inserted, updated = (merged.rowcount, 0) if not merged.returns_rows else tuple(merged.one())
        self.counts.inserted += inserted
        self.counts.updated += updated
        self.counts.duplicates += rows.num_rows - inserted - updated
        self.counts.new_users += new_users

    def _execute(self, statement: str) -> sa.CursorResult[Any]:
        assert self._connection is not None
        return self._connection.execute(sa.text(read_statement(statement)), self._parameters)

    def _copy(self, rows: pa.Table) -> None:
        assert self._connection is not None
        text = io.BytesIO()
        pa.csv.write_csv(rows, text, pa.csv.WriteOptions(include_header=False, quoting_style="needed"))
        text.seek(0)
        driver_connection = self._connection.connection.driver_connection
        assert driver_connection is not None
        with driver_connection.cursor() as cursor:
            columns = ", ".join(rows.column_names)
            cursor.copy_expert(
                f"COPY incoming_{self._layout.table} ({columns}) FROM STDIN (FORMAT csv, ENCODING 'UTF8')",
                text,
            )

    def _ensure_partitions(self, rows: pa.Table) -> None:
        if self._layout.time is None:
            return
        times = pc.unique(pc.floor_temporal(rows[self._layout.time], unit="month"))
        months = {month for month in times.to_pylist() if month is not None} - self._months
        ensure_months(self._engine, sorted(months))
        self._months |= months
