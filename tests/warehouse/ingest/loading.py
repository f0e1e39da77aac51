"""What the tests of loading files share."""

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from recsys.warehouse.ingest import IngestSummary

HEADER = "event_id,user_id,item_id,event_type,value,comment,occurred_at\n"
TIME = "2026-01-31T18:30:00Z"
Load = Callable[..., IngestSummary]


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
