import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copytree
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from recsys.columns import Columns
from recsys.settings import Settings
from recsys.snapshot import erasure as snapshot_erasure
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.read import read_snapshot
from recsys.snapshot.shards import SHARDS_FOLDER
from recsys.upkeep.erasure import erase_requested, find_receipt, request_erasure
from recsys.warehouse.ingest import ingest_file
from recsys.warehouse.pseudonyms import fill_user_keys, user_key
from recsys.warehouse.windows import Window, open_window, reconcile_window

START = datetime(2026, 3, 1, tzinfo=UTC)
USERS = ("anna", "ben", "cleo")


@pytest.fixture
def window(warehouse: sa.Engine) -> Window:
    """Three users with ten events each; every table with user ids has rows for all of them."""
    with warehouse.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO items (item_id, title) SELECT n, n FROM generate_series(0, 9) AS n")
        )
        connection.execute(
            sa.text(
                "INSERT INTO publications"
                " (run_key, model_version, scope, users, items, through_transaction_id)"
                " VALUES ('p', '1', 'all', 3, 10, 0)"
            )
        )
        for number, user in enumerate(USERS):
            connection.execute(
                sa.text(
                    """
                    INSERT INTO users (user_id) VALUES (:user);
                    INSERT INTO impressions (impression_id, user_id, item_ids, shown_at)
                    VALUES ('m-' || :user, :user, '{1}', now());
                    INSERT INTO recommendation_lists
                        (user_id, publication_id, model_version, item_ids, scores, propensities)
                    VALUES (:user, 1, '1', '{1}', '{1}', '{1}');
                    INSERT INTO user_vectors VALUES (:user, '1', '[1,2]');
                    """
                ),
                {"user": user},
            )
            for item in range(10):
                connection.execute(
                    sa.text(
                        "INSERT INTO feedback (user_id, item_id, event_type, occurred_at)"
                        " VALUES (:user, :item, 'like', :time)"
                    ),
                    {"user": user, "item": str(item), "time": START + timedelta(minutes=10 * item + number)},
                )
    opened = open_window(warehouse, "nightly", "1")
    with warehouse.begin() as connection:
        connection.execute(
            sa.text(
                "WITH moved AS (DELETE FROM feedback WHERE user_id = 'anna' AND item_id = '0' RETURNING *)"
                " INSERT INTO quarantine (feedback_id, window_id, reasons, user_id, transaction_id, feedback)"
                " SELECT feedback_id, :id, '{contradictory}', user_id, transaction_id, to_jsonb(moved)"
                " FROM moved"
            ),
            {"id": opened.window_id},
        )
    return opened


def everything(engine: sa.Engine) -> Iterator[tuple[str, str]]:
    """Yield each row of each table as text."""
    with engine.connect() as connection:
        tables = connection.scalars(
            sa.text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ).all()
        for table in tables:
            for row in connection.execute(sa.text(f"SELECT t::text FROM {table} AS t")):
                yield table, row[0]


def snapshot_keys(settings: Settings, uri: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for key in read_snapshot(uri).interactions([Columns.USER_KEY])[Columns.USER_KEY].to_pylist():
        counts[key] = counts.get(key, 0) + 1
    return counts


def test_nothing_is_left_of_the_user_and_other_users_stay(
    warehouse: sa.Engine, settings: Settings, window: Window
) -> None:
    taken = take_full_snapshot(warehouse, window, settings)
    keys = {user: user_key(user, settings.require_pseudonym_key()) for user in USERS}
    request_id = request_erasure(warehouse, "anna")
    (receipt,) = erase_requested(warehouse, settings.snapshots)
    assert receipt.request_id == request_id
    assert receipt.rows_removed == {
        "feedback": 9,
        "retired_feedback": 0,
        "quarantine": 1,
        "impressions": 1,
        "recommendation_lists": 1,
        "user_vectors": 1,
        "comment_sentiment": 0,
        "item_phrases": 0,
        "users": 1,
    }
    assert (receipt.snapshots_rewritten, receipt.snapshot_rows_removed) == (1, 9)
    for table, text in everything(warehouse):
        assert "anna" not in text, table
        assert keys["anna"] not in text, table
    for path in Path(settings.snapshots).rglob("*"):
        assert not path.is_file() or keys["anna"].encode() not in path.read_bytes()
    assert snapshot_keys(settings, taken.uri) == {keys["ben"]: 10, keys["cleo"]: 10}
    assert json.loads(receipt.model_dump_json())["rows_removed"]["feedback"] == 9


def test_comment_averages_that_include_the_user_are_removed_and_others_stay(
    warehouse: sa.Engine, settings: Settings, window: Window
) -> None:
    with warehouse.begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE feedback SET comment = 'good' WHERE user_id = 'anna' AND item_id = '1';"
                "UPDATE feedback SET comment = 'bad' WHERE user_id <> 'anna' AND item_id = '2';"
                "INSERT INTO comment_sentiment"
                " (item_id, model_version, comments, average_value, average_sentiment)"
                " VALUES ('1', '3', 5, 0.5, 0.2), ('2', '3', 5, 0.5, 0.2)"
            )
        )
    request_erasure(warehouse, "anna")
    (receipt,) = erase_requested(warehouse, settings.snapshots)
    assert receipt.rows_removed["comment_sentiment"] == 1
    with warehouse.connect() as connection:
        assert connection.scalars(sa.text("SELECT item_id FROM comment_sentiment")).all() == ["2"]


def test_the_rewritten_snapshot_is_consistent_and_its_old_reference_still_opens_it(
    warehouse: sa.Engine, settings: Settings, window: Window
) -> None:
    taken = take_full_snapshot(warehouse, window, settings)
    before = read_snapshot(taken).manifest
    request_erasure(warehouse, "anna")
    erase_requested(warehouse, settings.snapshots)
    after = read_snapshot(taken)
    assert after.manifest.erased_from == (taken.digest,)
    assert (after.manifest.rows, after.manifest.users) == (20, 2)
    assert sum(after.manifest.rows_by_purpose.values()) == 20
    times = after.interactions([Columns.OCCURRED_AT])[Columns.OCCURRED_AT].to_pylist()
    assert after.manifest.held_out_rows == sum(time >= before.held_out_from for time in times)
    with warehouse.connect() as connection:
        row = connection.execute(sa.text("SELECT digest, rows FROM snapshots")).one()
    assert (row.digest, row.rows) == (after.manifest.digest, 20)


def test_windows_still_reconcile_after_an_erasure(
    warehouse: sa.Engine, settings: Settings, window: Window
) -> None:
    request_erasure(warehouse, "anna")
    erase_requested(warehouse, settings.snapshots)
    result = reconcile_window(warehouse, window.window_id)
    assert (result.arrived, result.valid, result.quarantined, result.erased) == (30, 20, 0, 10)
    assert result.balanced
    assert open_window(warehouse, "another", "1").arrived == 30


def test_a_second_request_joins_the_first_and_consent_ends_at_once(
    warehouse: sa.Engine, window: Window
) -> None:
    assert request_erasure(warehouse, "anna") == request_erasure(warehouse, "anna")
    with warehouse.connect() as connection:
        assert not connection.scalar(sa.text("SELECT consent FROM users WHERE user_id = 'anna'"))


def test_an_unknown_user_gets_an_empty_receipt(warehouse: sa.Engine, settings: Settings) -> None:
    request_erasure(warehouse, "nobody")
    (receipt,) = erase_requested(warehouse, settings.snapshots)
    assert set(receipt.rows_removed.values()) == {0}
    assert erase_requested(warehouse, settings.snapshots) == []


def test_the_next_call_completes_an_erasure_killed_between_tables_and_files(
    warehouse: sa.Engine, settings: Settings, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = take_full_snapshot(warehouse, window, settings)
    request_erasure(warehouse, "anna")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    for step in ("erase_from_snapshots", "_remove_unlisted"):
        with monkeypatch.context() as patch:
            patch.setattr(snapshot_erasure, step, killed)
            with pytest.raises(KeyboardInterrupt):
                erase_requested(warehouse, settings.snapshots)
    (receipt,) = erase_requested(warehouse, settings.snapshots)
    assert receipt.rows_removed["feedback"] == 9
    assert user_key("anna", settings.require_pseudonym_key()) not in snapshot_keys(settings, taken.uri)
    assert len(list(Path(taken.uri, "interactions").iterdir())) == 1


def test_a_request_stays_open_while_a_snapshot_that_may_contain_the_user_is_written(
    warehouse: sa.Engine, settings: Settings, window: Window
) -> None:
    unfinished = Path(settings.snapshots) / "full" / ".unfinished-2-abc-12345678"
    unfinished.mkdir(parents=True)
    request_erasure(warehouse, "anna")
    assert erase_requested(warehouse, settings.snapshots) == []
    unfinished.rmdir()
    (receipt,) = erase_requested(warehouse, settings.snapshots)
    assert receipt.rows_removed["feedback"] == 9


def test_a_request_stays_open_while_a_fine_tune_has_events_on_disk(
    warehouse: sa.Engine, settings: Settings, window: Window
) -> None:
    shards = settings.runs / "full" / "run" / SHARDS_FOLDER
    shards.mkdir(parents=True)
    request_erasure(warehouse, "anna")
    assert erase_requested(warehouse, settings.snapshots, runs=settings.runs) == []
    shards.rmdir()
    (receipt,) = erase_requested(warehouse, settings.snapshots, runs=settings.runs)
    assert receipt.rows_removed["feedback"] == 9


def test_two_erasures_at_once_leave_neither_user_and_every_snapshot_readable(
    warehouse: sa.Engine, settings: Settings, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = take_full_snapshot(warehouse, window, settings)
    keys = {user: user_key(user, settings.require_pseudonym_key()) for user in USERS}
    both = Barrier(2)
    rewrite = snapshot_erasure._without

    def meet(*arguments: Any) -> Any:
        changed = rewrite(*arguments)
        with suppress(BrokenBarrierError):  # only one of the two is here at a time
            both.wait(timeout=0.5)
        return changed

    monkeypatch.setattr(snapshot_erasure, "_without", meet)

    def forget(user: str) -> int:
        request_id = request_erasure(warehouse, user)
        erase_requested(warehouse, settings.snapshots)
        return request_id

    with ThreadPoolExecutor(2) as pool:
        request_ids = list(pool.map(forget, ["anna", "ben"]))
    assert snapshot_keys(settings, taken.uri) == {keys["cleo"]: 10}
    receipts = [find_receipt(warehouse, request_id) for request_id in request_ids]
    assert [receipt and receipt.snapshot_rows_removed for receipt in receipts] == [9, 10]
    for path in Path(settings.snapshots).rglob("*.parquet"):
        assert keys["anna"].encode() not in path.read_bytes()
        assert keys["ben"].encode() not in path.read_bytes()


def test_no_receipt_is_written_when_the_lock_was_lost_on_the_way(
    warehouse: sa.Engine, settings: Settings, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_full_snapshot(warehouse, window, settings)
    request_id = request_erasure(warehouse, "anna")
    erase = snapshot_erasure.erase_from_snapshots

    def erase_and_lose_the_connection(*arguments: Any) -> Any:
        erased = erase(*arguments)
        with warehouse.begin() as connection:
            connection.execute(
                sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
                    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                )
            )
        return erased

    with monkeypatch.context() as patch:
        patch.setattr(snapshot_erasure, "erase_from_snapshots", erase_and_lose_the_connection)
        with pytest.raises(OperationalError):
            erase_requested(warehouse, settings.snapshots)
    assert find_receipt(warehouse, request_id) is None
    (receipt,) = erase_requested(warehouse, settings.snapshots)
    assert receipt.request_id == request_id


def test_a_snapshot_that_finishes_during_the_erasure_is_searched_too(
    warehouse: sa.Engine, settings: Settings, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = take_full_snapshot(warehouse, window, settings)
    late = Path(taken.uri).with_name("late")
    rewrite = snapshot_erasure._without

    def finish_another(*arguments: Any) -> Any:
        if not late.exists():
            copytree(taken.uri, late)
        return rewrite(*arguments)

    monkeypatch.setattr(snapshot_erasure, "_without", finish_another)
    request_erasure(warehouse, "anna")
    (receipt,) = erase_requested(warehouse, settings.snapshots)
    assert receipt.snapshots_rewritten == 2
    assert user_key("anna", settings.require_pseudonym_key()) not in snapshot_keys(settings, str(late))


def test_a_request_waits_for_a_damaged_snapshot_until_housekeeping_removes_it(
    warehouse: sa.Engine, settings: Settings, window: Window, caplog: pytest.LogCaptureFixture
) -> None:
    taken = take_full_snapshot(warehouse, window, settings)
    part = Path(taken.uri, "interactions", "part-00000.parquet")
    part.write_bytes(part.read_bytes()[:100])
    request_id = request_erasure(warehouse, "anna")
    assert erase_requested(warehouse, settings.snapshots) == []
    assert str(part) in caplog.text
    messages: list[str] = []
    (receipt,) = erase_requested(warehouse, settings.snapshots, on_damage=messages.append)
    assert receipt.request_id == request_id
    assert [str(part) in message for message in messages] == [True]
    assert not Path(taken.uri).exists()


def test_an_erased_user_stays_away_when_the_same_file_is_loaded_or_an_application_adds_them(
    warehouse: sa.Engine, settings: Settings, window: Window, tmp_path: Path
) -> None:
    request_erasure(warehouse, "anna")
    erase_requested(warehouse, settings.snapshots, tombstone_key=settings.require_pseudonym_key)
    for table, text in everything(warehouse):
        assert "anna" not in text, table
        assert user_key("anna", settings.require_pseudonym_key()) not in text, table
    users = tmp_path / "users.csv"
    users.write_text("user_id,consent\nanna,true\n")
    summary = ingest_file(warehouse, "users", users, tombstone_keys=settings.tombstone_keys())
    assert (summary.inserted, summary.of_erased_users) == (0, 1)
    with warehouse.begin() as connection:
        connection.execute(sa.text("INSERT INTO users (user_id) VALUES ('anna'), ('dora')"))
    fill_user_keys(warehouse, settings.require_pseudonym_key())
    with warehouse.connect() as connection:
        consent = connection.execute(sa.text("SELECT user_id, consent FROM users ORDER BY user_id")).all()
    assert [tuple(row) for row in consent] == [
        ("anna", False), ("ben", True), ("cleo", True), ("dora", True)
    ]  # fmt: skip
