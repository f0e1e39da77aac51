import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from recsys.errors import IngestError
from recsys.warehouse.ingest import ingest_file
from recsys.warehouse.item_prose import characters, prose


def items(engine: sa.Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        return {row.item_id: row for row in connection.execute(sa.text("SELECT * FROM items"))}


def test_typed_values_inside_structs_are_json(warehouse: sa.Engine, tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    structs = [
        {
            "released": date(2020, 1, 2),
            "price": Decimal("9.99"),
            "pages": Decimal("300.00"),
            "at": datetime(2020, 1, 2, 3, tzinfo=UTC),
            "length": timedelta(seconds=90),
            "code": b"x1",
            "tags": [{"since": date(2021, 1, 1)}],
            "weight": 1.5,
        },
        {"price": None, "weight": float("nan"), "tags": [{"since": None}]},
    ]
    pq.write_table(
        pa.Table.from_pylist([{"item_id": str(n), "attributes": s} for n, s in enumerate(structs)]), path
    )
    assert ingest_file(warehouse, "items", path).rejected == 0
    found = items(warehouse)
    assert found["0"].attributes == {
        "released": "2020-01-02",
        "price": 9.99,
        "pages": 300,
        "at": "2020-01-02T03:00:00+00:00",
        "length": 90,
        "code": "x1",
        "tags": [{"since": "2021-01-01"}],
        "weight": 1.5,
    }
    assert found["1"].attributes == {"tags": [{}]}


def test_maps_with_keys_that_are_not_text_are_json(warehouse: sa.Engine, tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    maps = pa.array([[(date(2020, 1, 1), 1.0)], [], None], pa.map_(pa.date32(), pa.float64()))
    pq.write_table(pa.table({"item_id": ["a", "b", "c"], "attributes": maps}), path)
    assert ingest_file(warehouse, "items", path).rejected == 0
    assert items(warehouse)["a"].attributes == {"2020-01-01": 1.0}


def test_a_nested_time_that_python_cannot_represent_rejects_its_row(
    warehouse: sa.Engine, tmp_path: Path
) -> None:
    path = tmp_path / "items.parquet"
    times = pa.StructArray.from_arrays([pa.array([0, 2**62], pa.timestamp("us"))], ["at"])
    pq.write_table(pa.table({"item_id": ["a", "b"], "attributes": times}), path)
    summary = ingest_file(warehouse, "items", path)
    assert (summary.inserted, summary.rejected) == (1, 1)


ROWS = [
    {
        "item_id": "1",
        "title": "Toy &amp; Game",
        "description": [],
        "attributes": {"c": [["Toys &amp; Co", "G"]]},
    },
    {
        "item_id": "2",
        "title": "Puzzle",
        "description": ['A "fine" puzzle.', None, "Ages 3+"],
        "attributes": {"p": None},
    },
    {"item_id": "3", "title": ["List", "title"], "description": [["a"], ["b"]], "attributes": None},
]


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "python.csv"])
def test_lists_and_entities_in_texts_are_read_as_people_read_them(
    warehouse: sa.Engine, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"items.{kind}"
    if kind.endswith("csv"):
        write = str if kind == "python.csv" else json.dumps
        lines = ["item_id,title,description,attributes"]
        for row in ROWS:
            texts = [
                row[name] if isinstance(row[name], str) else write(row[name])
                for name in ("title", "description")
            ]
            cells = [row["item_id"], *texts, json.dumps(row["attributes"] or {})]
            lines.append(",".join('"' + str(cell).replace('"', '""') + '"' for cell in cells))
    else:
        lines = [json.dumps(row) for row in ROWS]
    path.write_text("\n".join(lines))
    assert ingest_file(warehouse, "items", path).inserted == 3
    found = items(warehouse)
    assert [found[n].title for n in "123"] == ["Toy & Game", "Puzzle", "List title"]
    assert [found[n].description for n in "123"] == ["", 'A "fine" puzzle. Ages 3+', "a b"]
    assert found["1"].attributes == {"c": [["Toys & Co", "G"]]}


def test_lists_of_text_in_parquet_are_joined(warehouse: sa.Engine, tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"item_id": ["a", "b", "c"], "description": [[], ["x", "y &lt; z"], None]}), path)
    assert ingest_file(warehouse, "items", path).inserted == 3
    assert [items(warehouse)[n].description for n in "abc"] == ["", "x y < z", ""]


@pytest.mark.parametrize(
    "text", ["[REC]", "[2012]", "AT&T", "a?b=1&copy=2", "[", "['", "R&D;", "[" * 5_000, "&x;"]
)
def test_other_text_is_unchanged(text: str) -> None:
    assert prose(text) == text


def test_an_entity_never_becomes_a_character_that_cannot_be_stored() -> None:
    for entity in ("&#0;", "&#xD800;", "&#9999999;", "&#1;"):
        characters(entity).encode()
        assert "\0" not in characters(entity)


def test_an_indented_json_file_gives_an_error_with_the_remedy(warehouse: sa.Engine, tmp_path: Path) -> None:
    path = tmp_path / "items.json"
    path.write_text(json.dumps(ROWS[0], indent=1))
    with pytest.raises(IngestError, match="write each object on one line"):
        ingest_file(warehouse, "items", path)
