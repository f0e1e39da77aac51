"""Brings checked rows into the warehouse: straight into the table, or through a temporary table.

Feedback that is new, as nearly all is, goes straight into its table with COPY. Where a row of a chunk
may be there already, or is nothing that Postgres takes, the chunk goes through a temporary table.
"""

import io
from collections.abc import Mapping
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
# Errors after which a chunk that could not go straight into the table may still be merged.
_OBSTACLES = (*_REFUSALS, psycopg2.errors.UniqueViolation, psycopg2.errors.DeadlockDetected)
_REMEMBERED_USERS = 1_000_000
_COPY_BYTES = 1 << 20


@dataclass
class MergeCounts:
    """What became of the rows so far."""

    inserted: int = 0
    updated: int = 0
    duplicates: int = 0
    new_users: int = 0


class Merger:
    """Brings chunks into one table, each in a transaction of its own.

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
        self._registered = pa.array([], pa.string())
        self._merge_next = 0
        self._merge_after_obstacle = 1
        self._connection: sa.Connection | None = None

    def __enter__(self) -> Self:
        self._connection = self._engine.connect()
        with self._connection.begin():
            # Times without zone never get here; the hash of an event's content must not depend on it either.
            self._connection.execute(sa.text("SET TIME ZONE 'UTC'"))
            # A chunk is sorted and kept in memory, not in files.
            self._connection.execute(sa.text("SET work_mem = '64MB'; SET temp_buffers = '64MB'"))
            self._connection.execute(
                sa.text(read_statement(f"warehouse/create_incoming_{self._layout.table}"))
            )
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
        if self._goes_straight(rows):
            return []
        for _ in range(_DEADLOCK_TRIES - 1):
            try:
                return self._merge(rows, 0)
            except sa.exc.OperationalError as error:
                if not isinstance(error.orig, psycopg2.errors.DeadlockDetected):
                    raise
        return self._merge(rows, 0)

    def _goes_straight(self, rows: pa.Table) -> bool:
        """Copy feedback into its table; return whether that was possible, otherwise nothing has happened.

        What was copied before an obstacle showed leaves dead rows behind: after each obstacle twice as
        many chunks are merged as after the last one before another is tried.
        """
        if self._layout.table != "feedback" or rows["event_id"].null_count:  # merging computes the ids
            return False
        if self._merge_next:
            self._merge_next -= 1
            return False
        try:
            gone = self._copy_into_table(rows)
        except (sa.exc.DBAPIError, psycopg2.Error) as error:
            if not isinstance(error.orig if isinstance(error, sa.exc.DBAPIError) else error, _OBSTACLES):
                raise
            gone = False
        if gone:
            self._merge_after_obstacle = 1
        else:
            self._merge_next = self._merge_after_obstacle
            self._merge_after_obstacle *= 2
        return gone

    def _copy_into_table(self, rows: pa.Table) -> bool:
        assert self._connection is not None
        new_users = 0
        users = pc.unique(rows["user_id"]) if self._register_users else self._registered[:0]
        users = users.filter(pc.invert(pc.is_in(users, value_set=self._registered)))
        with self._connection.begin() as transaction:
            if len(users):
                new_users = self._execute("register_users", {"user_ids": users.to_pylist()}).rowcount
            self._copy(rows, "feedback")
            # Merging tells an event that is in quarantine as it is here from one that was put right.
            if self._execute("count_copied_in_quarantine").scalar():
                transaction.rollback()
                return False
        remembered = self._registered if len(self._registered) < _REMEMBERED_USERS else users[:0]
        self._registered = pa.concat_arrays([remembered, users])
        self.counts.inserted += rows.num_rows
        self.counts.new_users += new_users
        return True

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
            self._copy(rows, f"incoming_{table}")
            if self._register_users:
                new_users = self._execute("register_incoming_users").rowcount
            merged = self._execute(f"merge_incoming_{table}")
            inserted, updated = (merged.rowcount, 0) if not merged.returns_rows else tuple(merged.one())
        self.counts.inserted += inserted
        self.counts.updated += updated
        self.counts.duplicates += rows.num_rows - inserted - updated
        self.counts.new_users += new_users

    def _execute(self, statement: str, parameters: Mapping[str, Any] | None = None) -> sa.CursorResult[Any]:
        assert self._connection is not None
        text = sa.text(read_statement(f"warehouse/{statement}"))
        return self._connection.execute(text, {**self._parameters, **(parameters or {})})

    def _copy(self, rows: pa.Table, table: str) -> None:
        assert self._connection is not None
        text = io.BytesIO()
        pa.csv.write_csv(rows, text, pa.csv.WriteOptions(include_header=False, quoting_style="needed"))
        text.seek(0)
        driver_connection = self._connection.connection.driver_connection
        assert driver_connection is not None
        with driver_connection.cursor() as cursor:
            columns = ", ".join(rows.column_names)
            cursor.copy_expert(
                f"COPY {table} ({columns}) FROM STDIN (FORMAT csv, ENCODING 'UTF8')", text, _COPY_BYTES
            )

    def _ensure_partitions(self, rows: pa.Table) -> None:
        if self._layout.time is None:
            return
        times = pc.unique(pc.floor_temporal(rows[self._layout.time], unit="month"))
        months = {month for month in times.to_pylist() if month is not None} - self._months
        ensure_months(self._engine, sorted(months))
        self._months |= months
