"""Columns that a table does not have become attributes if the owner wants that."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from recsys.errors import ConfigurationError
from recsys.warehouse.attribute_columns import attribute
from recsys.warehouse.ingest import ingest_file


def attributes(engine: sa.Engine, table: str = "items") -> list[Any]:
    with engine.connect() as connection:
        return list(connection.scalars(sa.text(f"SELECT attributes FROM {table} ORDER BY 1")))


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (b"2.95", 2.95), (b"-3", -3), (b"007", "007"), (b"12345678901234567890", "12345678901234567890"),
        (b"drama|comedy", ["drama", "comedy"]), (b"|", None), (b'["a", "b"]', ["a", "b"]),
        (b"[Remastered]", "[Remastered]"), (b"  ", None), (None, None), (b"1e5", "1e5"), (b"NaN", "NaN"),
        (3.5, 3.5), (float("nan"), None), (True, True),
    ],
)  # fmt: skip
def test_a_cell_is_a_number_a_list_or_a_text(cell: Any, value: Any) -> None:
    assert attribute(cell) == value


ROW = {"item_id": "i1", "title": "Soda", "brand": "Fizz", "attributes": '{"brand": "own", "size": 2}'}


@pytest.mark.parametrize("name", ["items.csv.gz", "items.tsv", "items.jsonl", "items.parquet"])
def test_every_format_gives_the_same_attributes(warehouse: sa.Engine, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("csv.gz"):
        path.write_bytes(
            gzip.compress(
                b'item_id;title;brand;attributes\ni1;Soda;Fizz;"{""brand"": ""own"", ""size"": 2}"', mtime=0
            )
        )
    elif name.endswith("tsv"):
        path.write_text("\t".join(ROW) + "\n" + "\t".join(ROW.values()) + "\n")
    elif name.endswith("jsonl"):
        path.write_text(json.dumps(ROW) + "\n")
    else:
        pq.write_table(pa.Table.from_pylist([ROW]), path)
    summary = ingest_file(warehouse, "items", path, other_columns="attributes")
    assert (summary.inserted, summary.unknown_columns) == (1, ())
    assert attributes(warehouse) == [{"brand": "own", "size": 2}]


def test_users_have_attributes_too_and_a_line_that_is_wrong_stays_wrong(
    warehouse: sa.Engine, tmp_path: Path
) -> None:
    path = tmp_path / "users.csv"
    path.write_text("user_id,attributes,age\nu1,,41\nu2,none,\nu3,none,7\n")
    summary = ingest_file(warehouse, "users", path, other_columns="attributes")
    assert (summary.inserted, summary.rejected) == (1, 2)
    assert attributes(warehouse, "users") == [{"age": 41}]


def test_text_that_postgres_cannot_hold_is_rejected_and_not_repaired(
    warehouse: sa.Engine, tmp_path: Path
) -> None:
    path = tmp_path / "users.csv"
    path.write_bytes(b'user_id,city\nu1,Caf\xe9\nu2,a\0b\nu3,"[""\\ud800""]"\nu4,Caf\xc3\xa9\n')
    summary = ingest_file(warehouse, "users", path, other_columns="attributes")
    assert (summary.inserted, summary.rejected) == (1, 3)
    assert attributes(warehouse, "users") == [{"city": "Café"}]


def test_without_being_asked_for_other_columns_are_ignored(warehouse: sa.Engine, tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item_id,brand\ni1,Fizz\n")
    assert ingest_file(warehouse, "items", path).unknown_columns == ("brand",)
    assert attributes(warehouse) == [{}]


def test_feedback_has_no_attributes(warehouse: sa.Engine, tmp_path: Path) -> None:
    path = tmp_path / "feedback.csv"
    path.write_text("user_id,item_id,event_type,occurred_at,device\nu1,i1,view,1700000000,phone\n")
    with pytest.raises(ConfigurationError, match="feedback have no attributes"):
        ingest_file(warehouse, "feedback", path, other_columns="attributes")
