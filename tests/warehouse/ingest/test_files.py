import gzip
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from recsys.errors import ConfigurationError, IngestError
from recsys.warehouse.files import line_file
from recsys.warehouse.ingest import ingest_file
from tests.warehouse.ingest.loading import CSV, HEADER, JSONL, TIME, Load, event, parquet, rejects, rows


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("f.csv", CSV.encode()),
        ("f.csv", b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode()),
        ("F.CSV.GZ", gzip.compress(CSV.rstrip().encode(), mtime=0)),
        ("f.tsv", CSV.replace(",", "\t").encode()),
        ("f.jsonl", JSONL.encode()),
        ("f.ndjson.gz", gzip.compress(JSONL.encode(), mtime=0)),
        ("f.jsonl", json.dumps(event(occurred_at=1769884200.0)).encode()),
        ("f.jsonl", json.dumps(event(value="4.5")).encode()),
        ("f.parquet", parquet(pa.Table.from_pylist([event()]))),
        (
            "f.parquet",
            parquet(pa.Table.from_pylist([event(occurred_at=datetime(2026, 1, 31, 18, 30, tzinfo=UTC))])),
        ),
    ],
)
def test_every_format_gives_the_same_row(load: Load, warehouse: sa.Engine, name: str, content: bytes) -> None:
    summary = load(content, name)
    assert (summary.read, summary.inserted, summary.rejected) == (1, 1, 0)
    (row,) = rows(warehouse)
    assert (row.event_id, row.user_id, row.item_id, row.event_type) == ("e1", "u1", "i1", "rating")
    assert (row.value, row.comment) == (4.5, "好看 🎬")
    assert row.occurred_at == datetime(2026, 1, 31, 18, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "column", "inserted"),
    [
        ("user_id", pa.array([1, 2]), 2),
        ("item_id", pa.array(["a", "b"]).dictionary_encode(), 2),
        ("event_type", pa.array(["view", ""], pa.large_string()), 1),
        ("value", pa.array([Decimal("1.5"), None]), 2),
        ("value", pa.array([float("nan"), 1.0]), 1),
        ("value", pa.array([[1], [2]]), 0),
        ("comment", pa.array([b"\xff", b"ok"]), 1),
        ("occurred_at", pa.array([1, 2], pa.timestamp("ns", "UTC")), 2),
        ("occurred_at", pa.array([1, 2], pa.timestamp("s", "Europe/Paris")), 2),
        ("occurred_at", pa.array([1.5, None]), 1),
        ("occurred_at", pa.array([date(2026, 1, 1)] * 2), 0),
    ],
)
def test_typed_parquet_columns_are_read_if_their_meaning_is_clear(
    load: Load, name: str, column: pa.Array, inserted: int
) -> None:
    plain = {name: [event(event_id="1")[name], event(event_id="2")[name]] for name in event()}
    summary = load(parquet(pa.table(plain | {"event_id": ["1", "2"], name: column})), "f.parquet")
    assert (summary.inserted, summary.rejected) == (inserted, 2 - inserted)


def test_rows_keep_the_order_of_the_file(
    load: Load, warehouse: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_file, "BLOCK_BYTES", 700)
    names = [f"e{(number * 37) % 101}" for number in range(101)]
    load(HEADER + "".join(f"{name},u{name},i,view,,,{TIME}\n" for name in names))
    assert [row.event_id for row in rows(warehouse)] == names


def test_blocks_end_only_between_records(
    load: Load, warehouse: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_file, "BLOCK_BYTES", 64)
    comments = [f'line one of {n}\nand ,"quotes" {"x" * (n * 7 % 90)}' for n in range(60)]
    lines = []
    for n, comment in enumerate(comments):
        quoted = comment.replace('"', '""')
        lines.append(f'e{n},u,i,comment,,"{quoted}",{TIME}\n')
        if n % 20 == 19:
            lines.append(f"bad{n},u,i,rating,five,,{TIME}\n")
    summary = load(HEADER + "".join(lines))
    assert [row.comment for row in rows(warehouse)] == comments
    assert [line for line, _ in rejects(summary)] == [42, 83, 124]


def test_a_column_that_first_appears_late_in_a_jsonl_file_is_read(load: Load, warehouse: sa.Engine) -> None:
    bare = {"user_id": "u", "item_id": "i", "event_type": "comment", "occurred_at": TIME}
    lines = [bare | {"event_id": str(n)} for n in range(150)] + [bare | {"event_id": "x", "comment": "late"}]
    load("".join(json.dumps(line) + "\n" for line in lines), "f.jsonl")
    assert rows(warehouse)[-1].comment == "late"


def test_a_very_long_comment_and_unusual_text_are_loaded_unchanged(load: Load, warehouse: sa.Engine) -> None:
    comments = [
        "很" * 200_000,
        "👩‍👩‍👧 ‮ \u2028 \\N \\. NULL",
        "  spaces  ",
        "'; DROP TABLE feedback; --",
        "\\",
    ]
    load(
        "".join(json.dumps(event(event_id=str(n), comment=c)) + "\n" for n, c in enumerate(comments)),
        "f.jsonl",
    )
    assert [row.comment for row in rows(warehouse)] == comments


def test_a_time_zone_can_be_assumed_for_times_without_one(load: Load, warehouse: sa.Engine) -> None:
    content = HEADER + "a,u,i,view,,,2026-07-01T12:00:00\nb,u,i,view,,,2026-01-01 12:00:00Z\n"
    load(content, assume_timezone="Europe/Paris")
    assert [row.occurred_at.astimezone(UTC).hour for row in rows(warehouse)] == [10, 12]
    naive = parquet(pa.Table.from_pylist([event(occurred_at=datetime(2026, 7, 1, 12))]))  # noqa: DTZ001
    assert "no time zone" in rejects(load(naive, "f.parquet"))[0][1]
    assert load(naive, "f.parquet", assume_timezone="Europe/Paris").inserted == 1
    with pytest.raises(ConfigurationError, match="'Mars/Olympus'"):
        load(content, assume_timezone="Mars/Olympus")


def test_unix_seconds_keep_their_microseconds(load: Load, warehouse: sa.Engine) -> None:
    load(HEADER + "a,u,i,view,,,1769884200.123457\nb,u,i,view,,,-1\n")
    assert [row.occurred_at for row in rows(warehouse)] == [
        datetime(2026, 1, 31, 18, 30, 0, 123457, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "f.csv",
            "user,item,type\n",
            r"no column 'user_id', 'item_id'.*columns are user, item, type. A file of feedback needs",
        ),
        ("f.csv", "user_id,user_id\n", "'user_id' more than once"),
        ("f.csv", "", "is empty"),
        ("f.jsonl", '{"user": 1}\n', "no column 'user_id'"),
        ("f.jsonl", '[{"user_id": 1}]', "one JSON object on each line"),
        ("f.parquet", "not parquet", "not a Parquet file"),
        ("f.csv.gz", "not gzip", "cannot be read"),
        ("f.xlsx", "x", "no suffix of a known format"),
    ],
)
def test_an_unreadable_file_gives_an_error_with_the_remedy(
    load: Load, name: str, content: str, message: str
) -> None:
    with pytest.raises(IngestError, match=message):
        load(content, name)


def test_a_missing_file_is_named(warehouse: sa.Engine, tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"nowhere\.csv is not a file"):
        ingest_file(warehouse, "feedback", tmp_path / "nowhere.csv")


def test_unknown_columns_are_ignored_and_reported(load: Load) -> None:
    assert load(CSV.replace("comment", "remark")).unknown_columns == ("remark",)


def test_a_header_without_rows_is_not_an_error(load: Load) -> None:
    assert load(HEADER).read == 0


def test_progress_ends_at_the_size_of_the_file(load: Load) -> None:
    seen: list[tuple[int, int]] = []
    load(CSV, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(CSV.encode()), len(CSV.encode()))


@pytest.mark.parametrize(
    ("table", "first_row"),
    [
        ("feedback", "user-zq7f,i1,like,0\n"),
        ("feedback", "user-zq7f,user-zq7f,like,0\n"),
        ("users", "user-zqf,true\n"),
    ],
)
def test_a_file_without_a_header_is_refused_without_showing_its_first_row(
    load: Load, table: str, first_row: str
) -> None:
    with pytest.raises(IngestError, match="if it has no header, add one") as caught:
        load(first_row * 2, f"{table}.csv", table)
    assert "user-" not in str(caught.value)


def test_the_pooled_connection_is_unchanged_after_a_load(load: Load, warehouse: sa.Engine) -> None:
    load(CSV)
    assert rows(warehouse, "SELECT to_regclass('incoming_feedback') AS name")[0].name is None
