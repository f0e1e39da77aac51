"""Months of feedback are retired as a whole, and nothing that needs them loses data."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from recsys.errors import ServiceUnavailableError
from recsys.settings import Settings
from recsys.upkeep.erasure import erase_requested, request_erasure
from recsys.upkeep.housekeeping import keep_house
from recsys.validation.quarantine import list_quarantined, quarantine_window, release
from recsys.validation.rules import row_rules
from recsys.warehouse import partitions
from recsys.warehouse.partitions import ensure_months, retire_months
from recsys.warehouse.roles import ANALYST, PIPELINE, WRITER, grant_roles
from recsys.warehouse.windows import Window, open_window, reconcile_window

OLD = datetime(2024, 1, 1, tzinfo=UTC)
NAME = "feedback_2024_01"
INSERT = sa.text(
    "INSERT INTO feedback (event_id, user_id, item_id, event_type, occurred_at)"
    " VALUES (:id, :user, 'i', 'like', :at)"
)


def add(engine: sa.Engine, event_id: str, user: str = "ann", at: datetime = OLD) -> None:
    with engine.begin() as connection:
        connection.execute(INSERT, {"id": event_id, "user": user, "at": at})


def write(engine: sa.Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)


def ids(engine: sa.Engine, table: str) -> list[str]:
    with engine.connect() as connection:
        return sorted(connection.exec_driver_sql(f"SELECT event_id FROM {table}").scalars())


def months(engine: sa.Engine) -> set[str]:
    return set(sa.inspect(engine).get_table_names(schema="partitions"))


def handle(engine: sa.Engine, run_key: str, consumer: str = "nightly") -> Window:
    """Open a window and record that its validation passed."""
    window = open_window(engine, consumer, run_key)
    write(
        engine,
        "INSERT INTO validation_results (window_id, expectation, success, severity, observed, expected)"
        f" VALUES ({window.window_id}, 'valid_share', true, 'critical', '1', '1')",
    )
    return window


def promote(engine: sa.Engine, window: Window, occurred_before: str) -> None:
    """Make a model champion that was trained on a window's feedback from before a moment."""
    write(
        engine,
        f"""
        INSERT INTO promotion_ledger
            (action, model_version, champion_sequence, reason, explanation, actor, run_key)
        VALUES ('promote', '{window.window_id}', {window.window_id}, 'better', 'It is.', 't',
            '{window.run_key}');
        INSERT INTO snapshots
            (window_id, kind, uri, digest, rows, trained_transaction_id, trained_occurred_before)
        VALUES ({window.window_id}, 'full', '{window.run_key}', '', 1,
            {window.upper_transaction_id}, '{occurred_before}')
        """,
    )


@pytest.fixture
def shop(warehouse: sa.Engine) -> sa.Engine:
    """Two events of January 2024 and one of today, by two users."""
    write(
        warehouse,
        "INSERT INTO items (item_id, title) VALUES ('i', 'i');"
        "INSERT INTO users (user_id) VALUES ('ann'), ('bob')",
    )
    ensure_months(warehouse, [OLD])
    add(warehouse, "a")
    add(warehouse, "b", "bob")
    add(warehouse, "today", at=datetime.now(UTC))
    return warehouse


@pytest.fixture
def retired(shop: sa.Engine) -> tuple[sa.Engine, Window]:
    """The shop after January 2024 was read by a window and retired, with that window."""
    window = handle(shop, "1")
    assert retire_months(shop, 6) == 1
    return shop, window


def test_a_month_that_every_consumer_has_read_is_retired_as_a_whole(
    retired: tuple[sa.Engine, Window],
) -> None:
    shop, _ = retired
    assert NAME not in months(shop)
    assert ids(shop, "feedback") == ["today"]
    assert ids(shop, "retired.feedback") == ids(shop, f"retired.{NAME}") == ["a", "b"]
    assert retire_months(shop, 6) == 0


def test_housekeeping_retires_only_months_older_than_the_setting(shop: sa.Engine, settings: Settings) -> None:
    handle(shop, "1")

    def keep(feedback_months: int | None) -> int:
        retention = settings.retention.model_copy(update={"feedback_months": feedback_months})
        return keep_house(
            shop, settings.model_copy(update={"retention": retention}), datetime.now(UTC)
        ).partitions_retired

    assert settings.retention.feedback_months is None
    assert [keep(None), keep(1_200), keep(6), keep(6)] == [0, 0, 1, 0]


def test_the_end_of_a_month_decides_its_age(shop: sa.Engine) -> None:
    handle(shop, "1")
    now = datetime.now(UTC)
    whole_months = 12 * (now.year - 2024) + now.month - 2  # since the first of February
    assert retire_months(shop, whole_months + 1) == 0
    assert retire_months(shop, whole_months) == 1


def test_rows_that_no_window_or_not_every_consumers_window_has_handled_stay(
    shop: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert retire_months(shop, 6) == 0
    assert "no window has been opened yet" in caplog.text
    handle(shop, "1")
    handle(shop, "1", "hourly")
    add(shop, "late")
    handle(shop, "2")
    assert retire_months(shop, 6) == 0
    assert "hourly has opened no window over its latest rows" in caplog.text
    handle(shop, "2", "hourly")
    assert retire_months(shop, 6) == 1


def test_rows_of_a_window_whose_validation_has_not_passed_stay(
    shop: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    failed = handle(shop, "1")
    write(shop, "UPDATE validation_results SET success = false")
    assert retire_months(shop, 6) == 0
    assert f"nightly has not validated window {failed.window_id}" in caplog.text
    handle(shop, "2")  # validating a window also handles the earlier ones
    assert retire_months(shop, 6) == 1


def test_a_month_with_rows_held_in_quarantine_stays(shop: sa.Engine, settings: Settings) -> None:
    with shop.begin() as connection:
        connection.execute(INSERT, {"id": "of nobody", "user": "nobody", "at": OLD})
    window = handle(shop, "1")
    with shop.begin() as connection:
        assert quarantine_window(connection, window, row_rules(), settings.validation) == 1
    assert retire_months(shop, 6) == 0
    write(shop, "INSERT INTO users (user_id) VALUES ('nobody')")
    (row,) = list_quarantined(shop)
    release(shop, row.quarantine_id)
    assert retire_months(shop, 6) == 0  # it is in the next window now
    handle(shop, "2")
    assert retire_months(shop, 6) == 1
    assert reconcile_window(shop, window.window_id).balanced


def test_a_month_that_the_champion_has_not_trained_on_stays(
    shop: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    # Events from the middle of the month on were held out: the next update trains on them.
    promote(shop, handle(shop, "1"), "2024-01-15")
    assert retire_months(shop, 6) == 0
    assert "has not trained on all of it" in caplog.text
    promote(shop, handle(shop, "2"), "2024-02-01")
    add(shop, "late")
    handle(shop, "3")
    assert retire_months(shop, 6) == 0
    promote(shop, handle(shop, "4"), "2024-02-01")
    assert retire_months(shop, 6) == 1


def test_windows_add_up_after_a_month_was_retired_erased_from_and_dropped(
    retired: tuple[sa.Engine, Window], settings: Settings
) -> None:
    shop, window = retired
    assert reconcile_window(shop, window.window_id).balanced
    request_erasure(shop, "bob")
    (receipt,) = erase_requested(shop, settings.snapshots)
    assert receipt.rows_removed["retired_feedback"] == 1
    assert ids(shop, "retired.feedback") == ["a"]
    found = reconcile_window(shop, window.window_id)
    assert (found.balanced, found.valid, found.erased) == (True, 2, 1)
    write(shop, f"SELECT drop_feedback_month('{OLD:%Y-%m-%d}')")
    assert ids(shop, "retired.feedback") == []
    found = reconcile_window(shop, window.window_id)
    assert (found.balanced, found.valid, found.erased) == (True, 2, 1)


def test_a_window_opened_after_a_month_was_retired_or_dropped_adds_up_too(
    retired: tuple[sa.Engine, Window],
) -> None:
    shop, _ = retired
    new = open_window(shop, "a new consumer", "1")
    assert reconcile_window(shop, new.window_id).balanced
    write(shop, f"SELECT drop_feedback_month('{OLD:%Y-%m-%d}')")
    newest = open_window(shop, "another new consumer", "1")
    found = [reconcile_window(shop, window.window_id) for window in (new, newest)]
    assert [(one.arrived, one.valid) for one in found] == [(3, 3), (1, 1)]


def test_late_feedback_of_a_retired_month_is_stored_and_in_a_window(
    retired: tuple[sa.Engine, Window],
) -> None:
    shop, _ = retired
    add(shop, "late")
    ensure_months(shop, [OLD])
    add(shop, "later")
    assert NAME in months(shop)
    assert ids(shop, f"partitions.{NAME}") == ["late", "later"]
    assert handle(shop, "2").arrived == 2
    assert retire_months(shop, 6) == 0  # one part of a month at a time
    write(shop, f"SELECT drop_feedback_month('{OLD:%Y-%m-%d}')")
    assert retire_months(shop, 6) == 1
    write(shop, f"SELECT drop_feedback_month('{OLD:%Y-%m-%d}')")
    for window_id in (1, 2):
        assert reconcile_window(shop, window_id).balanced


def test_an_event_of_a_retired_month_that_comes_again_is_a_duplicate(
    retired: tuple[sa.Engine, Window], settings: Settings
) -> None:
    shop, _ = retired
    add(shop, "a")
    add(shop, "c", at=OLD + timedelta(days=1))
    window = open_window(shop, "nightly", "2")
    with shop.begin() as connection:
        assert quarantine_window(connection, window, row_rules(), settings.validation) == 1
    found = reconcile_window(shop, window.window_id)
    assert (found.valid, found.duplicates, found.balanced) == (1, 1, True)


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_restored_month_includes_feedback_that_arrived_late(
    retired: tuple[sa.Engine, Window], made_anew: bool
) -> None:
    shop, window = retired
    add(shop, "late")
    if made_anew:
        ensure_months(shop, [OLD])
        add(shop, "later")
    before = ids(shop, "feedback")
    write(shop, f"SELECT restore_feedback_month('{OLD:%Y-%m-%d}')")
    assert ids(shop, "feedback") == sorted([*before, "a", "b"])
    assert ids(shop, "partitions.feedback_default") == ids(shop, "retired.feedback") == []
    assert reconcile_window(shop, window.window_id).balanced
    add(shop, "new")
    assert "new" in ids(shop, f"partitions.{NAME}")
    with pytest.raises(sa.exc.IntegrityError, match="duplicate key"):
        add(shop, "a")
    handle(shop, "2")
    assert retire_months(shop, 6) == 1
    assert len(ids(shop, "retired.feedback")) == len(before) + 2  # without today's, with the new one


def test_a_writer_of_the_month_delays_its_retirement_and_nobody_waits_long(
    shop: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "_PAUSE_SECONDS", 0.1)
    handle(shop, "1")
    with shop.connect() as writer:
        writer.execute(INSERT, {"id": "on its way", "user": "ann", "at": OLD})
        with pytest.raises(ServiceUnavailableError, match="held feedback") as caught:
            retire_months(shop, 6, attempts=2)
        assert caught.value.retryable
        writer.commit()
    assert retire_months(shop, 6) == 0  # the row arrived after the window
    assert ids(shop, f"partitions.{NAME}") == ["a", "b", "on its way"]
    handle(shop, "2")
    assert retire_months(shop, 6) == 1


def test_an_interrupted_retirement_changes_nothing(shop: sa.Engine) -> None:
    handle(shop, "1")
    with shop.connect() as connection:
        assert (
            connection.execute(
                sa.text("SELECT retire_feedback_month(:month)"), {"month": OLD.date()}
            ).scalar()
            is None
        )
        backend = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        write(shop, f"SELECT pg_terminate_backend({backend})")
        connection.invalidate()
    assert ids(shop, f"partitions.{NAME}") == ["a", "b"]
    assert ids(shop, "retired.feedback") == []
    assert retire_months(shop, 6) == 1


def test_retired_months_can_only_be_counted_and_erased_from(
    retired: tuple[sa.Engine, Window],
) -> None:
    shop, _ = retired

    def allowed(role: str, statement: str) -> bool:
        with shop.connect() as connection:
            connection.exec_driver_sql(f"SET ROLE {role}")
            try:
                connection.exec_driver_sql(statement)
            except sa.exc.DBAPIError as error:
                if getattr(error.orig, "pgcode", None) != "42501":  # insufficient_privilege
                    raise
                return False
            return True

    for role in (WRITER, ANALYST):
        assert not allowed(role, "SELECT * FROM retired.feedback")
        assert not allowed(role, f"SELECT * FROM retired.{NAME}")
        assert not allowed(role, f"SELECT retire_feedback_month('{OLD:%Y-%m-%d}')")
    assert allowed(PIPELINE, "SELECT * FROM retired.feedback")
    assert allowed(PIPELINE, "DELETE FROM retired.feedback")
    for statement in (
        f"SELECT * FROM retired.{NAME}",
        "UPDATE retired.feedback SET user_id = ''",
        "DELETE FROM dropped_feedback",
        f"SELECT drop_feedback_month('{OLD:%Y-%m-%d}')",
        f"SELECT restore_feedback_month('{OLD:%Y-%m-%d}')",
    ):
        assert not allowed(PIPELINE, statement)


def test_the_pipeline_retires_erases_and_reconciles_with_its_own_rights(
    shop: sa.Engine, settings: Settings
) -> None:
    window = handle(shop, "1")
    with shop.begin() as connection:
        grant_roles(connection)  # as `recsys migrate` does after the migrations
    pipeline = sa.create_engine(shop.url, connect_args={"options": f"-c role={PIPELINE}"})
    assert retire_months(pipeline, 6) == 1
    request_erasure(pipeline, "bob")
    (receipt,) = erase_requested(pipeline, settings.snapshots)
    assert receipt.rows_removed["retired_feedback"] == 1
    assert reconcile_window(pipeline, window.window_id).balanced
    pipeline.dispose()
