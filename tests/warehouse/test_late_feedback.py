"""Late and out-of-order events are in the window in which they arrive, and are counted."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from recsys.upkeep.erasure import erase_requested, request_erasure
from recsys.warehouse.analytics import install_analytics
from recsys.warehouse.tables import feedback
from recsys.warehouse.windows import Window, open_window, reconcile_window

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def add(engine: sa.Engine, *times: datetime | None, **columns: Any) -> None:
    """Add rows with these event times that arrive now, in this order."""
    values = {"user_id": "u", "item_id": "i", "event_type": "view"} | columns
    with engine.begin() as connection:
        for time in times:
            connection.execute(feedback.insert().values(values | {"occurred_at": time}))


def counts(engine: sa.Engine, window: Window) -> tuple[int, int]:
    result = reconcile_window(engine, window.window_id)
    return result.late, result.out_of_order


def test_an_event_from_before_the_last_window_is_late(warehouse: sa.Engine) -> None:
    add(warehouse, NOW - 3 * DAY, NOW - DAY)
    assert counts(warehouse, open_window(warehouse, "nightly", "1")) == (0, 0)
    add(warehouse, NOW - 2 * DAY, datetime.now(UTC))
    second = open_window(warehouse, "nightly", "2")
    assert counts(warehouse, second) == (1, 0)
    assert counts(warehouse, open_window(warehouse, "hourly", "its first")) == (0, 1)


def test_a_window_of_an_interval_closes_at_its_end(warehouse: sa.Engine) -> None:
    open_window(warehouse, "nightly", "1", (NOW - 2 * DAY, NOW - DAY))
    add(warehouse, NOW - 1.5 * DAY, NOW - 0.5 * DAY)
    assert counts(warehouse, open_window(warehouse, "nightly", "2", (NOW - DAY, NOW + DAY))) == (1, 0)


def test_a_backfill_does_not_change_what_is_late_for_later_windows(warehouse: sa.Engine) -> None:
    open_window(warehouse, "nightly", "today")
    open_window(warehouse, "nightly", "backfill", (NOW - 9 * DAY, NOW - 8 * DAY))
    add(warehouse, NOW - DAY)
    assert counts(warehouse, open_window(warehouse, "nightly", "tomorrow")) == (1, 0)


def test_an_event_older_than_one_that_arrived_before_it_is_out_of_order(warehouse: sa.Engine) -> None:
    add(warehouse, *(NOW - hours * timedelta(hours=1) for hours in (9, 5, 8, 7, 5, 4)))
    add(warehouse, NOW - timedelta(hours=6))
    assert counts(warehouse, open_window(warehouse, "nightly", "1")) == (0, 3)


def test_impossible_times_do_not_distort_the_counts(warehouse: sa.Engine) -> None:
    open_window(warehouse, "nightly", "1")
    add(warehouse, None, NOW + 400 * DAY)
    with warehouse.begin() as connection:
        for time in ("infinity", "-infinity"):
            connection.execute(
                sa.text(
                    "INSERT INTO feedback (user_id, item_id, event_type, occurred_at)"
                    " VALUES ('u', 'i', 'view', CAST(:time AS timestamptz))"
                ),
                {"time": time},
            )
    add(warehouse, datetime.now(UTC) + timedelta(seconds=1))
    assert counts(warehouse, open_window(warehouse, "nightly", "2")) == (0, 0)


def test_rows_in_quarantine_are_counted_and_a_later_erasure_changes_nothing(
    warehouse: sa.Engine, tmp_path: Path
) -> None:
    open_window(warehouse, "nightly", "1")
    add(warehouse, datetime.now(UTC), NOW - DAY, NOW - 2 * DAY)
    window = open_window(warehouse, "nightly", "2")
    with warehouse.begin() as connection:
        connection.execute(
            sa.text(
                "WITH moved AS ("
                " DELETE FROM feedback WHERE occurred_at < now() - interval '1.5 days' RETURNING *)"
                " INSERT INTO quarantine (feedback_id, window_id, reasons, user_id, transaction_id, feedback)"
                " SELECT feedback_id, :window, '{bad}', user_id, transaction_id, to_jsonb(moved) FROM moved"
            ),
            {"window": window.window_id},
        )
    assert counts(warehouse, window) == (2, 2)
    request_erasure(warehouse, "u")
    erase_requested(warehouse, str(tmp_path))
    result = reconcile_window(warehouse, window.window_id)
    assert (result.late, result.out_of_order, result.erased) == (2, 2, 3)


def test_analysts_see_how_many_rows_of_a_window_came_late(warehouse: sa.Engine) -> None:
    install_analytics(warehouse)
    open_window(warehouse, "nightly", "1")
    add(warehouse, datetime.now(UTC), NOW - DAY)
    reconcile_window(warehouse, open_window(warehouse, "nightly", "2").window_id)
    query = "SELECT late, out_of_order FROM analytics.window_reconciliation ORDER BY window_id"
    with warehouse.connect() as connection:
        assert [tuple(row) for row in connection.execute(sa.text(query))] == [(None, None), (1, 1)]
