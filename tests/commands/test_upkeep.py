from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.commands.upkeep import after_restore, rotate_keys


@pytest.fixture(autouse=True)
def environment(warehouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_WAREHOUSE_URL", warehouse_url)
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path))
    monkeypatch.setenv("RECSYS_PSEUDONYM_KEY", "a key that only tests use")


def test_after_restore_says_where_the_counting_goes_on(
    warehouse: sa.Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    with warehouse.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO windows (consumer, run_key, lower_transaction_id, upper_transaction_id, arrived,"
            " opened_at) VALUES ('nightly', 'before', 0, 5000000000, 0, now() - interval '1 hour');"
            "INSERT INTO feedback (user_id, item_id, event_type) VALUES ('u', 'i', 'like')"
        )
    after_restore()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("New feedback gets transaction ids from 500000000")
    assert lines[1:] == ["1 rows written since the restore were moved to the next window."]


def test_rotate_keys_says_what_to_do_next(warehouse: sa.Engine, capsys: pytest.CaptureFixture[str]) -> None:
    with warehouse.begin() as connection:
        connection.exec_driver_sql("INSERT INTO users (user_id, user_key) VALUES ('u', 'old')")
    rotate_keys()
    assert capsys.readouterr().out == (
        "1 users have new names; 0 snapshots with the old ones were removed. Run nightly_training next.\n"
    )
