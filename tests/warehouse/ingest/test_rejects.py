import json
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from recsys.warehouse.files import line_file
from tests.warehouse.ingest.loading import CSV, HEADER, TIME, Load, event, parquet, rejects, rows

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


def test_unknown_items_types_and_absurd_values_are_left_to_validation(load: Load) -> None:
    assert load(HEADER + "a,u,nothing,teleported,900,,2199-01-01T00:00:00Z\n").inserted == 1


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
