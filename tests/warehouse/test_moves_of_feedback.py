"""Quarantine, release, erasure and new partitions overlap with each other and with windows."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.settings import Settings
from recsys.upkeep.erasure import erase_requested, request_erasure
from recsys.validation.quarantine import list_quarantined, quarantine_window, release
from recsys.validation.rules import row_rules
from recsys.warehouse.tables import feedback, items, quarantine, users, validation_results
from recsys.warehouse.windows import Window, open_window, reconcile_window

LONG_AGO = datetime(1997, 9, 20, tzinfo=UTC)
MAKE_PARTITION = sa.text("SELECT ensure_feedback_partitions('1997-09-01', '1997-09-02')")


@pytest.fixture
def stocked(warehouse: sa.Engine) -> sa.Engine:
    with warehouse.begin() as connection:
        connection.execute(items.insert(), [{"item_id": item, "title": item} for item in "abc"])
        connection.execute(users.insert(), [{"user_id": user} for user in ("ann", "bob")])
    return warehouse


@pytest.fixture
def unfinished(stocked: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that has started and is not committed yet."""
    with stocked.connect() as connection:
        yield connection
        connection.rollback()


def add(engine: sa.Engine, *item_ids: str, **columns: Any) -> None:
    with engine.begin() as connection:
        for item_id in item_ids:
            connection.execute(
                feedback.insert().values(
                    {"user_id": "ann", "item_id": item_id, "event_type": "like"} | columns
                )
            )


def count(engine: sa.Engine, query: sa.Select[Any]) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(query) or 0)


def rows_of(engine: sa.Engine, user_id: str) -> int:
    return sum(
        count(engine, sa.select(sa.func.count()).select_from(table).where(table.c.user_id == user_id))
        for table in (feedback, quarantine)
    )


def finish_while_waiting(unfinished: sa.Connection, work: Callable[[], Any]) -> Any:
    """Run `work` in a thread, commit the open transaction once it waits for a lock, and return its result."""
    results: list[Any] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)

    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()")
    worker = threading.Thread(target=run)
    worker.start()
    while worker.is_alive() and not unfinished.scalar(waiting):
        time.sleep(0.01)
    unfinished.commit()
    worker.join()
    assert failures == []
    return results[0]


def test_a_window_opened_while_a_partition_takes_over_rows_holds_them(
    stocked: sa.Engine, unfinished: sa.Connection
) -> None:
    add(stocked, "a", "b", occurred_at=LONG_AGO)
    unfinished.execute(MAKE_PARTITION)
    window = finish_while_waiting(unfinished, lambda: open_window(stocked, "nightly", "1"))
    assert window.arrived == 2


def test_a_window_as_of_a_past_moment_sees_rows_on_their_way_to_a_partition(
    stocked: sa.Engine, unfinished: sa.Connection
) -> None:
    add(stocked, "a")
    with stocked.connect() as connection:
        moment = connection.scalar(sa.text("SELECT clock_timestamp()"))
    add(stocked, "b", occurred_at=LONG_AGO)
    unfinished.execute(MAKE_PARTITION)
    window = finish_while_waiting(unfinished, lambda: open_window(stocked, "nightly", "1", (moment, moment)))
    assert window.arrived == 1


def test_rows_on_their_way_to_a_partition_reconcile(stocked: sa.Engine, unfinished: sa.Connection) -> None:
    add(stocked, "a", "b", occurred_at=LONG_AGO)
    window = open_window(stocked, "nightly", "1")
    unfinished.execute(MAKE_PARTITION)
    assert finish_while_waiting(unfinished, lambda: reconcile_window(stocked, window.window_id)).valid == 2


def test_rows_on_their_way_to_a_partition_are_quarantined(
    stocked: sa.Engine, unfinished: sa.Connection, settings: Settings
) -> None:
    add(stocked, "a", "unknown", occurred_at=LONG_AGO)
    window = open_window(stocked, "nightly", "1")
    unfinished.execute(MAKE_PARTITION)

    def move() -> int:
        with stocked.begin() as connection:
            return quarantine_all(connection, window, settings)

    assert finish_while_waiting(unfinished, move) == 1


def test_rows_on_their_way_to_a_partition_are_erased(
    stocked: sa.Engine, unfinished: sa.Connection, settings: Settings
) -> None:
    add(stocked, "a", "b", occurred_at=LONG_AGO)
    request_erasure(stocked, "ann")
    unfinished.execute(MAKE_PARTITION)
    finish_while_waiting(unfinished, lambda: erase_requested(stocked, settings.snapshots))
    assert rows_of(stocked, "ann") == 0


@pytest.fixture
def retiring(stocked: sa.Engine, unfinished: sa.Connection) -> Window:
    """The window of two rows whose month is being retired."""
    add(stocked, "a", "b", occurred_at=LONG_AGO)
    window = open_window(stocked, "nightly", "1")
    with stocked.begin() as connection:
        connection.execute(MAKE_PARTITION)
        connection.execute(
            validation_results.insert().values(
                window_id=window.window_id,
                expectation="valid_share",
                success=True,
                severity="critical",
                observed={},
                expected={},
            )
        )
    assert unfinished.scalar(sa.text("SELECT retire_feedback_month('1997-09-01')")) is None
    return window


def test_rows_on_their_way_into_retirement_reconcile(
    stocked: sa.Engine, unfinished: sa.Connection, retiring: Window
) -> None:
    found = finish_while_waiting(unfinished, lambda: reconcile_window(stocked, retiring.window_id))
    assert (found.valid, found.balanced) == (2, True)


def test_rows_on_their_way_into_retirement_are_erased(
    stocked: sa.Engine, unfinished: sa.Connection, retiring: Window, settings: Settings
) -> None:
    request_erasure(stocked, "ann")
    (receipt,) = finish_while_waiting(unfinished, lambda: erase_requested(stocked, settings.snapshots))
    assert receipt.rows_removed["retired_feedback"] == 2
    assert reconcile_window(stocked, retiring.window_id).balanced


def quarantine_all(connection: sa.Connection, window: Window, settings: Settings) -> int:
    return quarantine_window(connection, window, row_rules(), settings.validation)


def test_a_row_on_its_way_to_quarantine_is_erased(
    stocked: sa.Engine, unfinished: sa.Connection, settings: Settings
) -> None:
    add(stocked, "a", "unknown")
    window = open_window(stocked, "nightly", "1")
    request_erasure(stocked, "ann")
    assert quarantine_all(unfinished, window, settings) == 1
    (receipt,) = finish_while_waiting(unfinished, lambda: erase_requested(stocked, settings.snapshots))
    assert rows_of(stocked, "ann") == 0
    assert (receipt.rows_removed["feedback"], receipt.rows_removed["quarantine"]) == (1, 1)
    assert reconcile_window(stocked, window.window_id).balanced


def test_a_row_on_its_way_out_of_quarantine_is_erased(stocked: sa.Engine, settings: Settings) -> None:
    add(stocked, "unknown")
    window = open_window(stocked, "nightly", "1")
    with stocked.begin() as connection:
        quarantine_all(connection, window, settings)
    (row,) = list_quarantined(stocked)
    request_erasure(stocked, "ann")
    half_way, erased = threading.Event(), threading.Event()

    @sa.event.listens_for(stocked, "commit")
    def hold(connection: sa.Connection) -> None:
        if threading.current_thread() is releaser:
            half_way.set()
            erased.wait(1)  # the erasure waits for this transaction, so this times out

    releaser = threading.Thread(target=release, args=(stocked, row.quarantine_id))
    releaser.start()
    half_way.wait()
    erase_requested(stocked, settings.snapshots)
    erased.set()
    releaser.join()
    assert rows_of(stocked, "ann") == 0


def test_two_consumers_that_quarantine_the_same_rows_wait_for_each_other(
    stocked: sa.Engine, unfinished: sa.Connection, settings: Settings
) -> None:
    add(stocked, "a", "unknown 1", "unknown 2")
    hourly, nightly = open_window(stocked, "hourly", "1"), open_window(stocked, "nightly", "1")
    assert quarantine_all(unfinished, hourly, settings) == 2

    def second() -> int:
        with stocked.begin() as connection:
            return quarantine_all(connection, nightly, settings)

    assert finish_while_waiting(unfinished, second) == 0
    assert reconcile_window(stocked, nightly.window_id).balanced
    assert len(list_quarantined(stocked)) == 2
