"""true and false as values of events, and the words and numbers that flags are written as."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from recsys.warehouse.ingest import IngestSummary, IngestTable, ingest_file

TIME = "2026-01-31T18:30:00Z"
FORMATS = ["csv", "tsv", "jsonl", "parquet"]


def load(
    engine: sa.Engine, folder: Path, kind: str, table: IngestTable, rows: list[dict[str, Any]]
) -> IngestSummary:
    path = folder / f"{table}.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        between = "," if kind == "csv" else "\t"
        lines = [between.join("" if value is None else str(value) for value in row.values()) for row in rows]
        path.write_text("\n".join([between.join(rows[0]), *lines]))
    return ingest_file(engine, table, path)


def event(user: str, value: Any, kind: str = "like") -> dict[str, Any]:
    return {"user_id": user, "item_id": "i", "event_type": kind, "value": value, "occurred_at": TIME}


def values(engine: sa.Engine) -> dict[str, float | None]:
    with engine.connect() as connection:
        return {row.user_id: row.value for row in connection.execute(sa.text("SELECT * FROM feedback"))}


@pytest.mark.parametrize("kind", FORMATS)
def test_true_is_a_like_of_1_and_false_is_one_of_0_in_every_format(
    warehouse: sa.Engine, tmp_path: Path, kind: str
) -> None:
    summary = load(warehouse, tmp_path, kind, "feedback", [event("cat", True), event("dan", False)])
    assert (summary.inserted, summary.rejected) == (2, 0)
    assert values(warehouse) == {"cat": 1.0, "dan": 0.0}


def test_flags_and_numbers_may_stand_in_one_column_in_any_case(warehouse: sa.Engine, tmp_path: Path) -> None:
    rows = [event("a", "TRUE"), event("b", 3), event("c", " false "), event("d", None)]
    assert load(warehouse, tmp_path, "csv", "feedback", rows).inserted == 4
    assert values(warehouse) == {"a": 1.0, "b": 3.0, "c": 0.0, "d": None}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_flag_is_no_rating(warehouse: sa.Engine, tmp_path: Path, kind: str) -> None:
    summary = load(warehouse, tmp_path, kind, "feedback", [event("cat", True, "rating"), event("dan", True)])
    assert (summary.inserted, summary.rejected) == (1, 1)
    assert summary.reject_file is not None
    reason = json.loads(summary.reject_file.read_text())["reason"]
    written = "True" if kind in ("csv", "tsv") else "true"
    assert reason == f"value '{written}' is a flag, but 'rating' has numbers as values"


def test_a_flag_is_no_amount(warehouse: sa.Engine, tmp_path: Path) -> None:
    with warehouse.begin() as connection:
        connection.execute(
            sa.text("UPDATE event_types SET value_is_amount = true WHERE event_type = 'purchase'")
        )
    rows = [event("cat", False, "purchase"), event("dan", False)]
    assert load(warehouse, tmp_path, "jsonl", "feedback", rows).rejected == 1
    assert values(warehouse) == {"dan": 0.0}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_column_of_flags_that_became_floats_is_read(
    warehouse: sa.Engine, tmp_path: Path, kind: str
) -> None:
    rows = [
        {"user_id": "a", "consent": 1.0},
        {"user_id": "b", "consent": 0.0},
        {"user_id": "c", "consent": None},
    ]
    assert load(warehouse, tmp_path, kind, "users", rows).inserted == 3
    with warehouse.connect() as connection:
        found = connection.execute(sa.text("SELECT user_id, consent FROM users ORDER BY user_id")).all()
    assert [tuple(row) for row in found] == [("a", True), ("b", False), ("c", True)]
