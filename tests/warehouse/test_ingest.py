import gzip
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from recsys.errors import ConfigurationError, IngestError
from recsys.warehouse.erased_users import readmit, remember_erased
from recsys.warehouse.files import line_file
from recsys.warehouse.ingest import IngestSummary, ingest_file
from recsys.warehouse.windows import open_window

HEADER = "event_id,user_id,item_id,event_type,value,comment,occurred_at\n"
TIME = "2026-01-31T18:30:00Z"
Load = Callable[..., IngestSummary]


@pytest.fixture
def load(warehouse: sa.Engine, tmp_path: Path) -> Load:
    def load(
        content: str | bytes, name: str = "feedback.csv", table: Any = "feedback", **options: Any
    ) -> IngestSummary:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return ingest_file(warehouse, table, path, **options)

    return load


def rows(engine: sa.Engine, query: str = "SELECT * FROM feedback ORDER BY feedback_id") -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(sa.text(query)))


def rejects(summary: IngestSummary) -> list[tuple[int, str]]:
    assert summary.reject_file is not None
    entries = [json.loads(line) for line in summary.reject_file.read_text().splitlines()]
    assert len(entries) == summary.rejected
    return [(entry["line"], entry["reason"]) for entry in entries]


def event(**changes: Any) -> dict[str, Any]:
    return {
        "event_id": "e1", "user_id": "u1", "item_id": "i1", "event_type": "rating", "value": 4.5,
        "comment": "好看 🎬", "occurred_at": TIME,
    } | changes  # fmt: skip


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


CSV = HEADER + f"e1,u1,i1,rating,4.5,好看 🎬,{TIME}\n"
JSONL = json.dumps(event(), ensure_ascii=False) + "\n"


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


def test_a_file_loaded_twice_counts_its_events_once(load: Load, warehouse: sa.Engine) -> None:
    load(CSV)
    again = load(CSV)
    assert (again.read, again.inserted, again.duplicates) == (1, 0, 1)
    assert len(rows(warehouse)) == 1


def test_an_event_id_twice_in_one_file_counts_once(load: Load) -> None:
    summary = load(CSV + CSV.splitlines()[1] + "\n")
    assert (summary.read, summary.inserted, summary.duplicates) == (2, 1, 1)


def test_existing_events_between_new_ones_are_skipped(
    load: Load, warehouse: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_file, "BLOCK_BYTES", 700)
    lines = [f"e{n},u{n % 7},i,view,,,{TIME}\n" for n in range(200)]
    there = [lines[n] for n in (3, 60, 61, 150)]
    load(HEADER + "".join(there))
    summary = load(HEADER + "".join(lines))
    assert (summary.read, summary.inserted, summary.duplicates) == (200, 196, 4)
    assert summary.new_users == len(
        {f"u{n % 7}" for n in range(200)} - {f"u{n % 7}" for n in (3, 60, 61, 150)}
    )
    loaded = [row.event_id for row in rows(warehouse)]
    assert loaded[4:] == [f"e{n}" for n in range(200) if n not in (3, 60, 61, 150)]


def test_events_without_id_get_one_from_their_content(load: Load, warehouse: sa.Engine) -> None:
    content = f"user_id,item_id,event_type,occurred_at\nu,i,view,{TIME}\nu,j,view,{TIME}\n"
    assert load(content).inserted == 2
    assert load(content).duplicates == 2
    assert load(content.replace(TIME, "2026-01-31T19:30:00+01:00")).duplicates == 2
    line = json.dumps({"user_id": "u", "item_id": "i", "event_type": "view", "occurred_at": TIME})
    assert load(line, "f.jsonl").duplicates == 1
    assert len({row.event_id for row in rows(warehouse)}) == 2


def test_an_interrupted_load_can_be_started_again(
    load: Load, warehouse: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_file, "BLOCK_BYTES", 700)
    content = HEADER + "".join(f"e{n},u,i,view,,,{TIME}\n" for n in range(100))

    def interrupt(done: int, _: int) -> None:
        if done > 1_500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(content, progress=interrupt)
    loaded = len(rows(warehouse))
    assert 0 < loaded < 100
    again = load(content)
    assert (again.inserted, again.duplicates) == (100 - loaded, loaded)
    assert [row.event_id for row in rows(warehouse)] == [f"e{n}" for n in range(100)]


def test_two_concurrent_loads_of_one_file_insert_every_row_once(
    warehouse: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_file, "BLOCK_BYTES", 2_000)
    paths = [tmp_path / "one.csv", tmp_path / "two.csv"]
    lines = [f"e{n},u{n % 30},i,view,,,{TIME}\n" for n in range(400)]
    paths[0].write_text(HEADER + "".join(lines))
    paths[1].write_text(HEADER + "".join(reversed(lines)))
    with ThreadPoolExecutor(2) as pool:
        loaded = list(pool.map(lambda path: ingest_file(warehouse, "feedback", path), paths))
    assert sum(summary.inserted for summary in loaded) == 400
    assert sum(summary.duplicates for summary in loaded) == 400
    assert sum(summary.new_users for summary in loaded) == 30


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


WRONG_VALUES = [
    ("value", "five", "value 'five' is not a number"),
    ("value", "NaN", "value 'NaN' is not a finite number"),
    ("value", "1e999", "value '1e999' is not a finite number"),
    ("occurred_at", "2026-01-31 18:30:00", "has no time zone; add one, such as Z or +01:00"),
    ("occurred_at", "2026-01-31", "--assume-timezone"),
    ("occurred_at", "yesterday", "'yesterday' is not a time; write ISO 8601 with time zone"),
    ("occurred_at", "2026-02-30T00:00:00Z", "is not a time"),
    ("occurred_at", "1769884200000", "are these milliseconds?"),
    ("occurred_at", "", "occurred_at is empty"),
    ("user_id", "", "user_id is empty"),
    ("item_id", "", "item_id is empty"),
    ("event_type", "", "event_type is empty"),
    ("comment", "a\0b", "comment contains a NUL character"),
    ("user_id", "u" * 1001, "user_id is longer than 1000 bytes"),
]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_line_that_cannot_be_a_row_is_rejected_with_the_reason(
    load: Load, warehouse: sa.Engine, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small blocks, so that each wrong line is alone in its block in some run.
    monkeypatch.setattr(line_file, "BLOCK_BYTES", 100)
    bad = [event(event_id=f"bad{n}", **{field: value}) for n, (field, value, _) in enumerate(WRONG_VALUES)]
    good = [event(event_id=f"good{n}") for n in range(len(bad))]
    lines = [row for pair in zip(good, bad, strict=True) for row in pair]
    if kind == "csv":
        content = HEADER + "".join(",".join(map(str, row.values())) + "\n" for row in lines)
    else:
        content = "".join(json.dumps(row) + "\n" for row in lines)
    summary = load(content, f"f.{kind}")
    assert (summary.read, summary.inserted, summary.rejected) == (len(lines), len(good), len(bad))
    found = rejects(summary)
    assert [line for line, _ in found] == [2 * n + (3 if kind == "csv" else 2) for n in range(len(bad))]
    for (_, reason), (_, _, expected) in zip(found, WRONG_VALUES, strict=True):
        assert expected in reason
    assert [row.event_id for row in rows(warehouse)] == [row["event_id"] for row in good]


def test_all_errors_of_a_line_are_reported_together(load: Load) -> None:
    ((_, reason),) = rejects(load(HEADER + "e,,i,rating,five,,noon\n"))
    assert "user_id is empty" in reason
    assert "'five'" in reason
    assert "'noon'" in reason


def test_only_the_broken_lines_of_a_csv_file_are_rejected(load: Load, warehouse: sa.Engine) -> None:
    content = (
        HEADER.encode()
        + f'a,u,i,comment,,"two\nlines, ""quoted""",{TIME}\n'.encode()
        + b"\n"
        + b"too,few,fields\n"
        + f'b,u,i,comment,,"never closed,{TIME}\n'.encode()
        + b"c,u,i,comment,,\xff\xfe,"
        + TIME.encode()
        + b"\n"
        + f'd,u,i,comment,,a 5" disk,{TIME}\n'.encode()
        + f"e,u,i,view,,,{TIME},one,too,many\n".encode()
        + f"f,u,i,view,,,{TIME}".encode()
    )
    summary = load(content)
    assert [(row.event_id, row.comment) for row in rows(warehouse)] == [
        ("a", 'two\nlines, "quoted"'),
        ("d", 'a 5" disk'),
        ("f", None),
    ]
    assert rejects(summary) == [
        (5, "has 3 fields, but the header has 7"),
        (6, "a quote is not closed"),
        (7, "comment is not valid UTF-8 at its byte 1"),
        (9, "has 10 fields, but the header has 7"),
    ]
    assert (summary.read, summary.inserted) == (7, 3)


def test_a_quote_that_is_never_closed_does_not_swallow_the_lines_after_it(
    load: Load, warehouse: sa.Engine
) -> None:
    content = (
        HEADER + f'a,u,i,comment,,"abc,{TIME}\n' + "".join(f"e{n},u,i,view,,,{TIME}\n" for n in range(50))
    )
    summary = load(content)
    assert (summary.inserted, rejects(summary)) == (50, [(2, "a quote is not closed")])
    pairs = HEADER + f'x,u,i,comment,,"abc,{TIME}\n' * 6
    assert load(pairs).rejected == 6


def test_line_numbers_are_right_after_multi_line_values_and_blank_lines(load: Load) -> None:
    content = HEADER + f'a,u,i,comment,,"1\n2\n3",{TIME}\n\nb,u,i,rating,five,,{TIME}\n'
    assert rejects(load(content)) == [(6, "value 'five' is not a number")]


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


def test_only_the_broken_lines_of_a_jsonl_file_are_rejected(load: Load, warehouse: sa.Engine) -> None:
    content = b"\n".join(
        [
            json.dumps(event(event_id="a")).encode(),
            b"{not json",
            b"[1, 2]",
            b"",
            b'{"event_id": "\xff"}',
            json.dumps(event(event_id="b", comment="\ud800")).encode(),
            json.dumps(event(event_id="c", value=None, comment="")).encode(),
            json.dumps(event(event_id="d", user_id=7, value=True)).encode(),
            json.dumps(event(event_id="f", user_id=7)).encode(),
        ]
    )
    summary = load(content, "f.jsonl")
    assert [(row.event_id, row.user_id, row.value, row.comment) for row in rows(warehouse)] == [
        ("a", "u1", 4.5, "好看 🎬"),
        ("c", "u1", None, None),
        ("f", "7", 4.5, "好看 🎬"),
    ]
    reasons = dict(rejects(summary))
    assert set(reasons) == {2, 3, 5, 6, 8}
    assert "not valid JSON" in reasons[2]
    assert reasons[3] == "not a JSON object but list"
    assert "UTF-8" in reasons[5]
    assert "surrogate" in reasons[6]
    assert reasons[8] == "value 'true' is a flag, but 'rating' has numbers as values"


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


def test_unknown_items_types_and_absurd_values_are_left_to_validation(load: Load) -> None:
    assert load(HEADER + "a,u,nothing,teleported,900,,2199-01-01T00:00:00Z\n").inserted == 1


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


def test_new_users_are_registered_with_the_consent_that_is_stated(load: Load, warehouse: sa.Engine) -> None:
    with warehouse.begin() as connection:
        connection.execute(sa.text("INSERT INTO users (user_id, consent) VALUES ('known', true)"))
    content = HEADER + f"a,known,i,view,,,{TIME}\nb,new,i,view,,,{TIME}\nc,new,j,view,,,{TIME}\n"
    summary = load(content, consent=False)
    assert (summary.new_users, summary.consent) == (1, False)
    assert dict(tuple(row) for row in rows(warehouse, "SELECT user_id, consent FROM users")) == {
        "known": True,
        "new": False,
    }


def test_new_users_can_be_left_to_the_application(load: Load, warehouse: sa.Engine) -> None:
    assert load(CSV, new_users="leave").inserted == 1
    assert rows(warehouse, "SELECT * FROM users") == []


def test_months_of_the_file_get_partitions_unless_they_are_absurd(load: Load, warehouse: sa.Engine) -> None:
    load(
        HEADER
        + "a,u,i,view,,,1997-09-20T00:00:00Z\n"
        + "b,u,i,view,,,0700-01-01T00:00:00Z\n"
        + "c,u,i,view,,,2199-01-01T00:00:00Z\n"
    )
    places = rows(warehouse, "SELECT tableoid::regclass::text AS place FROM feedback ORDER BY feedback_id")
    assert [row.place for row in places] == [
        "partitions.feedback_1997_09",
        "partitions.feedback_default",
        "partitions.feedback_default",
    ]


def test_a_load_does_not_wait_for_a_reader_to_make_a_partition(
    load: Load, warehouse: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.warehouse.partitions._LOCK_TIMEOUT", "100ms")
    with warehouse.connect() as reader:
        reader.execute(sa.text("SELECT count(*) FROM feedback"))
        assert load(HEADER + "a,u,i,view,,,1997-09-20T00:00:00Z\n").inserted == 1


def test_an_event_in_quarantine_is_not_loaded_again_but_its_correction_is(
    load: Load, warehouse: sa.Engine
) -> None:
    content = HEADER + f"a,u,i,rating,9,,{TIME}\n"
    load(content)
    window = open_window(warehouse, "nightly", "1")
    with warehouse.begin() as connection:
        connection.execute(
            sa.text(
                "WITH moved AS (DELETE FROM feedback RETURNING *)"
                " INSERT INTO quarantine (feedback_id, window_id, reasons, user_id, transaction_id, feedback)"
                " SELECT feedback_id, :id, '{value_out_of_range}', user_id, transaction_id, to_jsonb(moved)"
                " FROM moved"
            ),
            {"id": window.window_id},
        )
    again = load(content)
    assert (again.duplicates, again.in_quarantine) == (1, 1)
    corrected = load(content.replace(",9,", ",4,"))
    assert (corrected.inserted, corrected.in_quarantine) == (1, 0)


def test_times_outside_what_postgres_and_python_know_are_rejected(load: Load, warehouse: sa.Engine) -> None:
    table = pa.table(
        {
            "event_id": ["a", "b", "c"],
            "user_id": ["u"] * 3,
            "item_id": ["i"] * 3,
            "event_type": ["view"] * 3,
            "occurred_at": pa.array([0, -(2**62), 1_000_000], pa.timestamp("us", "UTC")),
        }
    )
    summary = load(parquet(table), "f.parquet")
    assert [row.event_id for row in rows(warehouse)] == ["a", "c"]
    assert rejects(summary) == [(2, "occurred_at is outside the years 1 to 9999")]


def test_only_the_row_that_postgres_refuses_is_rejected(load: Load, warehouse: sa.Engine) -> None:
    with warehouse.begin() as connection:
        connection.execute(sa.text("ALTER TABLE impressions ADD CHECK (query <> 'unwanted')"))
    propensities = [[0.5], [2], [1], [1, 1], [0.1], [0], [1e-300]]
    slates = [
        {"impression_id": str(n), "user_id": "u", "item_ids": ["i"], "shown_at": TIME, "propensities": values}
        for n, values in enumerate(propensities)
    ]
    slates[4]["query"] = "unwanted"
    summary = load("".join(json.dumps(slate) + "\n" for slate in slates), "m.jsonl", "impressions")
    kept = rows(warehouse, "SELECT impression_id FROM impressions ORDER BY received_at")
    assert [row.impression_id for row in kept] == ["0", "2", "5"]
    reasons = dict(rejects(summary))
    assert set(reasons) == {2, 4, 5, 7}
    assert reasons[2] == "propensities '[2]' is not a list of probabilities between 0 and 1"
    assert reasons[4] == "propensities has 2 entries, but item_ids has 1"
    assert "refused by Postgres" in reasons[5]
    assert "check constraint" in reasons[5]
    assert reasons[7] == "propensities '[1e-300]' has a probability below 1e-37"


def test_items_are_inserted_and_changed_and_the_last_line_counts(load: Load, warehouse: sa.Engine) -> None:
    header = "item_id,title,description,attributes,available\n"
    first = header + '1,Old,d,"{""a"": [1, ""é""]}",\n2,Two,,,no\n1,New,,,\n'
    summary = load(first, "items.csv", "items")
    assert (summary.read, summary.inserted, summary.updated, summary.duplicates) == (3, 2, 0, 1)
    again = load(
        '{"item_id": "1", "description": "more"}\n{"item_id": "2", "available": false}\n', "i.jsonl", "items"
    )
    assert (again.inserted, again.updated, again.duplicates) == (0, 1, 1)
    found = rows(warehouse, "SELECT * FROM items ORDER BY item_id")
    assert [(row.title, row.description, row.available) for row in found] == [
        ("New", "more", True),
        ("Two", "", False),
    ]


def test_a_rest_below_zero_days_is_rejected_and_says_why(load: Load, warehouse: sa.Engine) -> None:
    summary = load("item_id,rest_days\nmilk,3.5\nfridge,-1\nbread,0\n", "items.csv", "items")
    assert rejects(summary) == [(3, "rest_days is below 0: give a number of days, 0 or more")]
    load("item_id,title\nmilk,Milk\n", "items.csv", "items")  # what a file does not give stays
    found = rows(warehouse, "SELECT item_id, rest_days FROM items ORDER BY item_id")
    assert [(row.item_id, row.rest_days) for row in found] == [("bread", 0.0), ("milk", 3.5)]


def test_an_end_that_is_not_after_the_start_is_rejected_and_says_why(
    load: Load, warehouse: sa.Engine
) -> None:
    header = "item_id,available_from,available_until\n"
    summary = load(
        header
        + "a,2026-01-01T00:00:00Z,2026-02-01T00:00:00Z\nb,2026-02-01T00:00:00Z,2026-01-01T00:00:00Z\n"
        + "c,,1767225600\nd,soon,\ne,2026-01-01T00:00:00Z,2026-01-01T00:00:00Z\n",
        "items.csv",
        "items",
    )
    reasons = dict(rejects(summary))
    assert reasons.keys() == {3, 5, 6}
    assert reasons[3] == reasons[6] == "available_until is not after available_from"
    assert "'soon' is not a time" in reasons[5]
    # The start that the warehouse has counts too; the other rows of the file are loaded.
    again = load(
        '{"item_id": "a", "available_until": "2025-06-01T00:00:00Z"}\n{"item_id": "c", "title": "C"}\n',
        "i.jsonl",
        "items",
    )
    assert (again.updated, [line for line, _ in rejects(again)]) == (1, [1])
    assert "items_available_until_is_after_available_from" in dict(rejects(again))[1]
    found = rows(warehouse, "SELECT * FROM items ORDER BY item_id")
    assert [(row.item_id, row.title, str(row.available_until)) for row in found] == [
        ("a", "", "2026-02-01 00:00:00+00:00"),
        ("c", "C", "2026-01-01 00:00:00+00:00"),
    ]


def test_attributes_of_items_are_objects_in_every_format(load: Load, warehouse: sa.Engine) -> None:
    attributes = {"genres": ["动作", "Drama"], "year": 1999}
    load(json.dumps({"item_id": "a", "attributes": attributes}), "i.jsonl", "items")
    load(parquet(pa.Table.from_pylist([{"item_id": "b", "attributes": attributes}])), "i.parquet", "items")
    quoted = json.dumps(attributes).replace('"', '""')
    load(f'item_id,attributes\nc,"{quoted}"\n', "i.csv", "items")
    assert [row.attributes for row in rows(warehouse, "SELECT attributes FROM items")] == [attributes] * 3
    bad = "".join(
        f'{{"item_id": "d", "attributes": {wrong}}}\n' for wrong in ("[1]", '{"x": NaN}', '{"x": "\\u0000"}')
    )
    assert [line for line, _ in rejects(load(bad, "i.jsonl", "items"))] == [1, 2, 3]


def test_users_are_inserted_and_their_consent_changes(load: Load, warehouse: sa.Engine) -> None:
    load("user_id,consent\na,true\nb,no\nc,\n", "users.csv", "users")
    assert load("user_id,consent\na,false\nx,maybe\n", "users.csv", "users").updated == 1
    assert [row.consent for row in rows(warehouse, "SELECT consent FROM users ORDER BY user_id")] == [
        False,
        False,
        True,
    ]


def test_impressions_are_loaded_with_their_slates(load: Load, warehouse: sa.Engine) -> None:
    slate = {
        "impression_id": "m",
        "user_id": "u",
        "item_ids": ['a"b', "c,d", "好"],
        "propensities": [0.5, 0.25, 1],
        "shown_at": TIME,
        "query": "a book about programming",
    }
    bad = slate | {"impression_id": "n", "item_ids": []}
    summary = load(f"{json.dumps(slate)}\n{json.dumps(bad)}\n", "m.jsonl", "impressions")
    assert (summary.inserted, summary.rejected) == (1, 1)
    (row,) = rows(warehouse, "SELECT * FROM impressions")
    assert row.item_ids == ['a"b', "c,d", "好"]
    assert row.propensities == [0.5, 0.25, 1]
    assert row.rules is None


@pytest.mark.parametrize(
    ("rules", "stored", "reason"),
    [
        (['summer, "sale"', None, "a\\b"], ['summer, "sale"', None, "a\\b"], None),
        ([None, None, None], [None, None, None], None),
        (None, None, None),
        (["one"], None, "rules has 1 entries, but item_ids has 3"),
        ([1, None, None], None, "is not a JSON list of names and null"),
        (["a\0", None, None], None, "NUL"),
        ({"a": "b"}, None, "is not a JSON list of names and null"),
    ],
)
def test_the_rules_that_placed_items_are_loaded_one_for_each_item(
    load: Load, warehouse: sa.Engine, rules: object, stored: object, reason: str | None
) -> None:
    slate = {
        "impression_id": "m",
        "user_id": "u",
        "item_ids": ["a", "b", "c"],
        "shown_at": TIME,
        "rules": rules,
    }
    summary = load(json.dumps(slate) + "\n", "m.jsonl", "impressions")
    assert summary.rejected == (reason is not None)
    if reason is None:
        (row,) = rows(warehouse, "SELECT * FROM impressions")
        assert row.rules == stored
    else:
        assert summary.reject_file is not None
        assert reason in summary.reject_file.read_text(encoding="utf-8")


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


def test_a_stale_reject_file_does_not_outlive_a_clean_load(load: Load, tmp_path: Path) -> None:
    assert load(HEADER + "a,,i,view,,,0\n").rejected == 1
    assert load(CSV).reject_file is None
    assert not (tmp_path / "feedback.csv.rejected.jsonl").exists()


def test_the_reject_file_has_the_unchanged_line(load: Load, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.jsonl"
    load(HEADER + "a,,i,view,,很好,0\n", reject_file=target)
    assert json.loads(target.read_text())["text"] == "a,,i,view,,很好,0"


@pytest.mark.parametrize("earlier", ["a file for all", "a link", "nothing"])
def test_only_its_owner_may_read_the_reject_file(load: Load, tmp_path: Path, earlier: str) -> None:
    target, elsewhere = tmp_path / "rejected.jsonl", tmp_path / "elsewhere.jsonl"
    if earlier != "nothing":
        elsewhere.write_text("earlier")
        elsewhere.chmod(0o666)
        target.hardlink_to(elsewhere) if earlier == "a file for all" else target.symlink_to(elsewhere)
    load(HEADER + "a,,i,view,,很好,0\n", reject_file=target)
    assert json.loads(target.read_text())["line"] == 2
    assert target.stat().st_mode & 0o777 == 0o600


def test_rejected_lines_can_be_thrown_away(load: Load) -> None:
    assert load(HEADER + "a,,i,view,,很好,0\n", reject_file=Path("/dev/null")).rejected == 1
    assert Path("/dev/null").is_char_device()


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


KEYS = [b"the pseudonym key of now", b"the key that was replaced"]


def erase(warehouse: sa.Engine, user: str, key: bytes = KEYS[0]) -> None:
    with warehouse.begin() as connection:
        remember_erased(connection, user, key)


@pytest.mark.parametrize("key", KEYS, ids=["current key", "replaced key"])
@pytest.mark.parametrize("event_ids", [True, False], ids=["copied", "merged"])
def test_an_erased_user_does_not_come_back_with_the_same_file(
    warehouse: sa.Engine, load: Load, key: bytes, event_ids: bool
) -> None:
    names = ("anna", "ben", "anna")
    lines = [f"{f'e{n}' if event_ids else ''},{user},i,like,,secret,{TIME}\n" for n, user in enumerate(names)]
    erase(warehouse, "anna", key)
    summary = load(HEADER + "".join(lines), tombstone_keys=KEYS)
    assert (summary.read, summary.inserted, summary.rejected, summary.of_erased_users) == (3, 1, 2, 2)
    assert [line for line, _ in rejects(summary)] == [2, 4]
    assert all("erased on request" in reason and "readmit" in reason for _, reason in rejects(summary))
    assert summary.reject_file is not None
    assert "anna" not in summary.reject_file.read_text()
    assert "secret" not in summary.reject_file.read_text()
    assert [row.user_id for row in rows(warehouse, "SELECT user_id FROM users")] == ["ben"]
    assert [row.user_id for row in rows(warehouse)] == ["ben"]


@pytest.mark.parametrize(
    ("table", "content"),
    [
        ("users", "user_id,consent\nanna,yes\nben,yes\n"),
        ("impressions", 'impression_id,user_id,item_ids,shown_at\nm1,anna,"[""i""]",0\nm2,ben,"[""i""]",0\n'),
    ],
)
def test_no_table_takes_an_erased_user(warehouse: sa.Engine, load: Load, table: str, content: str) -> None:
    erase(warehouse, "anna")
    summary = load(content, f"{table}.csv", table, tombstone_keys=KEYS)
    assert (summary.inserted, summary.rejected) == (1, 1)
    assert [row.user_id for row in rows(warehouse, f"SELECT user_id FROM {table}")] == ["ben"]


def test_a_readmitted_user_is_loaded_again(warehouse: sa.Engine, load: Load) -> None:
    erase(warehouse, "anna", KEYS[1])
    assert readmit(warehouse, "anna", KEYS)
    assert not readmit(warehouse, "anna", KEYS)
    assert load("user_id\nanna\n", "users.csv", "users", tombstone_keys=KEYS).inserted == 1


def test_a_load_without_the_key_that_recognises_erased_users_is_refused(
    warehouse: sa.Engine, load: Load
) -> None:
    assert load("user_id\nben\n", "users.csv", "users").inserted == 1
    erase(warehouse, "anna")
    with pytest.raises(ConfigurationError, match=r"1 users were erased.*RECSYS_PREVIOUS_PSEUDONYM_KEYS"):
        load("user_id\nanna\n", "users.csv", "users", tombstone_keys=KEYS[1:])
    assert load("item_id\ni\n", "items.csv", "items").inserted == 1


def test_a_user_who_is_erased_during_a_load_is_in_none_of_its_later_chunks(
    warehouse: sa.Engine, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_file, "BLOCK_BYTES", 64)
    lines = [f"e{number},anna,i,like,,,{TIME}\n" for number in range(3)]
    loaded = []

    def progress(done: int, total: int) -> None:
        loaded.append(len(rows(warehouse)))
        if len(loaded) == 1:
            erase(warehouse, "anna")

    summary = load(HEADER + "".join(lines), tombstone_keys=KEYS, progress=progress)
    assert summary.inserted == loaded[0] < 3
    assert summary.of_erased_users == 3 - loaded[0]
