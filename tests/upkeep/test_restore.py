"""Restore a dump into a new cluster: the loop continues, and no row is lost or read twice."""

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.errors import WarehouseError
from recsys.local.postgres import SUPERUSER, PostgresServer, postgres_binary
from recsys.upkeep.restore import continue_after_restore
from recsys.warehouse.analytics import install_analytics, refresh_analytics
from recsys.warehouse.migrate import upgrade_warehouse
from recsys.warehouse.roles import ANALYST, PIPELINE, WRITER
from recsys.warehouse.windows import Window, open_window, reconcile_window

CONSUMERS = ("nightly", "hourly")


def write(engine: sa.Engine, *event_ids: str) -> None:
    """Write events, each in its own transaction."""
    for event_id in event_ids:
        with engine.begin() as connection:
            connection.execute(
                sa.text(
                    "INSERT INTO feedback (event_id, user_id, item_id, event_type, occurred_at)"
                    " VALUES (:event_id, 'u', 'i', 'like', '2026-03-01T00:00Z')"
                ),
                {"event_id": event_id},
            )


def event_ids(engine: sa.Engine, window: Window) -> list[str]:
    """Return the event ids in a window."""
    with engine.connect() as connection:
        return list(
            connection.scalars(
                sa.text(
                    "SELECT event_id FROM feedback WHERE transaction_id >= :lower AND transaction_id < :upper"
                    " ORDER BY event_id"
                ),
                {"lower": window.lower_transaction_id, "upper": window.upper_transaction_id},
            )
        )


def consume_transaction_ids(engine: sa.Engine, transactions: int) -> None:
    """Consume transaction ids, as if the cluster had run for a long time."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(
            f"DO $$ BEGIN FOR n IN 1..{transactions} LOOP"
            " PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
        )


def counter(engine: sa.Engine) -> int:
    with engine.begin() as connection:
        return int(connection.scalar(sa.text("SELECT pg_current_xact_id()::text::bigint")) or 0)


def postgres_client(name: str, *arguments: str, server: PostgresServer) -> None:
    environment = {"PGHOST": str(server.socket_dir), "PGUSER": SUPERUSER, "PATH": os.defpath}
    done = subprocess.run(
        [str(postgres_binary(name)), *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def source(warehouse: sa.Engine) -> sa.Engine:
    """A warehouse on an old cluster where two consumers have opened windows."""
    consume_transaction_ids(warehouse, 5_000)
    install_analytics(warehouse)
    write(warehouse, "a1", "a2", "a3")
    for consumer in CONSUMERS:
        open_window(warehouse, consumer, "before 1")
    write(warehouse, "b1", "b2")
    open_window(warehouse, "hourly", "before 2")
    write(warehouse, "c1")  # not in any window yet
    return warehouse


@pytest.fixture
def restored(source: sa.Engine, postgres: PostgresServer, tmp_path: Path) -> Iterator[sa.Engine]:
    """That warehouse dumped and restored into a new cluster, as in docs/operations.md."""
    new = PostgresServer(tmp_path / "new", settings={"fsync": "off"})
    new.start()
    try:
        dump = str(tmp_path / "warehouse.dump")
        postgres_client(
            "pg_dump", "--format=custom", f"--file={dump}", str(source.url.database), server=postgres
        )
        new.create_database("recsys")
        restore = ("--no-owner", "--no-privileges", "--exit-on-error", "--dbname=recsys", dump)
        postgres_client("pg_restore", *restore, server=new)
        engine = sa.create_engine(new.url("recsys"))
        assert counter(engine) < counter(source)
        yield engine
        engine.dispose()
    finally:
        new.stop()


@pytest.fixture
def retired(source: sa.Engine) -> None:
    """A month of the old warehouse that all consumers have processed and that is retired."""
    with source.begin() as connection:
        connection.exec_driver_sql(
            "SELECT ensure_feedback_partitions('2024-01-01Z', '2024-01-01Z');"
            "INSERT INTO feedback (event_id, user_id, item_id, event_type, occurred_at)"
            " VALUES ('old1', 'u', 'i', 'like', '2024-01-05Z')"
        )
    for consumer in CONSUMERS:
        open_window(source, consumer, "before 3")
    with source.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO validation_results"
            " (window_id, expectation, success, severity, observed, expected)"
            " SELECT window_id, 'valid_share', true, 'critical', '1', '1' FROM windows"
        )
        assert connection.exec_driver_sql("SELECT retire_feedback_month('2024-01-01')").scalar() is None


def test_retired_months_are_restored_and_the_pipeline_counts_and_erases_there(
    retired: None, restored: sa.Engine
) -> None:
    continue_after_restore(restored)
    with restored.begin() as connection:
        window_ids = connection.exec_driver_sql("SELECT window_id FROM windows").scalars().all()
    assert all(reconcile_window(restored, window_id).balanced for window_id in window_ids)
    with restored.begin() as connection:
        connection.exec_driver_sql(f"SET ROLE {PIPELINE}")
        gone = connection.exec_driver_sql(
            "DELETE FROM retired.feedback WHERE user_id = 'u' RETURNING event_id"
        )
        assert gone.scalars().all() == ["old1"]


def test_new_rows_are_in_exactly_one_next_window_per_consumer(restored: sa.Engine) -> None:
    report = continue_after_restore(restored)
    assert (report.rows_moved, report.roles_missing) == (0, [])
    write(restored, "d1", "d2")
    nightly, hourly = (open_window(restored, consumer, "after") for consumer in CONSUMERS)
    assert event_ids(restored, nightly) == ["b1", "b2", "c1", "d1", "d2"]
    assert event_ids(restored, hourly) == ["c1", "d1", "d2"]
    assert nightly.arrived == 5
    for window_id in range(1, hourly.window_id + 1):
        assert reconcile_window(restored, window_id).balanced
    write(restored, "e1")
    assert event_ids(restored, open_window(restored, "nightly", "after that")) == ["e1"]


def test_a_run_from_before_the_restore_finds_its_window(restored: sa.Engine, source: sa.Engine) -> None:
    continue_after_restore(restored)
    assert open_window(restored, "nightly", "before 1") == open_window(source, "nightly", "before 1")


def test_without_the_command_no_window_opens_and_the_error_names_it(restored: sa.Engine) -> None:
    write(restored, "d1")
    for consumer in CONSUMERS:
        with pytest.raises(WarehouseError, match="Run `recsys after-restore`"):
            open_window(restored, consumer, "after")


def test_rows_written_before_the_command_are_moved_to_the_next_window(restored: sa.Engine) -> None:
    write(restored, "early1", "early2")
    with restored.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO impressions (impression_id, user_id, item_ids, shown_at)"
            " VALUES ('s', 'u', '{i}', now())"
        )
    with pytest.raises(WarehouseError):
        open_window(restored, "hourly", "too early")  # because the scheduler was not paused
    report = continue_after_restore(restored)
    assert report.rows_moved == 2
    with restored.connect() as connection:
        moved = connection.scalar(sa.text("SELECT transaction_id FROM impressions"))
    assert moved == report.first_new_id
    write(restored, "d1")
    assert event_ids(restored, open_window(restored, "nightly", "after")) == [
        "b1",
        "b2",
        "c1",
        "d1",
        "early1",
        "early2",
    ]
    assert event_ids(restored, open_window(restored, "hourly", "after")) == ["c1", "d1", "early1", "early2"]


def test_a_second_call_changes_nothing(restored: sa.Engine) -> None:
    first = continue_after_restore(restored)
    write(restored, "d1")
    second = continue_after_restore(restored)
    assert (second.offset, second.rows_moved) == (first.offset, 0)
    assert event_ids(restored, open_window(restored, "hourly", "after")) == ["c1", "d1"]


def test_a_window_for_a_past_interval_is_empty(restored: sa.Engine) -> None:
    continue_after_restore(restored)
    past = datetime.now(UTC) - timedelta(days=400)
    window = open_window(restored, "nightly", "backfill", (past, past + timedelta(hours=1)))
    assert window.arrived == 0


def test_privileges_views_and_migrations_work_again(restored: sa.Engine) -> None:
    continue_after_restore(restored)
    upgrade_warehouse(restored.url.render_as_string(hide_password=False))
    assert install_analytics(restored) == []
    assert refresh_analytics(restored)
    with restored.connect() as connection:
        rights = connection.exec_driver_sql(
            """
            SELECT has_table_privilege('recsys_analyst', 'analytics.user_activity', 'SELECT'),
                has_table_privilege('recsys_analyst', 'feedback', 'SELECT'),
                has_column_privilege('recsys_writer', 'feedback', 'user_id', 'INSERT'),
                has_column_privilege('recsys_writer', 'feedback', 'transaction_id', 'INSERT'),
                has_function_privilege(
                    'public', 'ensure_feedback_partitions(timestamptz, timestamptz)', 'EXECUTE'
                )
            """
        ).one()
    assert tuple(rights) == (True, False, True, False, False)


def _rights(engine: sa.Engine, role: str) -> set[tuple[str, str]]:
    """Return the tables and views of a role with its rights."""
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT relname, privilege FROM pg_class CROSS JOIN"
                " unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS privilege"
                " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')"
                " AND has_table_privilege(:role, pg_class.oid, privilege)"
            ),
            {"role": role},
        )
        return {(row.relname, row.privilege) for row in rows}


# What new tables get by default and nobody needs.
_NOT_NEEDED = {
    ("alerts", "DELETE"),
    ("erased_users", "UPDATE"),
    ("model_versions", "DELETE"),
    *(
        (name, right)
        for name in ("rest_periods", "user_eligibility")
        for right in ("INSERT", "UPDATE", "DELETE")
    ),
    ("item_changes", "INSERT"),
    ("item_changes", "UPDATE"),
    ("interleaved_lists", "UPDATE"),
    ("shared_lists", "UPDATE"),
    *(("placements", right) for right in ("SELECT", "INSERT", "UPDATE", "DELETE")),
}


@pytest.mark.parametrize("role", [PIPELINE, WRITER, ANALYST])
def test_every_role_has_its_rights_on_all_tables_again(
    source: sa.Engine, restored: sa.Engine, role: str
) -> None:
    continue_after_restore(restored)
    assert _rights(source, role) - _rights(restored, role) <= _NOT_NEEDED
    assert _rights(restored, role) <= _rights(source, role)


def test_a_warehouse_that_was_not_restored_is_unchanged(source: sa.Engine) -> None:
    report = continue_after_restore(source)
    assert (report.offset, report.rows_moved) == (0, 0)
