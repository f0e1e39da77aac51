"""The stages from feedback to a snapshot: what they say when feedback has to wait."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from recsys.errors import NothingToDoError
from recsys.pipeline.context import Context, Run
from recsys.pipeline.feedback import open_window, validate
from recsys.settings import Settings


@pytest.fixture
def impatient(warehouse: sa.Engine, settings: Settings) -> Context:
    alerts = settings.alerts.model_copy(update={"max_open_transaction_minutes": 1e-6})
    return Context(
        Run("nightly_training", "nightly_training/1"),
        settings.model_copy(update={"alerts": alerts}),
        warehouse,
    )


@pytest.fixture
def forgotten(warehouse: sa.Engine) -> Iterator[int]:
    """Process of a session that made a temporary table and is idle in its transaction."""
    with warehouse.connect() as connection:
        connection.execute(sa.text("CREATE TEMP TABLE report AS SELECT 1 AS one"))
        yield int(connection.scalar(sa.text("SELECT pg_backend_pid()")) or 0)


def add_feedback(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO feedback (user_id, item_id, event_type) VALUES ('u', 'i', 'like')")
        )


def test_a_run_that_an_idle_session_holds_back_says_so_and_alerts(
    impatient: Context, forgotten: int, caplog: pytest.LogCaptureFixture
) -> None:
    add_feedback(impatient.engine)
    window = open_window(impatient)
    assert "ALERT nightly_training: 1 rows of feedback have arrived and wait" in caplog.text
    assert f"pg_terminate_backend({forgotten})" in caplog.text
    with pytest.raises(NothingToDoError, match=rf"is empty, but 1 rows .*process {forgotten}"):
        validate(impatient, window)


def test_a_session_that_holds_back_nothing_is_no_alert(
    impatient: Context, forgotten: int, caplog: pytest.LogCaptureFixture
) -> None:
    window = open_window(impatient)
    assert "ALERT" not in caplog.text
    with pytest.raises(NothingToDoError, match="no feedback arrived in window"):
        validate(impatient, window)


def test_a_clock_of_the_warehouse_that_is_wrong_raises_an_alert(
    warehouse: sa.Engine, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run("nightly_training", "nightly_training/1")
    open_window(Context(run, settings, warehouse))
    assert "ALERT" not in caplog.text
    slow = Context(run, settings, warehouse, lambda: datetime.now(UTC) - timedelta(days=1))
    open_window(slow)
    assert "the clock of the warehouse is 86,4" in caplog.text


def test_slates_are_judged_when_no_feedback_arrived(warehouse: sa.Engine, settings: Settings) -> None:
    with warehouse.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO impressions (impression_id, user_id, item_ids, shown_at)"
            " VALUES ('s', 'u', '{}', now())"
        )
    context = Context(Run("nightly_training", "nightly_training/1"), settings, warehouse)
    with pytest.raises(NothingToDoError, match="no feedback arrived in window"):
        validate(context, open_window(context))
    with warehouse.connect() as connection:
        held = connection.exec_driver_sql("SELECT reasons FROM quarantined_impressions").scalars().all()
    assert held == [["malformed_slate"]]
