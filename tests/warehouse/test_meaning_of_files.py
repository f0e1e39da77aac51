"""Files that once changed their meaning on the way into the tables; a fuzz run found each kind."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from recsys.warehouse.files import line_file
from recsys.warehouse.ingest import IngestSummary, IngestTable, ingest_file
from recsys.warehouse.value_checks import Checked

TIME = "2026-01-31T18:30:00Z"


def load(
    engine: sa.Engine, folder: Path, name: str, content: str | bytes, table: IngestTable = "items"
) -> IngestSummary:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return ingest_file(engine, table, path)


def items(engine: sa.Engine) -> dict[str, str]:
    with engine.connect() as connection:
        found = connection.execute(sa.text("SELECT item_id, title FROM items ORDER BY item_id"))
        return {row.item_id: row.title for row in found}


def rejects(summary: IngestSummary) -> dict[int, str]:
    assert summary.reject_file is not None
    lines = map(json.loads, summary.reject_file.read_text().splitlines())
    return {line["line"]: line["reason"] for line in lines}


@pytest.mark.parametrize("block", [100, 8 << 20])
def test_what_one_line_of_an_item_says_is_kept_when_the_next_line_leaves_it_out(
    warehouse: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(line_file, "BLOCK_BYTES", block)
    head = "item_id,title,description,attributes,available,rest_days\n"
    load(
        warehouse, tmp_path, "items.csv",
        head + 'a,One,First,"{""x"": 1}",,7\na,,,,false,\na,Two,,,,\n' + "b,,,,,\n" * 20,
    )  # fmt: skip
    with warehouse.connect() as connection:
        row = connection.execute(sa.text("SELECT * FROM items WHERE item_id = 'a'")).one()
    assert (row.title, row.description, row.attributes) == ("Two", "First", {"x": 1})
    assert (row.available, row.rest_days) == (False, 7)


def test_the_consent_of_an_earlier_line_is_kept(warehouse: sa.Engine, tmp_path: Path) -> None:
    load(warehouse, tmp_path, "users.csv", 'user_id,consent,attributes\na,false,\na,,"{}"\n', "users")
    with warehouse.connect() as connection:
        assert connection.scalar(sa.text("SELECT consent FROM users")) is False


@pytest.mark.parametrize("name", ["items.csv", "items.tsv"])
def test_a_line_of_a_windows_file_keeps_its_line_ends_inside_quotes(
    warehouse: sa.Engine, tmp_path: Path, name: str
) -> None:
    content = 'item_id,title\r\na,"two\r\nlines"\r\nb,"not closed\r\n'.replace(
        ",", "\t" if "tsv" in name else ","
    )
    load(warehouse, tmp_path, name, content)
    assert items(warehouse)["a"] == "two\r\nlines"


def test_a_carriage_return_inside_a_field_makes_no_new_row(warehouse: sa.Engine, tmp_path: Path) -> None:
    summary = load(warehouse, tmp_path, "items.csv", 'item_id\na\rb\n"c\rd"\ne\n')
    assert items(warehouse) == {"c\rd": "", "e": ""}
    assert rejects(summary) == {2: "a carriage return is inside a field without quotes"}


@pytest.mark.parametrize("name", ["items.csv", "items.tsv"])
def test_a_zero_width_character_at_the_start_of_a_block_stays_in_its_id(
    warehouse: sa.Engine, tmp_path: Path, name: str
) -> None:
    load(warehouse, tmp_path, name, "\ufeffitem_id\n\ufeff7\n7\n")
    assert sorted(items(warehouse)) == ["7", "\ufeff7"]


def test_a_carriage_return_in_a_tsv_file_is_a_character(warehouse: sa.Engine, tmp_path: Path) -> None:
    load(warehouse, tmp_path, "items.tsv", "item_id\ttitle\na\tOne\rTwo\nb\tThree\n")
    assert items(warehouse) == {"a": "One\rTwo", "b": "Three"}


def test_a_quote_at_the_end_of_a_record_of_several_lines_does_not_split_it(
    warehouse: sa.Engine, tmp_path: Path
) -> None:
    summary = load(warehouse, tmp_path, "items.csv", 'item_id,description,title\na,"two\nlines",12"\nb,,"c\n')
    assert items(warehouse) == {"a": '12"'}
    assert rejects(summary) == {4: "a quote is not closed"}


@pytest.mark.parametrize("block", range(20, 130, 7))
@pytest.mark.parametrize("name", ["items.csv", "items.tsv"])
def test_no_record_is_split_where_one_block_ends_and_the_next_begins(
    warehouse: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, name: str
) -> None:
    monkeypatch.setattr(line_file, "BLOCK_BYTES", block)
    # The quote for inches is no quote, and lines inside quotes look like rows.
    content = (
        'item_id,title,description\na,12" Remix,One\nb,"two\nx,y,z\nlines","and\nmore\n"\n'
        'c,Plain,"5"" and\nq,r,s\n6"""\nd,7" Single,Last\n'
    )
    load(warehouse, tmp_path, name, content.replace(",", "\t") if name == "items.tsv" else content)
    expected = {"a": '12" Remix', "b": "two\nx,y,z\nlines", "c": "Plain", "d": '7" Single'}
    if name == "items.csv":
        assert items(warehouse) == expected
    else:  # in TSV, lines that look like rows are rows
        assert {"x", "q"} <= items(warehouse).keys()


def test_two_objects_on_a_line_of_jsonl_are_no_rows(warehouse: sa.Engine, tmp_path: Path) -> None:
    summary = load(
        warehouse, tmp_path, "items.jsonl", '{"item_id": "a"}{"item_id": "b"}\n\n{"item_id": "c"}\n'
    )
    assert items(warehouse) == {"c": ""}
    assert list(rejects(summary)) == [1]


def test_a_line_of_jsonl_that_is_not_utf8_is_rejected_also_in_columns_that_are_not_read(
    warehouse: sa.Engine, tmp_path: Path
) -> None:
    content = (
        b'{"item_id": "a", "other": "\xff"}\n{"item_id": "b", "other": "\xed\xa0\x80"}\n'
        b'{"item_id": "c", "other": "x"}\n'
    )
    assert list(rejects(load(warehouse, tmp_path, "items.jsonl", content))) == [1, 2]


def test_the_columns_of_jsonl_are_those_of_its_first_lines_not_of_its_first_block(
    warehouse: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_file, "BLOCK_BYTES", 20)
    assert (
        load(warehouse, tmp_path, "items.jsonl", '{"other": 1}\n{"item_id": "a", "title": "One"}\n').inserted
        == 1
    )
    assert items(warehouse) == {"a": "One"}


def test_a_line_that_is_a_python_literal_is_named(warehouse: sa.Engine, tmp_path: Path) -> None:
    summary = load(warehouse, tmp_path, "items.jsonl", "{'item_id': 'a'}\n" + '{"item_id": "b"}\n')
    assert rejects(summary) == {
        1: "not JSON but a Python literal; JSON has double quotes, as json.dumps writes it"
    }


def test_nan_is_no_title_in_jsonl(warehouse: sa.Engine, tmp_path: Path) -> None:
    load(warehouse, tmp_path, "items.jsonl", '{"item_id": "a", "title": NaN, "available": NaN}\n')
    assert items(warehouse) == {"a": ""}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_list_or_an_object_is_no_id(warehouse: sa.Engine, tmp_path: Path, kind: str) -> None:
    if kind == "csv":
        summary = load(warehouse, tmp_path, "i.csv", 'item_id\n[1]\n"{""a"": 1}"\n[REC]\n{3F2504E0}\nb\n')
    elif kind == "jsonl":
        ids: list[Any] = [[1], {"a": 1}, "[REC]", "{3F2504E0}", "b"]
        summary = load(
            warehouse, tmp_path, "i.jsonl", "".join(json.dumps({"item_id": one}) + "\n" for one in ids)
        )
    else:
        pq.write_table(pa.table({"item_id": [["a"], ["b"]]}), tmp_path / "i.parquet")
        summary = ingest_file(warehouse, "items", tmp_path / "i.parquet")
    assert summary.rejected == 2
    assert items(warehouse) == ({} if kind == "parquet" else {"[REC]": "", "b": "", "{3F2504E0}": ""})
    assert all("is a list or an object and not an id" in reason for reason in rejects(summary).values())


def test_spaces_of_every_script_around_ids_are_removed(warehouse: sa.Engine, tmp_path: Path) -> None:
    load(warehouse, tmp_path, "items.csv", "item_id\n\u2003a\u2003\n\u3000b\nc\u1680\n-0.0\n")
    assert list(items(warehouse)) == ["0", "a", "b", "c"]
    assert load(warehouse, tmp_path, "i.csv", "item_id\n\u3000\n").rejected == 1


@pytest.mark.parametrize("number", ["1_000", "４", "٤", "0x10", "1'000"])
def test_numbers_have_the_digits_0_to_9_and_nothing_between_them(number: str) -> None:
    rows = Checked({"value": pa.array([number.encode()]), "at": pa.array([number.encode()])}, 1)
    rows.number("value")
    rows.time("at")
    assert [reason.count("is not a") for _, reason in rows.wrong_rows()] == [2]


def test_a_list_that_begins_with_null_is_a_title(warehouse: sa.Engine, tmp_path: Path) -> None:
    rows = [("a", [None, "Two", "words"]), ("b", "[None, 'x']"), ("c", "[1408]")]
    load(
        warehouse, tmp_path, "items.jsonl",
        "".join(json.dumps({"item_id": item, "title": title}) + "\n" for item, title in rows),
    )  # fmt: skip
    assert items(warehouse) == {"a": "Two words", "b": "x", "c": "[1408]"}


def test_empty_bytes_in_parquet_are_an_empty_field(warehouse: sa.Engine, tmp_path: Path) -> None:
    path = tmp_path / "feedback.parquet"
    row = {
        "user_id": b"u",
        "item_id": b"i",
        "event_type": b"like",
        "occurred_at": TIME,
        "value": b"",
        "comment": b"",
    }
    pq.write_table(pa.Table.from_pylist([row]), path)
    assert ingest_file(warehouse, "feedback", path).rejected == 0


@pytest.mark.parametrize(
    ("slate", "chances", "reason"),
    [
        (["x" * 1001], [0.5], "item_ids has an id that is longer than 1000 bytes"),
        (["a"], [1e-50], "propensities '[1e-50]' has a probability below 1e-37"),
    ],
)
def test_a_slate_that_does_not_fit_its_columns_is_rejected_with_the_limit(
    warehouse: sa.Engine, tmp_path: Path, slate: list[str], chances: list[float], reason: str
) -> None:
    row = {
        "impression_id": "s", "user_id": "u", "shown_at": TIME, "item_ids": slate, "propensities": chances,
    }  # fmt: skip
    assert list(rejects(load(warehouse, tmp_path, "s.jsonl", json.dumps(row), "impressions")).values()) == [
        reason
    ]


def test_a_session_that_has_used_temporary_tables_can_load_a_file(warehouse_url: str, tmp_path: Path) -> None:
    engine = sa.create_engine(warehouse_url, pool_size=1, max_overflow=0)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TEMPORARY TABLE report AS SELECT 1 AS one"))
    assert load(engine, tmp_path, "items.csv", "item_id\na\n").inserted == 1
    engine.dispose()
