"""Files in which rows name a session instead of a user."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from recsys.errors import IngestError
from recsys.settings import Settings
from recsys.upkeep.erasure import erase_requested, request_erasure
from recsys.warehouse.ingest import IngestSummary, ingest_file
from recsys.warehouse.visitors import visitor_id

TIME = "2026-03-01T10:00:00Z"
ROWS = [
    {"event_id": "1", "user_id": "ada", "item_id": "i", "event_type": "view", "occurred_at": TIME},
    {"event_id": "2", "visitor_id": "v1", "item_id": "i", "event_type": "view", "occurred_at": TIME},
    {"event_id": "3", "visitor_id": "v1", "item_id": "j", "event_type": "view", "occurred_at": TIME},
    {"event_id": "4", "user_id": "ada", "visitor_id": "v2", "item_id": "j", "event_type": "view",
     "occurred_at": TIME},
]  # fmt: skip
COLUMNS = ["event_id", "user_id", "visitor_id", "item_id", "event_type", "occurred_at"]


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in COLUMNS}), path)
    else:
        lines = [",".join(COLUMNS), *(",".join(row.get(name, "") for name in COLUMNS) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    return path


def load(engine: sa.Engine, path: Path, settings: Settings | None = None) -> IngestSummary:
    keys = settings.tombstone_keys() if settings else ()
    return ingest_file(engine, "feedback", path, tombstone_keys=keys)


def owners(engine: sa.Engine) -> list[tuple[str, str | None]]:
    with engine.connect() as connection:
        query = sa.text("SELECT user_id, session_id FROM feedback ORDER BY event_id, feedback_id")
        return [(row[0], row[1]) for row in connection.execute(query)]


def run(engine: sa.Engine, statement: str) -> list[tuple[object, ...]]:
    with engine.begin() as connection:
        result = connection.execute(sa.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_of_visitors_and_of_users_are_loaded(warehouse: sa.Engine, tmp_path: Path, suffix: str) -> None:
    summary = load(warehouse, write(tmp_path / f"events{suffix}", ROWS))
    assert (summary.inserted, summary.rejected, summary.new_users) == (4, 0, 2)
    assert owners(warehouse) == [
        ("ada", None),
        ("visitor:v1", "v1"),
        ("visitor:v1", "v1"),
        ("ada", "v2"),
    ]
    kinds = run(warehouse, "SELECT user_id, kind FROM users ORDER BY user_id")
    assert kinds == [("ada", "user"), ("visitor:v1", "visitor")]
    assert load(warehouse, tmp_path / f"events{suffix}").duplicates == 4


def test_a_file_may_have_no_users_at_all(warehouse: sa.Engine, tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text(f"session_id,item_id,event_type,occurred_at\ns1,i,view,{TIME}\n,i,view,{TIME}\n")
    summary = load(warehouse, path)
    assert (summary.inserted, summary.rejected) == (1, 1)
    assert summary.reject_file is not None
    assert "user_id and session_id are empty" in summary.reject_file.read_text()
    assert owners(warehouse) == [("visitor:s1", "s1")]


def test_a_file_that_names_nobody_is_refused(warehouse: sa.Engine, tmp_path: Path) -> None:
    path = tmp_path / "nobody.csv"
    path.write_text(f"item_id,event_type,occurred_at\ni,view,{TIME}\n")
    with pytest.raises(IngestError, match=r"no column 'user_id'.*not registered: visitor_id or"):
        load(warehouse, path)


@pytest.mark.parametrize("with_event_ids", [True, False])
def test_a_file_loaded_again_after_a_login_adds_nothing(
    warehouse: sa.Engine, tmp_path: Path, with_event_ids: bool
) -> None:
    rows = [{name: row[name] for name in row if with_event_ids or name != "event_id"} for row in ROWS]
    path = write(tmp_path / "events.jsonl", rows)
    load(warehouse, path)
    run(warehouse, "SELECT join_session('v1', 'ada')")
    assert load(warehouse, path).duplicates == 4
    assert {owner for owner, _ in owners(warehouse)} == {"ada"}
    assert len(owners(warehouse)) == 4


@pytest.mark.parametrize("with_event_ids", [True, False])
def test_rows_that_come_after_the_login_are_the_users(
    warehouse: sa.Engine, tmp_path: Path, with_event_ids: bool
) -> None:
    run(warehouse, "INSERT INTO users (user_id) VALUES ('ada')")
    run(warehouse, "SELECT join_session('v1', 'ada')")
    rows = [{name: row[name] for name in row if with_event_ids or name != "event_id"} for row in ROWS]
    load(warehouse, write(tmp_path / "events.csv", rows))
    assert {owner for owner, _ in owners(warehouse)} == {"ada"}


def test_no_visitor_is_made_of_an_id_that_says_there_is_none(warehouse: sa.Engine, tmp_path: Path) -> None:
    rows = [{**row, "visitor_id": "None"} for row in ROWS[1:3]]
    for name in ("with.csv", "without.jsonl"):
        load(
            warehouse,
            write(tmp_path / name, [{**row, "event_id": f"{name}{row['event_id']}"} for row in rows]),
        )
    assert run(warehouse, "SELECT user_id FROM users") == []
    assert len(owners(warehouse)) == 4


def test_an_erased_visitor_stays_away_when_the_file_is_loaded_again(
    warehouse: sa.Engine, tmp_path: Path, settings: Settings
) -> None:
    path = write(tmp_path / "events.csv", ROWS)
    load(warehouse, path, settings)
    request_erasure(warehouse, visitor_id("v1"))
    erase_requested(warehouse, settings.snapshots, tombstone_key=settings.require_pseudonym_key)
    assert owners(warehouse) == [("ada", None), ("ada", "v2")]
    assert load(warehouse, path, settings).of_erased_users == 2
    assert owners(warehouse) == [("ada", None), ("ada", "v2")]


def test_slates_of_visitors_are_loaded_and_go_to_the_user(warehouse: sa.Engine, tmp_path: Path) -> None:
    path = tmp_path / "slates.jsonl"
    slates = [
        {"impression_id": "p1", "session_id": "v1", "item_ids": ["i"], "shown_at": TIME},
        {"impression_id": "p2", "session_id": "v2", "item_ids": ["i"], "shown_at": TIME},
    ]
    path.write_text("".join(json.dumps(slate) + "\n" for slate in slates))
    run(warehouse, "INSERT INTO users (user_id) VALUES ('ada')")
    run(warehouse, "SELECT join_session('v1', 'ada')")
    assert ingest_file(warehouse, "impressions", path).inserted == 2
    found = run(warehouse, "SELECT impression_id, user_id FROM impressions ORDER BY 1")
    assert found == [("p1", "ada"), ("p2", "visitor:v2")]
