import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from recsys.errors import ConfigurationError, WarehouseError
from recsys.upkeep.restore import continue_after_restore
from recsys.warehouse.windows import Window, latest_windows, load_window, open_window, reconcile_window

INSERT = sa.text(
    "INSERT INTO feedback (event_id, user_id, item_id, event_type) VALUES (:event_id, 'u', 'i', 'view')"
)


def write(engine: sa.Engine, *event_ids: str) -> None:
    with engine.begin() as connection:
        for event_id in event_ids:
            connection.execute(INSERT, {"event_id": event_id})


def read(engine: sa.Engine, window: Window) -> list[str]:
    with engine.connect() as connection:
        return list(
            connection.scalars(
                sa.text(
                    "SELECT event_id FROM feedback WHERE transaction_id >= :lower AND transaction_id < :upper"
                    " ORDER BY feedback_id"
                ),
                {"lower": window.lower_transaction_id, "upper": window.upper_transaction_id},
            )
        )


@pytest.fixture
def open_transaction(warehouse: sa.Engine) -> Iterator[sa.Connection]:
    connection = warehouse.connect()
    yield connection
    connection.close()


def test_windows_follow_one_another_without_gap_or_overlap(warehouse: sa.Engine) -> None:
    write(warehouse, "a", "b")
    first = open_window(warehouse, "nightly", "1")
    write(warehouse, "c")
    second = open_window(warehouse, "nightly", "2")
    assert read(warehouse, first) == ["a", "b"]
    assert read(warehouse, second) == ["c"]
    assert (first.arrived, second.arrived) == (2, 1)
    assert second.lower_transaction_id == first.upper_transaction_id


def test_a_row_committed_after_the_window_closed_is_in_the_next_window(
    warehouse: sa.Engine, open_transaction: sa.Connection
) -> None:
    open_transaction.execute(INSERT, {"event_id": "late"})
    write(warehouse, "later start, earlier commit")
    first = open_window(warehouse, "nightly", "1")
    assert read(warehouse, first) == []
    open_transaction.commit()
    assert read(warehouse, first) == []
    second = open_window(warehouse, "nightly", "2")
    assert read(warehouse, second) == ["late", "later start, earlier commit"]
    assert second.arrived == 2


def test_a_rolled_back_transaction_does_not_delay_later_windows(
    warehouse: sa.Engine, open_transaction: sa.Connection
) -> None:
    open_transaction.execute(INSERT, {"event_id": "never"})
    write(warehouse, "a")
    open_transaction.rollback()
    assert read(warehouse, open_window(warehouse, "nightly", "1")) == ["a"]


def test_a_retry_gets_the_same_bounds_although_new_rows_arrived(warehouse: sa.Engine) -> None:
    write(warehouse, "a")
    window = open_window(warehouse, "nightly", "1")
    write(warehouse, "b")
    assert open_window(warehouse, "nightly", "1") == window
    open_window(warehouse, "nightly", "2")
    assert open_window(warehouse, "nightly", "1") == window
    assert load_window(warehouse, window.window_id) == window


def test_each_consumer_has_its_own_windows(warehouse: sa.Engine) -> None:
    write(warehouse, "a")
    assert open_window(warehouse, "nightly", "1").arrived == 1
    assert open_window(warehouse, "hourly", "1").arrived == 1


def test_the_first_window_can_start_where_a_model_stopped_reading(warehouse: sa.Engine) -> None:
    write(warehouse, "a")
    known = open_window(warehouse, "nightly", "1").upper_transaction_id
    write(warehouse, "b")
    first = open_window(warehouse, "hourly", "1", first_lower=known)
    assert read(warehouse, first) == ["b"]
    write(warehouse, "c")
    assert read(warehouse, open_window(warehouse, "hourly", "2", first_lower=0)) == ["c"]


def test_a_window_without_rows_is_recorded_as_empty(warehouse: sa.Engine) -> None:
    assert open_window(warehouse, "nightly", "1").arrived == 0
    again = open_window(warehouse, "nightly", "2")
    assert again.arrived == 0
    assert reconcile_window(warehouse, again.window_id).balanced


def test_a_run_for_a_past_interval_sees_what_had_been_received_by_its_end(warehouse: sa.Engine) -> None:
    hour = timedelta(hours=1)
    start = datetime.now(UTC) - 3 * hour
    with warehouse.begin() as connection:
        connection.execute(INSERT, {"event_id": "first hour"})
    with warehouse.begin() as connection:
        connection.execute(INSERT, {"event_id": "second hour"})
    write(warehouse, "now")
    with warehouse.begin() as connection:
        for event_id, received in (("first hour", start), ("second hour", start + 1.5 * hour)):
            connection.execute(
                sa.text("UPDATE feedback SET received_at = :received WHERE event_id = :event_id"),
                {"received": received, "event_id": event_id},
            )
    first = open_window(warehouse, "nightly", "1", (start - hour, start + hour))
    second = open_window(warehouse, "nightly", "2", (start + hour, start + 2 * hour))
    third = open_window(warehouse, "nightly", "3", (start + 2 * hour, start + 4 * hour))
    assert [read(warehouse, window) for window in (first, second, third)] == [
        ["first hour"],
        ["second hour"],
        ["now"],
    ]


@pytest.mark.parametrize("column", ["feedback", "quarantine"])
def test_a_row_with_a_received_time_in_the_future_stops_no_window(warehouse: sa.Engine, column: str) -> None:
    now = datetime.now(UTC)
    write(warehouse, "from a wrong clock")
    with warehouse.begin() as connection:
        connection.execute(sa.text("UPDATE feedback SET received_at = now() + interval '4 years'"))
    if column == "quarantine":
        window = open_window(warehouse, "other", "1")
        with warehouse.begin() as connection:
            connection.execute(
                sa.text(
                    "WITH moved AS (DELETE FROM feedback RETURNING *) INSERT INTO quarantine"
                    " (feedback_id, window_id, reasons, user_id, transaction_id, feedback)"
                    " SELECT feedback_id, :window_id, '{x}', user_id, transaction_id, to_jsonb(moved)"
                    " FROM moved"
                ),
                {"window_id": window.window_id},
            )
    write(warehouse, "after")
    with warehouse.begin() as connection:
        connection.execute(
            sa.text("UPDATE feedback SET received_at = now() - interval '1 hour' WHERE event_id = 'after'")
        )
    found = open_window(warehouse, "nightly", "1", (now - timedelta(hours=3), now))
    assert found.arrived == 2
    assert "after" in read(warehouse, found)


def test_windows_above_the_clusters_transaction_ids_are_reported_and_not_taken_for_silence(
    warehouse: sa.Engine,
) -> None:
    write(warehouse, "a")
    with warehouse.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO windows (consumer, run_key, lower_transaction_id, upper_transaction_id, arrived)"
                " VALUES ('nightly', 'old cluster', 0, 4000000000, 1)"
            )
        )
    write(warehouse, "b")
    with pytest.raises(WarehouseError, match=r"up to 3999999999, but .* `recsys after-restore`"):
        open_window(warehouse, "nightly", "2")
    continue_after_restore(warehouse)
    assert read(warehouse, open_window(warehouse, "nightly", "2")) == ["b"]


def test_rows_replicated_from_a_cluster_with_higher_ids_are_reported(
    warehouse: sa.Engine,
) -> None:
    write(warehouse, "a")
    with warehouse.begin() as connection:
        connection.execute(sa.text("UPDATE feedback SET transaction_id = 4000000000"))
    with pytest.raises(WarehouseError, match="`recsys after-restore`"):
        open_window(warehouse, "nightly", "1")
    continue_after_restore(warehouse)
    assert read(warehouse, open_window(warehouse, "nightly", "1")) == ["a"]


def test_a_backfill_behind_later_windows_is_empty_and_moves_nothing(warehouse: sa.Engine) -> None:
    write(warehouse, "a")
    now = datetime.now(UTC)
    later = open_window(warehouse, "nightly", "today")
    write(warehouse, "b")
    backfill = open_window(warehouse, "nightly", "last week", (now - timedelta(8), now - timedelta(7)))
    assert (backfill.lower_transaction_id, backfill.arrived) == (later.upper_transaction_id, 0)
    assert read(warehouse, backfill) == []
    assert read(warehouse, open_window(warehouse, "nightly", "tomorrow")) == ["b"]


def test_late_events_belong_to_the_window_they_arrive_in(warehouse: sa.Engine) -> None:
    write(warehouse, "a")
    open_window(warehouse, "nightly", "1")
    with warehouse.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO feedback (event_id, user_id, item_id, event_type, occurred_at)"
                " VALUES ('days old', 'u', 'i', 'view', now() - interval '40 days')"
            )
        )
    assert read(warehouse, open_window(warehouse, "nightly", "2")) == ["days old"]


def test_opening_a_window_waits_for_no_writer_and_no_writer_waits_for_it(
    warehouse: sa.Engine, open_transaction: sa.Connection
) -> None:
    open_transaction.execute(INSERT, {"event_id": "slow"})
    started = time.monotonic()
    with warehouse.connect() as opener:
        opener.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended('window of nightly', 0))"))
        write(warehouse, "fast")
        opener.rollback()
    open_window(warehouse, "nightly", "1")
    assert time.monotonic() - started < 5


def test_windows_opened_among_concurrent_writers_hold_every_row_once(warehouse: sa.Engine) -> None:
    written: list[str] = []
    opened: list[Window] = []
    failures: list[BaseException] = []
    writing = threading.Event()
    writing.set()

    def writer(number: int) -> None:
        try:
            for batch in range(25):
                names = [f"{number}-{batch}-{row}" for row in range(3)]
                with warehouse.begin() as connection:
                    for name in names:
                        connection.execute(INSERT, {"event_id": name})
                        time.sleep(0.001 * (number % 3))
                    if batch % 5 == 4:
                        connection.rollback()
                        continue
                written.extend(names)
        except BaseException as error:
            failures.append(error)

    def opener(name: str) -> None:
        try:
            count = 0
            while writing.is_set():
                opened.append(open_window(warehouse, "nightly", f"{name}-{count}"))
                count += 1
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=writer, args=(number,)) for number in range(4)]
    openers = [threading.Thread(target=opener, args=(name,)) for name in "xy"]
    for thread in writers + openers:
        thread.start()
    for thread in writers:
        thread.join()
    writing.clear()
    for thread in openers:
        thread.join()
    opened.append(open_window(warehouse, "nightly", "last"))
    assert failures == []
    opened.sort(key=lambda window: (window.lower_transaction_id, window.upper_transaction_id))
    seen = Counter(event_id for window in opened for event_id in read(warehouse, window))
    assert seen == Counter(written)
    assert sum(window.arrived for window in opened) == len(written)


def test_rows_moved_to_quarantine_or_erased_still_reconcile(warehouse: sa.Engine) -> None:
    write(warehouse, "good", "bad", "twin", "gone")
    window = open_window(warehouse, "nightly", "1")
    move = sa.text(
        """
        WITH moved AS (DELETE FROM feedback WHERE event_id = :event_id RETURNING *)
        INSERT INTO quarantine (feedback_id, window_id, reasons, user_id, transaction_id, feedback)
        SELECT feedback_id, :window_id, :reasons, user_id, transaction_id, to_jsonb(moved) FROM moved
        """
    )
    with warehouse.begin() as connection:
        for event_id, reasons in (
            ("bad", ["unknown_item", "duplicate_content"]),
            ("twin", ["duplicate_content"]),
        ):
            connection.execute(
                move, {"event_id": event_id, "window_id": window.window_id, "reasons": reasons}
            )
        connection.execute(sa.text("INSERT INTO erasure_requests (status) VALUES ('done')"))
        connection.execute(
            sa.text(
                "WITH gone AS (DELETE FROM feedback WHERE event_id = 'gone' RETURNING transaction_id)"
                " INSERT INTO erased_feedback SELECT 1, transaction_id, 1 FROM gone"
            )
        )
    result = reconcile_window(warehouse, window.window_id)
    assert (result.arrived, result.valid, result.quarantined, result.duplicates, result.erased) == (
        4,
        1,
        1,
        1,
        1,
    )
    assert result.balanced
    assert open_window(warehouse, "hourly", "1").arrived == 4
    with warehouse.begin() as connection:
        connection.execute(sa.text("DELETE FROM feedback"))
    assert not reconcile_window(warehouse, window.window_id).balanced


def test_the_reconciliation_is_stored_with_the_window(warehouse: sa.Engine) -> None:
    write(warehouse, "a")
    window = open_window(warehouse, "nightly", "1")
    reconcile_window(warehouse, window.window_id)
    with warehouse.connect() as connection:
        row = connection.execute(sa.text("SELECT valid, reconciled_at FROM windows")).one()
    assert row.valid == 1
    assert row.reconciled_at is not None


def test_latest_windows_come_newest_first(warehouse: sa.Engine) -> None:
    one = open_window(warehouse, "nightly", "1")
    two = open_window(warehouse, "hourly", "1")
    three = open_window(warehouse, "nightly", "2")
    assert latest_windows(warehouse) == [three, two, one]
    assert latest_windows(warehouse, "nightly", limit=1) == [three]


def test_an_unknown_window_is_named(warehouse: sa.Engine) -> None:
    with pytest.raises(WarehouseError, match="window 99"):
        load_window(warehouse, 99)
    with pytest.raises(WarehouseError, match="window 99"):
        reconcile_window(warehouse, 99)


def test_an_interval_without_time_zone_or_with_swapped_ends_is_rejected(warehouse: sa.Engine) -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    with pytest.raises(ConfigurationError, match="time zone"):
        open_window(warehouse, "nightly", "1", (naive, naive))
    now = datetime.now(UTC)
    with pytest.raises(ConfigurationError, match="ends before it starts"):
        open_window(warehouse, "nightly", "1", (now, now - timedelta(1)))
