import gzip
import io
import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from recsys.errors import IngestError
from recsys.warehouse.ingest import IngestSummary, IngestTable, ingest_file
from recsys.warehouse.value_checks import Checked

HEADER = "event_id,user_id,item_id,event_type,value,comment,occurred_at\n"
MOMENT = datetime(2026, 1, 31, 18, 30, tzinfo=UTC)
ITEMS = "item_id,title\na,One\nb,Two\n"


def load(
    engine: sa.Engine,
    folder: Path,
    name: str,
    content: str | bytes,
    table: IngestTable = "items",
    **options: Any,
) -> IngestSummary:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return ingest_file(engine, table, path, **options)


def reasons(summary: IngestSummary) -> list[str]:
    assert summary.reject_file is not None
    return [json.loads(line)["reason"] for line in summary.reject_file.read_text().splitlines()]


def titles(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(sa.text("SELECT title FROM items ORDER BY item_id")))


@pytest.mark.parametrize(
    ("unit", "time"),
    [("seconds", "1769884200"), ("milliseconds", "1769884200000"), ("microseconds", "1769884200000000")],
)
def test_the_unit_of_times_can_be_named(warehouse: sa.Engine, tmp_path: Path, unit: str, time: str) -> None:
    lines = HEADER + f"e,u,i,view,,,{time}\nf,u,i,view,,,2026-01-31T18:30:00Z\n"
    for name, content in (("f.csv", lines), ("g.csv", HEADER + f"g,u,i,view,,,{time}\n")):
        assert load(warehouse, tmp_path, name, content, "feedback", time_unit=unit).rejected == 0
    with warehouse.connect() as connection:
        assert set(connection.scalars(sa.text("SELECT occurred_at FROM feedback"))) == {MOMENT}


@pytest.mark.parametrize(
    ("time", "remedy"),
    [
        ("1769884200000", "are these milliseconds? If so, pass --time-unit milliseconds"),
        ("1769884200000000", "are these microseconds? If so, pass --time-unit microseconds"),
    ],
)
def test_times_in_another_unit_are_rejected_with_the_remedy(time: str, remedy: str) -> None:
    rows = Checked({"occurred_at": pa.array([time.encode()])}, 1)
    rows.time("occurred_at")
    assert remedy in rows.wrong_rows()[0][1]


def test_a_decimal_comma_is_named() -> None:
    rows = Checked({"value": pa.array([b"4,5", b"4,5,6"])}, 2)
    rows.number("value")
    assert rows.wrong_rows() == [
        (0, "value '4,5' is not a number; write a point instead of the decimal comma"),
        (1, "value '4,5,6' is not a number"),
    ]


@pytest.mark.parametrize("separator", [";", "|", "\t", ","])
@pytest.mark.parametrize("name", ["items.csv", "items.tsv"])
def test_the_separator_is_found_in_the_header(
    warehouse: sa.Engine, tmp_path: Path, separator: str, name: str
) -> None:
    assert load(warehouse, tmp_path, name, ITEMS.replace(",", separator)).inserted == 2
    assert titles(warehouse) == ["One", "Two"]


def test_a_gzip_file_without_its_suffix_is_read(warehouse: sa.Engine, tmp_path: Path) -> None:
    assert load(warehouse, tmp_path, "items.csv", gzip.compress(ITEMS.encode(), mtime=0)).inserted == 2


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("items.csv", ITEMS)
    return buffer.getvalue()


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"item_id": ["a"]}), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("items.csv", ITEMS.encode("utf-16"), "is UTF-16; write it as UTF-8"),
        ("items.csv", ITEMS.encode("utf-16-le"), "is UTF-16"),
        ("items.jsonl", '{"item_id": "a"}'.encode("utf-16"), "is UTF-16"),
        ("items.csv.gz", gzip.compress(ITEMS.encode("utf-16"), mtime=0), "is UTF-16"),
        ("items.csv", ITEMS.replace("\n", "\r").encode(), "end with CR alone"),
        ("items.jsonl", b'{"item_id": "a"}\r{"item_id": "b"}\r', "end with CR alone"),
        ("items.csv.zip", zipped(), "is a ZIP archive or a workbook; unpack it"),
        ("items.csv", zipped(), "is a ZIP archive or a workbook; unpack it"),
        ("items.csv", parquet(), "is a Parquet file; name it .parquet"),
        ("items.csv.gz", gzip.compress(ITEMS.encode() * 50, mtime=0)[:30], "check that the file is complete"),
    ],
)
def test_a_file_in_another_container_or_encoding_gives_an_error_with_the_remedy(
    warehouse: sa.Engine, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(IngestError, match=message):
        load(warehouse, tmp_path, name, content)


def test_a_quote_that_is_escaped_with_a_backslash_is_named(warehouse: sa.Engine, tmp_path: Path) -> None:
    summary = load(warehouse, tmp_path, "items.csv", 'item_id,title\na,"12\\" Remix, long"\nb,Two\n')
    assert reasons(summary) == ['a quote is escaped with a backslash; CSV doubles it: ""']
    assert titles(warehouse) == ["Two"]


def test_the_six_characters_of_an_escaped_nul_are_text(warehouse: sa.Engine, tmp_path: Path) -> None:
    texts = [r"C:\u0000", "a\0b", "c"]
    lines = [json.dumps({"item_id": str(n), "attributes": {"x": [text]}}) for n, text in enumerate(texts)]
    summary = load(warehouse, tmp_path, "items.jsonl", "\n".join(lines))
    assert summary.inserted == 2
    assert reasons(summary) == ["attributes contains a NUL character"]
    with warehouse.connect() as connection:
        stored = connection.scalar(sa.text("SELECT attributes FROM items WHERE item_id = '0'"))
    assert stored == {"x": [r"C:\u0000"]}
