"""Load checked rows into the warehouse with COPY, directly or through a temporary table.

Most feedback is new and is copied directly into its table. If a row of a chunk may already exist, or if
Postgres rejects one, the chunk goes through a temporary table and is merged from there.
"""

import io
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import psycopg2.errors
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import sqlalchemy as sa

from recsys.columns import Columns
from recsys.warehouse.erased_users import ErasedUsers
from recsys.warehouse.incoming import Layout
from recsys.warehouse.partitions import ensure_months
from recsys.warehouse.statements import read_statement
from recsys.warehouse.visitors import session_ids, visitor_ids

_DEADLOCK_TRIES = 5
# Errors caused by a value in a row, not by the server.
_REFUSALS = (
    psycopg2.DataError,
    psycopg2.errors.CheckViolation,
    psycopg2.errors.ProgramLimitExceeded,
    psycopg2.errors.StatementTooComplex,
)
# Errors after which a chunk that could not be copied directly may still be merged.
_OBSTACLES = (*_REFUSALS, psycopg2.errors.UniqueViolation, psycopg2.errors.DeadlockDetected)
_REMEMBERED_USERS = 1_000_000
_COPY_BYTES = 1 << 20


@dataclass
class MergeCounts:
    """Numbers of rows loaded so far."""

    inserted: int = 0
    updated: int = 0
    duplicates: int = 0
    in_quarantine: int = 0
    new_users: int = 0
    erased: int = 0
    """Refused because their user was erased."""


class Refusal(NamedTuple):
    """A row that is not loaded. `of_erased_user`: its content must not be shown either."""

    row: int
    reason: str
    of_erased_user: bool = False


class _ErasedMeanwhile(Exception):  # noqa: N818 - never leaves this module
    pass


class Merger:
    """Loads chunks into one table, each in its own transaction.

    Parameters
    ----------
    register_users
        Whether to add users whom feedback names for the first time.
    consent
        Consent to training for added users whose consent the file does not give.
    erased
        Whose rows are refused.
    """

    def __init__(
        self, engine: sa.Engine, layout: Layout, *, register_users: bool, consent: bool, erased: ErasedUsers
    ) -> None:
        self.counts = MergeCounts()
        self._engine = engine
        self._layout = layout
        self._register_users = register_users and layout.table == "feedback"
        self._parameters = {"consent": consent}
        self._erased = erased
        self._months: set[datetime] = set()
        self._registered = pa.array([], pa.string())
        self._merge_next = 0
        self._merge_after_obstacle = 1
        self._connection: sa.Connection | None = None

    def __enter__(self) -> Self:
        self._connection = self._engine.connect()
        with self._connection.begin():
            # The hash of an event's content must not depend on the time zone of the session.
            self._connection.execute(sa.text("SET TIME ZONE 'UTC'"))
            # Sort and keep a chunk in memory instead of in files.
            self._connection.execute(sa.text("SET work_mem = '64MB'"))
            # Postgres refuses this to a pooled session that has used temporary tables before.
            with suppress(sa.exc.DataError), self._connection.begin_nested():
                self._connection.execute(sa.text("SET temp_buffers = '64MB'"))
            self._connection.execute(
                sa.text(read_statement(f"warehouse/create_incoming_{self._layout.table}"))
            )
            self._erased_meanwhile()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._connection is not None
        # The next user of the pooled connection must not get this temporary table and time zone.
        self._connection.invalidate()
        self._connection.close()

    def merge(self, rows: pa.Table) -> list[Refusal]:
        """Load rows; return those of erased users and those that Postgres rejects, each with the reason."""
        self._ensure_partitions(rows)
        while True:
            of_erased = self._rows_of_erased(rows)
            gone = np.array([refusal.row for refusal in of_erased], dtype=np.int64)
            kept = np.setdiff1d(np.arange(rows.num_rows), gone, assume_unique=True)
            try:
                refused = self._load(rows.take(kept) if len(gone) else rows)
            except _ErasedMeanwhile:
                continue
            self.counts.erased += len(of_erased)
            return [*of_erased, *(Refusal(int(kept[row]), reason) for row, reason in refused)]

    def _rows_of_erased(self, rows: pa.Table) -> list[Refusal]:
        if "user_id" not in rows.column_names:
            return []
        erased = self._erased.among(pc.unique(rows["user_id"]).to_pylist())
        if not erased:
            return []
        return [
            Refusal(
                row,
                f"this user was erased on request on {erased[user_id]:%Y-%m-%d}; `recsys readmit USER` lets "
                "a user who returns be loaded again",
                of_erased_user=True,
            )
            for row, user_id in enumerate(rows["user_id"].to_pylist())
            if user_id in erased
        ]

    def _erased_meanwhile(self) -> bool:
        """Whether somebody was erased since the last call. Nobody is until the transaction ends."""
        assert self._connection is not None
        return Columns.USER_ID in self._layout.known and self._erased.refresh(self._connection)

    def _load(self, rows: pa.Table) -> list[tuple[int, str]]:
        if rows.num_rows == 0:
            return []
        if self._load_directly(rows):
            return []
        for _ in range(_DEADLOCK_TRIES - 1):
            try:
                return self._merge_in_parts(rows, 0)
            except sa.exc.OperationalError as error:
                if not isinstance(error.orig, psycopg2.errors.DeadlockDetected):
                    raise
        return self._merge_in_parts(rows, 0)

    def _load_directly(self, rows: pa.Table) -> bool:
        """Copy feedback directly into its table; return whether that succeeded. If not, nothing has changed.

        A failed copy leaves dead rows behind. So after each failure, twice as many chunks as after the
        previous one are merged before the next direct copy.
        """
        if self._layout.table != "feedback" or rows["event_id"].null_count:  # merging computes the ids
            return False
        if self._merge_next:
            self._merge_next -= 1
            return False
        try:
            copied = self._copy_into_table(rows)
        except (sa.exc.DBAPIError, psycopg2.Error) as error:
            if not isinstance(error.orig if isinstance(error, sa.exc.DBAPIError) else error, _OBSTACLES):
                raise
            copied = False
        if copied:
            self._merge_after_obstacle = 1
        else:
            self._merge_next = self._merge_after_obstacle
            self._merge_after_obstacle *= 2
        return copied

    def _copy_into_table(self, rows: pa.Table) -> bool:
        assert self._connection is not None
        new_users = 0
        rows, visitors = _without_visitors(rows)
        users = self._unregistered(rows["user_id"].drop_null())
        visitors = self._unregistered(visitors)
        with self._connection.begin() as transaction:
            if self._erased_meanwhile():
                raise _ErasedMeanwhile
            if len(users):
                new_users = self._execute("register_users", {"user_ids": users.to_pylist()}).rowcount
            if len(visitors):
                named = {"session_ids": session_ids(visitors.to_pylist())}
                new_users += self._execute("register_sessions", named).rowcount
            self._copy(rows, "feedback")
            # Only a merge can tell an unchanged event that is in quarantine from a corrected one.
            if self._execute("count_copied_in_quarantine").scalar():
                transaction.rollback()
                return False
        remembered = self._registered if len(self._registered) < _REMEMBERED_USERS else users[:0]
        self._registered = pa.concat_arrays([remembered, users, visitors])
        self.counts.inserted += rows.num_rows
        self.counts.new_users += new_users
        return True

    def _unregistered(self, people: pa.ChunkedArray) -> pa.Array:
        """Return those of some user ids that this load has not registered yet, each once."""
        users = pc.unique(people) if self._register_users else self._registered[:0]
        return users.filter(pc.invert(pc.is_in(users, value_set=self._registered)))

    def _merge_in_parts(self, rows: pa.Table, first: int) -> list[tuple[int, str]]:
        """Merge rows; halve them after an error until only the rejected rows are left."""
        try:
            self._merge_chunk(rows)
        except (sa.exc.DBAPIError, psycopg2.Error) as error:
            cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            if not isinstance(cause, _REFUSALS):
                raise
            if rows.num_rows == 1:
                return [(first, f"refused by Postgres: {cause.diag.message_primary}")]
            half = rows.num_rows // 2
            return self._merge_in_parts(rows[:half], first) + self._merge_in_parts(rows[half:], first + half)
        return []

    def _merge_chunk(self, rows: pa.Table) -> None:
        assert self._connection is not None
        table = self._layout.table
        new_users = 0
        with self._connection.begin():
            if self._erased_meanwhile():
                raise _ErasedMeanwhile
            self._copy(rows, f"incoming_{table}")
            if self._register_users:
                new_users = self._execute("register_incoming_users").rowcount
            merged = self._execute(f"merge_incoming_{table}")
            counts = tuple(merged.one()) if merged.returns_rows else (merged.rowcount,)
        inserted, updated, held = (*counts, 0, 0)[:3]
        self.counts.inserted += inserted
        self.counts.updated += updated
        self.counts.duplicates += rows.num_rows - inserted - updated
        self.counts.in_quarantine += held
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
        ensure_months(self._engine, sorted(months), table=self._layout.table)
        self._months |= months


def _without_visitors(rows: pa.Table) -> tuple[pa.Table, pa.ChunkedArray]:
    """Return the rows without the user ids of visitors, which a trigger knows better, and these ids.

    Somebody may have joined the session.
    """
    if Columns.SESSION_ID not in rows.column_names:
        return rows, rows[Columns.USER_ID][:0]
    of_visitors = pc.fill_null(pc.equal(rows[Columns.USER_ID], visitor_ids(rows[Columns.SESSION_ID])), False)
    users = pc.if_else(of_visitors, pa.scalar(None, pa.string()), rows[Columns.USER_ID])
    position = rows.column_names.index(Columns.USER_ID)
    return rows.set_column(position, Columns.USER_ID, users), rows[Columns.USER_ID].filter(of_visitors)
