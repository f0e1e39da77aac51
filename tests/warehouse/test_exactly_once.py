"""In random interleavings of everything that changes feedback, each committed row is in one window, once.

The machine keeps its own account of what was committed and compares it with what a consumer reads right
after it has opened a window. `RECSYS_TEST_EXAMPLES=1000` explores at random; otherwise the runs are
always the same.
"""

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from recsys.errors import WarehouseError
from recsys.settings import ValidationSettings
from recsys.upkeep.erasure import erase_requested, request_erasure
from recsys.validation.quarantine import discard, list_quarantined, quarantine_window, release
from recsys.validation.rules import row_rules
from recsys.warehouse.tables import feedback, items, quarantine, users, windows
from recsys.warehouse.windows import Window, load_window, open_window, reconcile_window

EXAMPLES = int(os.environ.get("RECSYS_TEST_EXAMPLES", "0"))
CONSUMERS = ("nightly", "hourly")
USERS = ("ann", "bob", "cid")
WRITERS = 3
# No statement waits here for another, except for two writers of one event id.
LOCK_TIMEOUT_MS = 100
KINDS = (
    "sound",
    "sound",
    "sound",
    "unknown item",
    "days late",
    "same event",
    "same event, other time",
    "same content",
)
# Statements of open_window before which something else happens.
MOMENTS = (
    "pg_advisory_xact_lock",
    "LOCK TABLE",
    "max(",
    "warehouse_horizon",
    "INSERT INTO windows",
    "COMMIT",
)
HAPPENINGS = ("terminated", "aborted", "row committed", "writer commits", "other consumer", "quarantine")
ENDS = ("commit", "commit", "roll back", "killed", "savepoint", "roll back to savepoint")
BATCHES = st.lists(st.sampled_from(KINDS), min_size=1, max_size=3)
INDEX = st.integers(0, 99)
RULES = row_rules()
COLUMNS = (
    feedback.c.feedback_id,
    feedback.c.transaction_id,
    feedback.c.user_id,
    feedback.c.event_id,
    feedback.c.item_id,
    feedback.c.occurred_at,
    feedback.c.received_at,
)

T = TypeVar("T")


def _pick(among: Sequence[T], which: int) -> T:
    return among[which % len(among)]


class KilledError(Exception):
    """Raised where the process that opens a window dies."""


@dataclass
class Writer:
    """An application with a transaction that may stay open for a long time."""

    connection: sa.Connection
    rows: list[sa.Row[Any]] = field(default_factory=list)
    savepoints: list[tuple[sa.NestedTransaction, int]] = field(default_factory=list)

    @property
    def lowest_id(self) -> float:
        return min((row.transaction_id for row in self.rows), default=float("inf"))


class Feedback(RuleBasedStateMachine):
    """Applications, two consumers, and people who settle quarantine and erase users."""

    engine: sa.Engine
    opener: sa.Engine
    snapshots_root: str
    current: "Feedback"
    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        type(self).current = self
        self.name = f"example {next(self.numbers)}"
        self.ids = (f"{self.name} event {number}" for number in itertools.count())
        self.keys = (f"run {number}" for number in itertools.count())
        self.committed: dict[int, sa.Row[Any]] = {}
        self.erased: set[int] = set()
        self.writers: dict[int, Writer] = {}
        self.windows: dict[str, list[Window]] = {consumer: [] for consumer in CONSUMERS}
        self.reads: dict[str, Counter[int]] = {consumer: Counter() for consumer in CONSUMERS}
        self.erased_unread: dict[str, set[int]] = {consumer: set() for consumer in CONSUMERS}
        self.contents: dict[int, set[int]] = {}
        self.held: list[int] = []
        self.runs: list[tuple[str, str, tuple[datetime, datetime] | None]] = []
        self.times: list[datetime] = []
        self.upset: tuple[str, Callable[[sa.Connection], None]] | None = None
        with self.engine.begin() as connection:
            for user in USERS:
                connection.execute(users.insert().values(user_id=self._user(user)))
            self.start = connection.scalar(sa.text("SELECT warehouse_horizon()"))
            self.first_id = connection.scalar(sa.select(sa.func.max(feedback.c.feedback_id))) or 0

    # Applications

    @initialize(kinds=BATCHES)
    def begin(self, kinds: list[str]) -> None:
        """A consumer that has read and judged rows, and rows around a transaction that it waits for."""
        self.note_time()
        self.write("ann", ["unknown item"], 0)
        self.note_time()
        self.write("ann", ["sound", "days late"], 0)
        self.open("nightly", None, None)
        self.validate(0, killed=False)
        self.write_and_stay_open(0, "bob", ["sound"], 0)
        self.write("cid", kinds, 0)
        self.open("nightly", None, None)
        self.note_time()

    @rule(user=st.sampled_from(USERS), kinds=BATCHES, which=INDEX)
    def write(self, user: str, kinds: list[str], which: int) -> None:
        self.write_and_stay_open(WRITERS, user, kinds, which)
        if WRITERS in self.writers:
            self._end(WRITERS, "commit")

    @rule(number=st.integers(0, WRITERS - 1), user=st.sampled_from(USERS), kinds=BATCHES, which=INDEX)
    def write_and_stay_open(self, number: int, user: str, kinds: list[str], which: int) -> None:
        writer = self.writers.get(number)
        if writer is None:
            writer = self.writers[number] = Writer(self.engine.connect())
        try:
            for kind in kinds:
                writer.rows.append(self._insert(writer.connection, user, kind, which))
        except sa.exc.DBAPIError:  # the event exists, or another writer is about to commit it
            self._end(number, "roll back to savepoint" if writer.savepoints else "roll back")

    @precondition(lambda self: self.writers)
    @rule(which=INDEX, how=st.sampled_from(ENDS))
    def end_writer(self, which: int, how: str) -> None:
        self._end(_pick(list(self.writers), which), how)

    # Consumers

    @rule()
    def note_time(self) -> None:
        with self.engine.connect() as connection:
            self.times.append(connection.scalar(sa.text("SELECT clock_timestamp()")))

    @rule(
        consumer=st.sampled_from(CONSUMERS),
        upset=st.none() | st.tuples(st.sampled_from(MOMENTS), st.sampled_from(HAPPENINGS)),
        past=st.none() | INDEX,
    )
    def open(self, consumer: str, upset: tuple[str, str] | None, past: int | None) -> None:
        interval = None
        if past is not None and self.times:
            end = _pick(self.times, past)
            interval = (end - timedelta(hours=1), end)
        self.runs.append((consumer, next(self.keys), interval))
        if upset is not None:
            moment, happening = upset
            self.upset = (moment, self._happening(happening, consumer))
        try:
            self._open(*self.runs[-1])
        except (KilledError, sa.exc.DBAPIError):
            if upset is None or upset[1] not in ("terminated", "aborted"):
                raise
            assert self._recorded(*self.runs[-1][:2]) is None
        finally:
            self.upset = None

    @precondition(lambda self: self.runs)
    @rule(which=INDEX)
    def retry(self, which: int) -> None:
        self._open(*_pick(self.runs, which))

    # People and housekeeping

    @precondition(lambda self: any(self.contents.values()))
    @rule(which=INDEX, killed=st.booleans())
    def validate(self, which: int, killed: bool) -> None:
        window_id = _pick([window_id for window_id, held in self.contents.items() if held], which)
        with self.engine.connect() as connection:
            quarantine_window(connection, load_window(self.engine, window_id), RULES, ValidationSettings())
            if not killed:
                connection.commit()
        self.held = self._held()

    @precondition(lambda self: self.held)
    @rule(which=INDEX)
    def let_out(self, which: int) -> None:
        try:
            feedback_id = release(self.engine, _pick(self.held, which))
        except (WarehouseError, sa.exc.OperationalError):  # the event has arrived again
            return
        self.held = self._held()
        with self.engine.connect() as connection:
            row = connection.execute(sa.select(*COLUMNS).where(feedback.c.feedback_id == feedback_id)).one()
        self.committed[feedback_id] = row

    @precondition(lambda self: self.held)
    @rule(which=INDEX)
    def throw_away(self, which: int) -> None:
        discard(self.engine, _pick(self.held, which))
        self.held = self._held()

    @precondition(lambda self: self.committed)
    @rule()
    def erase(self, user: str = USERS[0]) -> None:
        request_erasure(self.engine, self._user(user))
        assert len(erase_requested(self.engine, self.snapshots_root)) == 1
        gone = {id_ for id_, row in self.committed.items() if row.user_id == self._user(user)} - self.erased
        self.erased |= gone
        for consumer in CONSUMERS:
            self.erased_unread[consumer] |= gone - self.reads[consumer].keys()
        self.held = self._held()
        with self.engine.begin() as connection:  # a user who comes back starts without data
            connection.execute(users.insert().values(user_id=self._user(user)))

    @precondition(lambda self: self.contents)
    @rule(which=INDEX)
    def reconcile(self, which: int) -> None:
        self._reconcile(_pick(list(self.contents), which))

    # Invariants

    @invariant()
    def no_row_slips_into_a_window_that_was_read(self) -> None:
        for window in itertools.chain(*self.windows.values()):
            assert self._within(window) == self.contents[window.window_id]

    def teardown(self) -> None:
        try:
            for number in list(self.writers):
                self._end(number, "commit")
            for run in self.runs:
                self._open(*run)
            for consumer in CONSUMERS:
                self._open(consumer, "last", None)
                once = Counter(self.committed.keys() - self.erased_unread[consumer])
                assert self.reads[consumer] == once
            self.no_row_slips_into_a_window_that_was_read()
            for window_id in self.contents:
                self._reconcile(window_id)
            assert self._there() == self.committed.keys() - self.erased
        finally:
            for writer in self.writers.values():
                writer.connection.close()

    # Implementation

    def _user(self, user: str) -> str:
        return f"{self.name} {user}"

    def _insert(self, connection: sa.Connection, user: str, kind: str, which: int) -> sa.Row[Any]:
        values: dict[str, Any] = {
            "event_id": next(self.ids),
            "user_id": self._user(user),
            "item_id": "item",
            "event_type": "like",
            "occurred_at": datetime.now(UTC),
        }
        known = [*self.committed.values(), *(row for writer in self.writers.values() for row in writer.rows)]
        if kind == "unknown item":
            values["item_id"] = "nothing"
        elif kind == "days late":
            values["occurred_at"] -= timedelta(days=which)
        elif kind.startswith("same") and known:
            other = _pick(known, which)
            same = {
                "same event": ("event_id", "occurred_at"),
                "same event, other time": ("event_id",),
                "same content": ("user_id", "item_id", "occurred_at"),
            }
            values |= {name: other._mapping[name] for name in same[kind]}
        return connection.execute(feedback.insert().values(values).returning(*COLUMNS)).one()

    def _end(self, number: int, how: str) -> None:
        writer = self.writers[number]
        if how == "savepoint":
            writer.savepoints.append((writer.connection.begin_nested(), len(writer.rows)))
            return
        if how == "roll back to savepoint" and writer.savepoints:
            savepoint, rows = writer.savepoints.pop()
            savepoint.rollback()
            del writer.rows[rows:]
            return
        if how == "commit":
            writer.connection.commit()
            self.committed |= {row.feedback_id: row for row in writer.rows}
        elif how == "killed":
            self._terminate(writer.connection)
            writer.connection.invalidate()
        writer.connection.close()
        del self.writers[number]

    def _happening(self, happening: str, consumer: str) -> Callable[[sa.Connection], None]:
        def happen(opener: sa.Connection) -> None:
            if happening == "terminated":
                self._terminate(opener)
            elif happening == "aborted":
                raise KilledError
            elif happening == "row committed":
                with self.engine.begin() as connection:
                    row = self._insert(connection, "ann", "sound", 0)
                self.committed[row.feedback_id] = row
            elif happening == "writer commits" and self.writers:
                self._end(min(self.writers), "commit")
            elif happening == "other consumer":
                (other,) = set(CONSUMERS) - {consumer}
                self.runs.append((other, next(self.keys), None))
                self._open(*self.runs[-1])
            elif happening == "quarantine" and any(self.contents.values()):
                self.validate(0, killed=False)

        return happen

    def _terminate(self, connection: sa.Connection) -> None:
        pid = connection.connection.dbapi_connection.info.backend_pid  # type: ignore[union-attr]
        with self.engine.connect() as other:
            assert other.scalar(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})

    def _recorded(self, consumer: str, run_key: str) -> Window | None:
        query = sa.select(windows.c.window_id).where(
            windows.c.consumer == self._user(consumer), windows.c.run_key == run_key
        )
        with self.engine.connect() as connection:
            window_id = connection.scalar(query)
        return None if window_id is None else load_window(self.engine, window_id)

    def _open(self, consumer: str, run_key: str, interval: tuple[datetime, datetime] | None) -> None:
        """Open a window or return the existing one; read a new one like its consumer."""
        recorded = self._recorded(consumer, run_key)
        oldest = min((writer.lowest_id for writer in self.writers.values()), default=float("inf"))
        before = [row for id_, row in self.committed.items() if id_ not in self.erased]
        self._wait_for_others(oldest)
        window = open_window(self.opener, self._user(consumer), run_key, interval, first_lower=self.start)
        if recorded is not None:
            assert window == recorded
            return
        found = self._read(window)
        earlier = self.windows[consumer]
        assert window.lower_transaction_id == (earlier[-1].upper_transaction_id if earlier else self.start)
        earlier.append(window)
        self.contents[window.window_id] = self._within(window)
        assert Counter(found) == Counter(self.contents[window.window_id] - self.erased)
        assert window.arrived == len(self.contents[window.window_id])
        self.reads[consumer].update(found)
        self._nothing_is_held_back(window, before, oldest)

    def _nothing_is_held_back(self, window: Window, before: list[sa.Row[Any]], oldest: float) -> None:
        """Assert that rows outside the window came after an open transaction or the interval's end."""
        left_out = [row for row in before if row.transaction_id >= window.upper_transaction_id]
        excused_from = oldest
        if window.interval_end:
            held = [self.committed[id_] for id_ in self.contents[window.window_id] - self.erased]
            assert all(row.received_at < window.interval_end for row in held)
            too_late = [row.transaction_id for row in left_out if row.received_at >= window.interval_end]
            excused_from = min([oldest, *too_late])
        assert [row for row in left_out if row.transaction_id < excused_from] == []

    def _wait_for_others(self, oldest: float) -> None:
        """Wait until the cluster has no foreign transaction open, such as an automatic ANALYZE."""
        ids = [row.transaction_id for row in self.committed.values() if row.transaction_id < oldest]
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for _ in range(200):
                if connection.scalar(sa.text("SELECT warehouse_horizon()")) > max(ids, default=0):
                    return
                time.sleep(0.05)

    def _within(self, window: Window) -> set[int]:
        """Return the ids of all committed rows of the window, including erased ones."""
        return {
            id_
            for id_, row in self.committed.items()
            if window.lower_transaction_id <= row.transaction_id < window.upper_transaction_id
        }

    def _read(self, window: Window) -> list[int]:
        with self.engine.connect() as connection:
            return [
                id_
                for table in (feedback, quarantine)
                for id_ in connection.scalars(
                    sa.select(table.c.feedback_id).where(
                        table.c.transaction_id >= window.lower_transaction_id,
                        table.c.transaction_id < window.upper_transaction_id,
                    )
                )
            ]

    def _there(self) -> set[int]:
        with self.engine.connect() as connection:
            return {
                id_
                for table in (feedback, quarantine)
                for id_ in connection.scalars(
                    sa.select(table.c.feedback_id).where(table.c.feedback_id > self.first_id)
                )
            }

    def _held(self) -> list[int]:
        rows = list_quarantined(self.engine, limit=1000)
        return [row.quarantine_id for row in rows if row.feedback["user_id"].startswith(f"{self.name} ")]

    def _reconcile(self, window_id: int) -> None:
        result = reconcile_window(self.engine, window_id)
        assert result.balanced
        assert result.erased == len(self.contents[window_id] & self.erased)


@pytest.mark.parametrize("examples", [10, pytest.param(30, marks=pytest.mark.slow)])
def test_every_committed_row_is_in_one_window_of_each_consumer(
    warehouse_url: str, tmp_path: Path, examples: int
) -> None:
    def engine() -> sa.Engine:
        options = f"-c lock_timeout={LOCK_TIMEOUT_MS}"
        return sa.create_engine(warehouse_url, connect_args={"options": options}, pool_size=10)

    class Example(Feedback):
        pass

    Example.engine, Example.opener, Example.snapshots_root = engine(), engine(), str(tmp_path)

    def happen(connection: sa.Connection, statement: str) -> None:
        machine = Example.current
        if machine.upset is not None and machine.upset[0] in statement:
            something, machine.upset = machine.upset[1], None
            something(connection)

    @sa.event.listens_for(Example.opener, "before_cursor_execute")
    def before_statement(connection: sa.Connection, cursor: object, statement: str, *_: object) -> None:
        happen(connection, statement)

    @sa.event.listens_for(Example.opener, "commit")
    def before_commit(connection: sa.Connection) -> None:
        happen(connection, "COMMIT")

    with Example.engine.begin() as connection:
        connection.execute(items.insert().values(item_id="item", title="Item"))
    try:
        run_state_machine_as_test(
            Example,
            settings=settings(
                max_examples=EXAMPLES or examples,
                stateful_step_count=50,
                derandomize=not EXAMPLES,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        Example.engine.dispose()
        Example.opener.dispose()
