"""Which rows a file leaves in the warehouse, stated from docs/files.md without the product's code."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from benchmarks.fuzz import oracle_values as values
from benchmarks.fuzz.inputs import Input
from benchmarks.fuzz.oracle_files import Unreadable, read
from benchmarks.fuzz.oracle_values import Refused

SESSIONS = ("visitor_id", "anonymous_id", "session_id")
"""Columns that name somebody who is not registered, the most lasting first."""
COLUMNS = {
    "feedback": (
        ("item_id", "event_type", "occurred_at"),
        ("user_id", *SESSIONS, "event_id", "value", "comment", "impression_id"),
    ),
    "items": (("item_id",), ("title", "description", "attributes", "available", "rest_days")),
    "users": (("user_id",), ("consent", "attributes")),
    "impressions": (
        ("impression_id", "item_ids", "shown_at"),
        ("user_id", *SESSIONS, "query", "propensities", "model_version", "placement"),
    ),
}
"""Required and optional columns."""
TYPES_WITH_RANGE = frozenset({"rating", "dwell"})
_KEYS = {"items": "item_id", "users": "user_id", "impressions": "impression_id"}

Row = dict[str, Any]


@dataclass
class Expected:
    """What loading a file into empty tables must give.

    Attributes
    ----------
    refused
        Why the whole file must be refused; None if it is read.
    rows
        Rows of the table.
    rejected
        Lines that must be in the reject file, with the reason.
    records
        Accepted lines, including those that repeat a row.
    """

    refused: str | None = None
    rows: list[Row] = field(default_factory=list)
    rejected: dict[int, str] = field(default_factory=dict)
    records: int = 0


def expect(given: Input) -> Expected:
    """State what a file leaves in an empty warehouse."""
    table = given.options["table"]
    required, optional = COLUMNS[table]
    reading = read(given.name, given.content, frozenset(required + optional), required)
    if reading.refused:
        return Expected(refused=reading.refused)
    zone = given.options.get("assume_timezone")
    convert = _Converter(ZoneInfo(zone) if zone else None, given.options.get("time_unit", "seconds"))
    expected = Expected(rejected=dict(reading.rejected))
    accepted: list[Row] = []
    for line, record in reading.records:
        try:
            if any(isinstance(value, Unreadable) for value in record.values()):
                raise Refused("Python cannot represent it")
            accepted.append(_ROWS[table](convert, record))
        except Refused as reason:
            expected.rejected[line] = f"{reason}: {record!r}"
    expected.records = len(accepted)
    expected.rows = _feedback_rows(accepted) if table == "feedback" else _keyed_rows(accepted, table)
    return expected


@dataclass(frozen=True)
class _Converter:
    zone: ZoneInfo | None
    unit: str

    def feedback(self, record: Row) -> Row:
        kind = _required(values.identifier, record, "event_type")
        return {
            "event_id": _optional_id(record, "event_id"),
            **_person(record),
            "item_id": _required(values.identifier, record, "item_id"),
            "event_type": kind,
            "value": values.number(record.get("value"), ranged=kind in TYPES_WITH_RANGE),
            "comment": values.text(record.get("comment")),
            "impression_id": _optional_id(record, "impression_id"),
            "occurred_at": self._moment(record, "occurred_at"),
        }

    def items(self, record: Row) -> Row:
        return {
            "item_id": _required(values.identifier, record, "item_id"),
            "title": values.prose(_given(record, "title")),
            "description": values.prose(_given(record, "description")),
            "attributes": values.json_object(_given(record, "attributes")),
            "available": values.flag(_given(record, "available")),
            "rest_days": values.days(record.get("rest_days")),
        }

    def users(self, record: Row) -> Row:
        return {
            "user_id": _required(values.identifier, record, "user_id"),
            "consent": values.flag(_given(record, "consent")),
            "attributes": values.json_object(_given(record, "attributes")),
        }

    def impressions(self, record: Row) -> Row:
        slate = _required(values.slate, record, "item_ids")
        return {
            "impression_id": _required(values.identifier, record, "impression_id"),
            **_person(record),
            "query": values.text(record.get("query")),
            "item_ids": slate,
            "propensities": values.propensities(_given(record, "propensities"), len(slate)),
            "model_version": values.text(record.get("model_version")),
            "placement": _optional_id(record, "placement"),
            "shown_at": self._moment(record, "shown_at"),
        }

    def _moment(self, record: Row, name: str) -> Any:
        if not values.present(record.get(name)):
            raise Refused(f"{name} is empty")
        return values.moment(record[name], self.zone, self.unit)


_ROWS: dict[str, Callable[[_Converter, Row], Row]] = {
    "feedback": _Converter.feedback,
    "items": _Converter.items,
    "users": _Converter.users,
    "impressions": _Converter.impressions,
}


def _required(convert: Callable[[Any], Any], record: Row, name: str) -> Any:
    value = _given(record, name)
    if not values.present(value) or (found := convert(value)) is None:
        raise Refused(f"{name} is empty")
    return found


def _person(record: Row) -> Row:
    user = _optional_id(record, "user_id")
    session = next(filter(None, [_optional_id(record, name) for name in SESSIONS]), None)
    if user is None and session is None:
        raise Refused("nobody is named")
    return {"user_id": user or f"visitor:{session}", "session_id": session}


def _optional_id(record: Row, name: str) -> str | None:
    value = _given(record, name)
    return values.identifier(value) if values.present(value) else None


def _given(record: Row, name: str) -> Any:
    """Return a value; NaN is how data frames mark a missing one in JSON and Parquet."""
    value = record.get(name)
    return None if isinstance(value, float) and value != value else value


def _feedback_rows(accepted: list[Row]) -> list[Row]:
    """An event id and time occur once, and so does an event without an id."""
    seen: set[tuple[Any, ...]] = set()
    rows = []
    for row in accepted:
        own = (row["event_id"], row["occurred_at"])
        content = tuple(repr(row[name]) for name in row if name != "event_id")
        key = own if row["event_id"] is not None else content
        if key not in seen:
            seen.add(key)
            rows.append(row)
    return rows


def _keyed_rows(accepted: list[Row], table: str) -> list[Row]:
    """A later line of an item or a user adds to and replaces what an earlier one said."""
    rows: dict[str, Row] = {}
    for row in accepted:
        key = row[_KEYS[table]]
        if key not in rows:
            rows[key] = dict(row)
        elif table != "impressions":
            rows[key] |= {name: value for name, value in row.items() if value is not None}
    return list(rows.values())


def differences(table: str, expected: Row, stored: Row) -> list[str]:
    """Return the columns whose stored value does not say what the file says."""
    return [name for name in expected if not _same(table, name, expected[name], stored[name])]


def _same(table: str, name: str, expected: Any, stored: Any) -> bool:
    if name == "event_id" and expected is None:
        return bool(re.fullmatch(r"content-[0-9a-f]{32}", stored))
    if table == "items" and name in ("title", "description"):
        return values.same_text("" if expected is None else expected, stored)
    if name == "attributes":
        return values.same_json(expected or {}, stored)
    if name in ("available", "consent"):
        return stored is (True if expected is None else expected)
    if name in ("comment", "query", "model_version"):
        return values.same_text(expected, stored)
    if name == "propensities" and expected is not None and stored is not None:
        return expected == [float(np.float32(entry)) for entry in stored]
    return bool(expected == stored)
