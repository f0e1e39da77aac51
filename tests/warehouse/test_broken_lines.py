import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from recsys.warehouse.files import line_file
from recsys.warehouse.ingest import IngestSummary, IngestTable, ingest_file

TIME = "2026-01-31T18:30:00Z"


def load(engine: sa.Engine, path: Path, table: IngestTable, content: str | bytes) -> IngestSummary:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return ingest_file(engine, table, path)


def rejects(summary: IngestSummary) -> dict[int, str]:
    assert summary.reject_file is not None
    return {
        entry["line"]: entry["reason"]
        for entry in map(json.loads, summary.reject_file.read_text().splitlines())
    }


IMPOSSIBLE_LISTS = [
    ("item_ids", r'["\ud800"]', "surrogate"),
    ("item_ids", '["a", ""]', "is not a JSON list of ids"),
    ("propensities", f"[{'9' * 400}]", "is not a list of probabilities between 0 and 1"),
    ("propensities", f"[{'9' * 5000}]", ""),
    ("propensities", "[1.5]", "is not a list of probabilities between 0 and 1"),
    ("propensities", "[-0.1]", "is not a list of probabilities between 0 and 1"),
    ("propensities", "[true]", "is not a list of probabilities between 0 and 1"),
    ("propensities", "[0.5, 0.5]", "propensities has 2 entries, but item_ids has 1"),
]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_slates_with_an_impossible_list_are_rejected_and_the_others_are_loaded(
    warehouse: sa.Engine, tmp_path: Path, kind: str
) -> None:
    sound = {"item_ids": '["i"]', "propensities": "[0.5]"}
    slates = [sound, *({**sound, column: text} for column, text, _ in IMPOSSIBLE_LISTS), sound]
    if kind == "jsonl":
        lines = [
            f'{{"impression_id": "{n}", "user_id": "u", "item_ids": {slate["item_ids"]}, '
            f'"propensities": {slate["propensities"]}, "shown_at": "{TIME}"}}'
            for n, slate in enumerate(slates)
        ]
    else:
        quoted = [
            {name: '"' + text.replace('"', '""') + '"' for name, text in slate.items()} for slate in slates
        ]
        lines = ["impression_id,user_id,item_ids,propensities,shown_at"]
        lines += [
            f"{n},u,{slate['item_ids']},{slate['propensities']},{TIME}" for n, slate in enumerate(quoted)
        ]
    summary = load(warehouse, tmp_path / f"f.{kind}", "impressions", "\n".join(lines))
    assert (summary.inserted, summary.rejected) == (2, len(IMPOSSIBLE_LISTS))
    found = rejects(summary)
    assert list(found) == [n + 2 + (kind == "csv") for n in range(len(IMPOSSIBLE_LISTS))]
    for reason, (_, _, expected) in zip(found.values(), IMPOSSIBLE_LISTS, strict=True):
        assert expected in reason


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_deeply_nested_attributes_reject_only_their_line(
    warehouse: sa.Engine, tmp_path: Path, kind: str
) -> None:
    deep = ['{"a":' * depth + "1" + "}" * depth for depth in (101, 500, 960, 985, 1_000, 100_000)]
    rows = [(str(n), deep[n] if n < len(deep) else "{}") for n in range(len(deep) + 2)]
    if kind == "jsonl":
        content: str | bytes = "\n".join(f'{{"item_id": "{n}", "attributes": {text}}}' for n, text in rows)
    elif kind == "csv":
        content = "item_id,attributes\n" + "".join(
            '{},"{}"\n'.format(n, text.replace('"', '""')) for n, text in rows
        )
    else:
        sink = pa.BufferOutputStream()
        ids, texts = zip(*rows, strict=True)
        pq.write_table(pa.table({"item_id": ids, "attributes": texts}), sink)
        content = sink.getvalue().to_pybytes()
    summary = load(warehouse, tmp_path / f"items.{kind}", "items", content)
    assert (summary.inserted, summary.rejected) == (2, len(deep))
    assert all("nested" in reason for reason in rejects(summary).values())


def test_attributes_may_be_nested_a_hundred_deep(warehouse: sa.Engine, tmp_path: Path) -> None:
    deep = '{"a":' * 100 + "1" + "}" * 100
    summary = load(warehouse, tmp_path / "i.jsonl", "items", f'{{"item_id": "2", "attributes": {deep}}}')
    assert summary.inserted == 1


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("last", [False, True])
def test_a_line_that_is_too_long_is_rejected_and_the_others_are_loaded(
    warehouse: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, last: bool
) -> None:
    monkeypatch.setattr(line_file, "BLOCK_BYTES", 100)
    monkeypatch.setattr(line_file, "MAX_LINE_BYTES", 1_000)
    lines = [f"{n},t" if kind == "csv" else json.dumps({"item_id": str(n)}) for n in range(1, 40)]
    long = f"x,{'t' * 3_000}" if kind == "csv" else json.dumps({"item_id": "x", "title": "t" * 3_000})
    lines.insert(39 if last else 20, long)
    header = "item_id,title\n" if kind == "csv" else ""
    summary = load(warehouse, tmp_path / f"items.{kind}", "items", header + "\n".join(lines))
    assert (summary.inserted, summary.rejected) == (39, 1)
    ((line, reason),) = rejects(summary).items()
    assert line == (40 if last else 21) + (kind == "csv")
    assert "is longer than" in reason


def test_no_value_of_a_json_line_ends_a_load(warehouse: sa.Engine, tmp_path: Path) -> None:
    row = {"event_id": "e", "user_id": "u", "item_id": "i", "event_type": "view", "value": 1, "comment": "c",
           "occurred_at": TIME}  # fmt: skip
    values = ["9" * 400, "9" * 5_000, "1e400", "[[" * 600 + "]]" * 600, "{}", r'"\ud800"', "[null]", "true"]
    strange = [
        json.dumps(row | {"event_id": f"{column}{n}"} | {column: "HERE"}).replace('"HERE"', value)
        for n, value in enumerate(values)
        for column in row
    ]
    lines = [json.dumps(row | {"event_id": "first"}), *strange, json.dumps(row | {"event_id": "last"})]
    summary = load(warehouse, tmp_path / "f.jsonl", "feedback", "\n".join(lines))
    assert summary.read == len(lines)
    with warehouse.connect() as connection:
        loaded = connection.scalars(sa.text("SELECT event_id FROM feedback")).all()
    assert {"first", "last"} <= set(loaded)
