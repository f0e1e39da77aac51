"""Load a mutated file with the product and compare the warehouse with what the oracle states."""

import json
import traceback
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

import sqlalchemy as sa

from benchmarks.fuzz.inputs import Finding, Input
from benchmarks.fuzz.oracle_tables import Expected, Row, differences, expect
from recsys.errors import RecsysError
from recsys.warehouse.files import line_file
from recsys.warehouse.ingest import IngestSummary, ingest_file

_TABLES = ("feedback", "items", "users", "impressions", "quarantine")
_SHOWN = 300
# The order in which two tables' rows are paired.
_KEYS = {
    "feedback": ("user_id", "item_id", "event_type", "occurred_at", "event_id"),
    "items": ("item_id",),
    "users": ("user_id",),
    "impressions": ("impression_id",),
}


def check_file(engine: sa.Engine, folder: Path, given: Input) -> list[Finding]:
    """Load one file into empty tables; return what is wrong."""
    expected = expect(given)
    with engine.begin() as connection:
        for table in _TABLES:
            connection.execute(sa.text(f"DELETE FROM {table}"))
    path = folder / given.name
    path.write_bytes(given.content)
    reject_file = folder / "rejected.jsonl"
    reject_file.unlink(missing_ok=True)
    options = dict(given.options)
    block_bytes = options.pop("block_bytes", None) or line_file.BLOCK_BYTES
    try:
        with mock.patch.object(line_file, "BLOCK_BYTES", block_bytes):
            summary = ingest_file(engine, path=path, reject_file=reject_file, **options)
    except RecsysError as error:
        if expected.refused is None and expected.records:
            return [Finding("needless_rejection", f"the file was refused: {error}")]
        return []
    except Exception:
        return [Finding("traceback", traceback.format_exc())]
    finally:
        path.unlink()
    rejected = _rejects(reject_file)
    if expected.refused is not None:
        return [] if not summary.inserted else [
            Finding("silent_change", f"the file ({expected.refused}) was loaded: {summary.inserted} rows")
        ]  # fmt: skip
    return [*_counts(expected, summary), *_compare(engine, given.options["table"], expected, rejected)]


def _rejects(file: Path) -> dict[int, str]:
    if not file.exists():
        return {}
    lines = [json.loads(line) for line in file.open()]
    return {line["line"]: line["reason"] for line in lines}


def _counts(expected: Expected, summary: IngestSummary) -> list[Finding]:
    read = expected.records + len(expected.rejected)
    if summary.read != read:
        return [Finding("lost_row", f"the summary counts {summary.read} lines, the file has {read}")]
    return []


def _compare(engine: sa.Engine, table: str, expected: Expected, rejected: dict[int, str]) -> list[Finding]:
    findings = [
        Finding("silent_change", f"line {line} is not rejected: {expected.rejected[line]}")
        for line in sorted(expected.rejected.keys() - rejected.keys())
    ]
    findings += [
        Finding("needless_rejection", f"line {line} was rejected: {rejected[line][:_SHOWN]}")
        for line in sorted(rejected.keys() - expected.rejected.keys())
    ]
    if findings:
        return findings
    stored = _stored(engine, table)
    wanted = sorted(expected.rows, key=lambda row: _order(table, row))
    if len(stored) != len(wanted):
        missing = Counter(map(_identity(table), wanted)) - Counter(map(_identity(table), stored))
        fault = "lost_row" if len(stored) < len(wanted) else "silent_change"
        return [Finding(fault, f"{len(stored)} rows instead of {len(wanted)}; missing: {list(missing)[:3]}")]
    for want, have in zip(wanted, stored, strict=True):
        for name in differences(table, want, have):
            shown = f"{have[name]!r}"[:_SHOWN], f"{want[name]!r}"[:_SHOWN]
            findings.append(Finding("silent_change", f"{name} is {shown[0]}, the file says {shown[1]}"))
    return findings


def _stored(engine: sa.Engine, table: str) -> list[Row]:
    with engine.connect() as connection:
        connection.execute(sa.text("SET TIME ZONE 'UTC'"))
        rows = connection.execute(sa.text(f"SELECT * FROM {table}")).mappings()
        return sorted((dict(row) for row in rows), key=lambda row: _order(table, row))


def _order(table: str, row: Row) -> tuple[Any, ...]:
    return tuple(_sortable(name, row[name]) for name in _KEYS[table])


def _identity(table: str) -> Any:
    return lambda row: tuple(str(row[name]) for name in _KEYS[table][:4])


def _sortable(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return value.timestamp()
    # An event without an id gets one from its content.
    return "" if name == "event_id" and str(value).startswith(("content-", "None")) else value
