import json
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from recsys.warehouse.identifiers import unusual_identifiers
from recsys.warehouse.ingest import IngestSummary, ingest_file

TIME = "2026-01-31T18:30:00Z"


def load(engine: sa.Engine, folder: Path, kind: str, ids: list[Any], column: Any = None) -> IngestSummary:
    path = folder / f"feedback.{kind}"
    rows = [
        {"user_id": one, "item_id": f"i{n}", "event_type": "view", "occurred_at": TIME}
        for n, one in enumerate(ids)
    ]
    if kind == "csv":
        lines = [f'"{one}",i{n},view,{TIME}\n' for n, one in enumerate(ids)]
        path.write_text("user_id,item_id,event_type,occurred_at\n" + "".join(lines))
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        table = pa.Table.from_pylist([{k: v for k, v in row.items() if k != "user_id"} for row in rows])
        pq.write_table(table.append_column("user_id", pa.array(ids) if column is None else column), path)
    return ingest_file(engine, "feedback", path)


def users(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(sa.text("SELECT user_id FROM feedback ORDER BY feedback_id")))


def reasons(summary: IngestSummary) -> list[str]:
    assert summary.reject_file is not None
    return [json.loads(line)["reason"] for line in summary.reject_file.read_text().splitlines()]


WHOLE = [17850.0, 15300010000.0, -3.0, 0.0]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_whole_number_is_the_same_id_in_every_format(
    warehouse: sa.Engine, tmp_path: Path, kind: str
) -> None:
    summary = load(warehouse, tmp_path, kind, WHOLE)
    assert users(warehouse) == ["17850", "15300010000", "-3", "0"]
    assert (summary.changed_ids > 0) == (kind != "parquet")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_id_that_is_missing_or_has_lost_digits_is_rejected(
    warehouse: sa.Engine, tmp_path: Path, kind: str
) -> None:
    summary = load(warehouse, tmp_path, kind, [float("nan"), 7.656119796026573e16, 9007199254740994.0, 5.0])
    assert users(warehouse) == ["5"]
    empty, *lost = reasons(summary)
    assert "user_id is" in empty
    assert all(reason.endswith("has lost digits; write the id as text") for reason in lost)


def test_text_ids_that_only_look_like_numbers_are_unchanged(warehouse: sa.Engine, tmp_path: Path) -> None:
    ids = ["007", "007.0", "1.50", "1e5", "v1.0", "10", "a+b", "Nun", "1.10", "0", "好"]
    assert load(warehouse, tmp_path, "csv", ids).changed_ids == 0
    assert users(warehouse) == ids


def test_spaces_around_ids_are_removed_and_reported(warehouse: sa.Engine, tmp_path: Path) -> None:
    summary = load(warehouse, tmp_path, "csv", [" u1", "u1", "u1\t", "u1\u00a0", "a b", "  "])
    assert users(warehouse) == ["u1", "u1", "u1", "u1", "a b"]
    assert summary.changed_ids == 3
    assert reasons(summary) == ["user_id is empty"]


UUIDS = [uuid.UUID(int=5), uuid.UUID("11223344-5566-7788-9900-aabbccddeeff")]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([one.bytes for one in UUIDS], pa.binary(16)), [str(one) for one in UUIDS]),
        (pa.array([one.bytes for one in UUIDS], pa.uuid()), [str(one) for one in UUIDS]),
        (pa.array([b"sixteen-letters!", b"sixteen-letters?"], pa.binary(16)),
         ["sixteen-letters!", "sixteen-letters?"]),
        (pa.array([b"abc", b"abd"], pa.binary(3)), ["abc", "abd"]),
        (pa.array([b"abc", b"abd"], pa.large_binary()), ["abc", "abd"]),
        (pa.array([Decimal("17850.00"), Decimal("1.50")]), ["17850", "1.50"]),
        (pa.array([17850, 2**60]), ["17850", str(2**60)]),
        (pa.array([17850, 2], pa.float32()), ["17850", "2"]),
    ],
    ids=str,
)  # fmt: skip
def test_ids_of_typed_columns_are_text(
    warehouse: sa.Engine, tmp_path: Path, column: pa.Array, expected: list[str]
) -> None:
    load(warehouse, tmp_path, "parquet", expected, column)
    assert users(warehouse) == expected


def test_bytes_that_are_not_text_are_rejected_and_not_written_as_python(
    warehouse: sa.Engine, tmp_path: Path
) -> None:
    summary = load(
        warehouse, tmp_path, "parquet", ["a", "b"], pa.array([b"\xff\xfe", b"ok"], pa.large_binary())
    )
    assert users(warehouse) == ["ok"]
    assert "not valid UTF-8" in reasons(summary)[0]


def test_the_items_of_a_slate_have_the_same_ids(warehouse: sa.Engine, tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    slate = {
        "impression_id": 1.0,
        "user_id": 2.0,
        "item_ids": [85123.0, "85123.0", " x", 7],
        "shown_at": TIME,
    }
    path.write_text(json.dumps(slate))
    ingest_file(warehouse, "impressions", path)
    with warehouse.connect() as connection:
        row = connection.execute(sa.text("SELECT * FROM impressions")).one()
    assert (row.impression_id, row.user_id) == ("1", "2")
    assert row.item_ids == ["85123", "85123", "x", "7"]


def test_unusual_ids_are_found_in_slices_and_beside_nulls() -> None:
    column = pa.array(["a", None, "", " b", "1.0", "c"])
    assert unusual_identifiers(column) == [3, 4]
    assert unusual_identifiers(column[3:]) == [0, 1]
    assert unusual_identifiers(column[:0]) == []
    assert unusual_identifiers(pa.array([""])) == []
