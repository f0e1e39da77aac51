import errno
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.errors import ServiceUnavailableError
from recsys.settings import Settings
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.read import read_snapshot
from recsys.snapshot.reference import SnapshotRef
from recsys.snapshot.reservoir import write_reservoir
from recsys.snapshot.shards import SHARDS_FOLDER
from recsys.snapshot.snapshots_table import newest_trained_on
from recsys.upkeep import housekeeping
from recsys.upkeep.housekeeping import keep_house
from recsys.warehouse import partitions
from recsys.warehouse.partitions import ensure_ahead
from recsys.warehouse.windows import open_window
from tests.snapshot.warehouse_rows import add_feedback, add_items, add_users


def age(path: Path, days: float) -> None:
    moment = time.time() - days * 86_400
    for entry in (*path.rglob("*"), path):
        os.utime(entry, (moment, moment))


def write(engine: sa.Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(statement))


def test_a_quiet_day_changes_nothing(warehouse: sa.Engine, settings: Settings) -> None:
    keep_house(warehouse, settings, datetime.now(UTC))
    report = keep_house(warehouse, settings, datetime.now(UTC))
    assert all(value in (0, []) for value in vars(report).values())


def test_feedback_that_came_before_its_item_is_released_when_the_item_is_there(
    warehouse: sa.Engine, settings: Settings
) -> None:
    window = open_window(warehouse, "nightly", "1")
    write(
        warehouse,
        "INSERT INTO quarantine (feedback_id, window_id, reasons, user_id, transaction_id, feedback)"
        f" VALUES (1, {window.window_id}, '{{unknown_item}}', 'u', 1, jsonb_build_object('event_id', 'e',"
        " 'user_id', 'u', 'item_id', 'i', 'event_type', 'view', 'occurred_at', '2026-01-01Z'))",
    )
    write(warehouse, "INSERT INTO users (user_id) VALUES ('u')")
    first = keep_house(warehouse, settings, datetime.now(UTC))
    assert (first.rows_released, first.rows_held) == (0, 1)
    write(warehouse, "INSERT INTO items (item_id) VALUES ('i')")
    second = keep_house(warehouse, settings, datetime.now(UTC))
    assert (second.rows_released, second.rows_held) == (1, 0)


def test_partitions_are_made_ahead(warehouse: sa.Engine) -> None:
    before = sa.inspect(warehouse).get_table_names(schema="partitions")
    assert "feedback_default" in before
    made = ensure_ahead(warehouse, 8)
    assert made > 0
    assert len(sa.inspect(warehouse).get_table_names(schema="partitions")) == len(before) + made
    assert ensure_ahead(warehouse, 8) == 0


def test_a_long_reader_delays_new_partitions_but_not_writers(
    warehouse: sa.Engine,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(partitions, "_PAUSE_SECONDS", 0.1)
    later = housekeeping.PARTITIONS_AHEAD_MONTHS + 1
    with warehouse.connect() as reader:
        reader.execute(sa.text("SELECT count(*) FROM feedback"))
        with pytest.raises(ServiceUnavailableError, match="held partitions") as caught:
            ensure_ahead(warehouse, later, attempts=2)
        assert caught.value.retryable
        write(
            warehouse,
            "SET LOCAL lock_timeout = '5s';"
            "INSERT INTO feedback (user_id, item_id, event_type) VALUES ('u', 'i', 'like')",
        )
        monkeypatch.setattr(housekeeping, "PARTITIONS_AHEAD_MONTHS", later)
        report = keep_house(warehouse, settings, datetime.now(UTC))
    assert report.partitions_made == 1  # of impressions
    assert "ALERT the partition of feedback for the month" in caplog.text
    assert ensure_ahead(warehouse, later) > 0


def test_new_partitions_are_vacuumed_often_so_that_histories_are_read_from_the_index(
    warehouse: sa.Engine,
) -> None:
    ensure_ahead(warehouse, 8)
    query = (
        "SELECT reloptions FROM pg_class WHERE relnamespace = 'partitions'::regnamespace AND relkind = 'r'"
        " AND starts_with(relname, 'feedback_')"
    )
    with warehouse.connect() as connection:
        options = connection.scalars(sa.text(query)).all()
    assert all("autovacuum_vacuum_insert_scale_factor=0.02" in option for option in options)


def test_a_long_open_transaction_raises_an_alert_with_its_process(
    warehouse: sa.Engine, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    alerts = settings.alerts.model_copy(update={"max_open_transaction_minutes": 1e-6})
    impatient = settings.model_copy(update={"alerts": alerts})
    with warehouse.begin() as writer:
        insert = "INSERT INTO feedback (user_id, item_id, event_type) VALUES ('u', 'i', 'like')"
        writer.execute(sa.text(insert))
        process = writer.scalar(sa.text("SELECT pg_backend_pid()"))
        keep_house(warehouse, settings, datetime.now(UTC))
        assert "ALERT" not in caplog.text
        keep_house(warehouse, impatient, datetime.now(UTC))
        assert f"pg_terminate_backend({process})" in caplog.text
    caplog.clear()
    keep_house(warehouse, impatient, datetime.now(UTC))
    assert "ALERT" not in caplog.text


def test_a_window_whose_row_counts_do_not_match_is_reported(
    warehouse: sa.Engine, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    write(warehouse, "INSERT INTO feedback (user_id, item_id, event_type) VALUES ('u', 'i', 'like')")
    window = open_window(warehouse, "nightly", "1")
    assert keep_house(warehouse, settings, datetime.now(UTC)).windows_unbalanced == []
    write(warehouse, "DELETE FROM feedback")
    assert keep_house(warehouse, settings, datetime.now(UTC)).windows_unbalanced == [window.window_id]
    assert "do not match" in caplog.text


def test_erasure_requests_are_carried_out(warehouse: sa.Engine, settings: Settings) -> None:
    write(warehouse, "INSERT INTO erasure_requests (user_id) VALUES ('u')")
    report = keep_house(warehouse, settings, datetime.now(UTC))
    assert (report.erasures_done, report.erasures_waiting) == (1, 0)


def test_events_left_on_disk_by_a_killed_fine_tune_are_removed_before_erasure(
    warehouse: sa.Engine, settings: Settings
) -> None:
    add_users(warehouse, "u")
    write(warehouse, "INSERT INTO erasure_requests (user_id) VALUES ('u')")
    for run in ("killed", "running"):
        (settings.runs / "full" / run / SHARDS_FOLDER / "0").mkdir(parents=True)
        (settings.runs / "full" / run / SHARDS_FOLDER / "0" / "comments").write_text("a comment")
    age(settings.runs / "full" / "killed", 1.5)
    assert keep_house(warehouse, settings, datetime.now(UTC)).erasures_waiting == 1
    assert not (settings.runs / "full" / "killed" / SHARDS_FOLDER).exists()
    age(settings.runs / "full" / "running", 1.5)
    assert keep_house(warehouse, settings, datetime.now(UTC)).erasures_done == 1


def test_a_full_disk_stops_the_erasure_but_not_what_makes_room_for_it(
    warehouse: sa.Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    old = settings.runs / "micro" / "old"
    docs = settings.data_docs / "old"
    for folder in (old, docs):
        folder.mkdir(parents=True)
        age(folder, days=400)
    monkeypatch.setattr(housekeeping, "erase_everywhere", fail)
    with pytest.raises(OSError, match="No space left"):
        keep_house(warehouse, settings, datetime.now(UTC))
    assert not old.exists()
    assert not docs.exists()


def test_old_runs_and_unfinished_snapshots_are_removed_and_recent_ones_stay(
    warehouse: sa.Engine, settings: Settings
) -> None:
    for root in (settings.runs / "full", Path(settings.snapshots) / "full"):
        for name in (".unfinished-old", ".unfinished-recent"):
            (root / name).mkdir(parents=True)
            (root / name / "file").write_text("x")
        age(root / ".unfinished-old", 30)
    report = keep_house(warehouse, settings, datetime.now(UTC))
    assert (report.runs_removed, report.snapshots_removed) == (1, 1)
    for root in (settings.runs / "full", Path(settings.snapshots) / "full"):
        assert [path.name for path in root.iterdir()] == [".unfinished-recent"]


def test_old_snapshots_are_removed_except_the_latest_and_the_champions(
    warehouse: sa.Engine, settings: Settings
) -> None:
    add_items(warehouse, "a")
    add_users(warehouse, "ann")
    add_feedback(warehouse, [("ann", "a", minute) for minute in range(5)])

    def take(run_key: str) -> SnapshotRef:
        return take_full_snapshot(warehouse, open_window(warehouse, "nightly", run_key), settings)

    refs = [take(f"run {number}") for number in range(4)]
    write(
        warehouse,
        "INSERT INTO promotion_ledger "
        "(action, model_version, champion_sequence, reason, explanation, actor, run_key) "
        "VALUES ('promote', '1', 1, 'better', 'It is better.', 'test', 'run 0')",
    )
    write(warehouse, "UPDATE snapshots SET created_at = created_at - interval '31 days'")
    assert keep_house(warehouse, settings, datetime.now(UTC)).snapshots_removed == 2
    assert [Path(ref.uri).exists() for ref in refs] == [True, False, False, True]
    assert keep_house(warehouse, settings, datetime.now(UTC)).snapshots_removed == 0
    assert take("run 1").uri == refs[1].uri


def test_old_reservoirs_are_removed_except_the_latest_and_those_replayed_next(
    warehouse: sa.Engine, settings: Settings
) -> None:
    add_items(warehouse, "a")
    add_users(warehouse, "ann")

    def take(run_key: str, minute: int) -> SnapshotRef:
        add_feedback(warehouse, [("ann", "a", minute + second / 60) for second in range(5)])
        window = open_window(warehouse, "nightly", run_key)
        return write_reservoir(warehouse, take_full_snapshot(warehouse, window, settings), settings)

    # The feedback of the second run is older than that of the first.
    refs = [take(f"run {number}", minute) for number, minute in enumerate([10, 5, 20, 30])]
    write(
        warehouse,
        "INSERT INTO promotion_ledger "
        "(action, model_version, champion_sequence, reason, explanation, actor, run_key) "
        "VALUES ('promote', '1', 1, 'better', 'It is better.', 'test', 'run 1')",
    )
    write(warehouse, "UPDATE snapshots SET created_at = created_at - interval '31 days'")
    # The full snapshots and the reservoirs of the first and the third run.
    assert keep_house(warehouse, settings, datetime.now(UTC)).snapshots_removed == 4
    assert [Path(ref.uri).exists() for ref in refs] == [False, True, False, True]
    found = newest_trained_on(warehouse, "reservoir", read_snapshot(refs[1]).trained_through)
    assert found == refs[1]


def test_old_data_docs_are_removed(warehouse: sa.Engine, settings: Settings) -> None:
    docs = [settings.home / "data_docs" / f"window-{number}" for number in (1, 2)]
    for folder in docs:
        folder.mkdir(parents=True)
        (folder / "index.html").write_text("x")
    age(docs[0], 31)
    assert keep_house(warehouse, settings, datetime.now(UTC)).data_docs_removed == 1
    assert [folder.exists() for folder in docs] == [False, True]
