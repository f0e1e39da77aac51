import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from recsys.commands.main import app
from recsys.warehouse.analytics import install_analytics


@pytest.fixture(autouse=True)
def environment(warehouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_WAREHOUSE_URL", warehouse_url)
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RECSYS_PSEUDONYM_KEY", "a key that only tests use")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_forgetting_a_user_prints_a_receipt_without_the_user(warehouse: sa.Engine) -> None:
    with warehouse.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO users (user_id) VALUES ('anna');"
            "INSERT INTO feedback (user_id, item_id, event_type) VALUES ('anna', 'i', 'like')"
        )
    printed = run("forget", "anna")
    assert json.loads(printed)["rows_removed"]["feedback"] == 1
    assert "anna" not in printed


def test_forgetting_a_session_that_nobody_has_joined(warehouse: sa.Engine) -> None:
    with warehouse.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO users (user_id) VALUES ('anna');"
            "INSERT INTO feedback (session_id, item_id, event_type)"
            " VALUES ('s1', 'i', 'like'), ('s2', 'i', 'like');"
            "SELECT join_session('s2', 'anna')"
        )
    assert json.loads(run("forget", "--session", "s1"))["rows_removed"]["feedback"] == 1
    joined = CliRunner().invoke(app, ["forget", "--session", "s2"])
    assert "belongs to a user since a login" in str(joined.exception)
    neither = CliRunner().invoke(app, ["forget"])
    assert "either USER or --session" in str(neither.exception)
    with warehouse.connect() as connection:
        assert connection.exec_driver_sql("SELECT user_id FROM feedback").scalars().all() == ["anna"]


def test_forgetting_during_a_snapshot_says_that_the_request_stays_open(tmp_path: Path) -> None:
    (tmp_path / "home" / "snapshots" / "full" / ".unfinished-1-a-b").mkdir(parents=True)
    assert "the request is still open" in run("forget", "anna")


def test_after_restore_prints_the_first_new_transaction_id(warehouse: sa.Engine) -> None:
    with warehouse.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO windows (consumer, run_key, lower_transaction_id, upper_transaction_id, arrived,"
            " opened_at) VALUES ('nightly', 'before', 0, 5000000000, 0, now() - interval '1 hour');"
            "INSERT INTO feedback (user_id, item_id, event_type) VALUES ('u', 'i', 'like')"
        )
    lines = run("after-restore").splitlines()
    assert lines[0].startswith("New feedback gets transaction ids from 500000000")
    assert lines[1:] == ["Moved 1 rows written since the restore to the next window."]


def test_analytics_are_computed_anew_on_demand(warehouse: sa.Engine) -> None:
    install_analytics(warehouse)
    assert run("recompute-analytics").endswith("views are computed anew.\n")


def test_rotate_keys_says_what_to_run_next(warehouse: sa.Engine) -> None:
    with warehouse.begin() as connection:
        connection.exec_driver_sql("INSERT INTO users (user_id, user_key) VALUES ('u', 'old')")
    assert run("rotate-keys") == (
        "Gave 1 users new hashes and deleted 0 snapshots with old hashes. Run nightly_training next.\n"
    )


def test_a_forgotten_user_is_not_loaded_until_readmitted(tmp_path: Path) -> None:
    run("forget", "anna")
    users = tmp_path / "users.csv"
    users.write_text("user_id\nanna\nben\n")
    result = CliRunner().invoke(app, ["ingest", "users", str(users)])
    assert result.exit_code == 1
    assert "of users who were erased on request: 1; `recsys readmit USER`" in result.output
    assert "loaded again" in run("readmit", "anna")
    assert "was not erased" in run("readmit", "anna")
    assert "inserted               1" in run("ingest", "users", str(users))
