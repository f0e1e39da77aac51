"""Convert columns of a file to typed columns, and record why a row is rejected.

A column is converted as a whole. Only if that fails are its values converted one by one.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from recsys.columns import Columns
from recsys.warehouse.identifiers import identifier, identifier_of_number, unusual_identifiers
from recsys.warehouse.item_prose import characters_within, prose
from recsys.warehouse.wrong_value import WrongValue, shown

# An entry of a Postgres B-tree holds about 2,700 bytes, and an index may have two ids.
MAX_ID_BYTES = 1_000
# The end of the year 9999; larger numbers are milliseconds or wrong.
_MAX_SECONDS = 253_402_300_799
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMESTAMP = pa.timestamp("us", "UTC")
_YEAR_1 = pa.scalar(-62_135_596_800_000_000, pa.int64()).cast(_TIMESTAMP)
_YEAR_10000 = pa.scalar((_MAX_SECONDS + 1) * 1_000_000, pa.int64()).cast(_TIMESTAMP)
_MAX_NESTING = 100
_PERSONAL_IDS = (Columns.USER_ID, Columns.EVENT_ID, Columns.IMPRESSION_ID)
# Milliseconds of the year 5138, and microseconds of 1973.
_LEAST_MICROSECONDS = 1e14
_DECIMAL_COMMA = re.compile(r"\s*[-+]?[0-9]+,[0-9]+\s*")


TimeUnit = Literal["seconds", "milliseconds", "microseconds"]
_TICKS: dict[TimeUnit, int] = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}


@dataclass
class Checked:
    """Columns of a chunk during conversion, with the reasons why rows are rejected."""

    columns: dict[str, pa.Array]
    rows: int
    time_zone: tzinfo | None = None
    """Time zone of times that have none. None: such times are rejected."""
    time_unit: TimeUnit = "seconds"
    """Unit of times that are numbers, counted since 1970."""
    reasons: dict[int, list[str]] = field(default_factory=dict)
    changed_ids: int = 0
    """Number of ids that were written without spaces or `.0`."""
    changed_id: tuple[str, str] | None = None
    """One of them, before and after; never an id of a user, event or impression."""

    def identifier(self, name: str, *, required: bool = True) -> pa.Array:
        """Return a column of ids `[rows]`, see `recsys.warehouse.identifiers`; too long ids are rejected."""
        column = _without_nan(self._column(name))
        if required:
            self._require(name, column)
        if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
            self.columns[name] = self._convert(name, column, None, _number_as_id, pa.binary())
        text = self.text(name, max_bytes=MAX_ID_BYTES)
        if unusual := unusual_identifiers(text):
            values = text.to_pylist()
            for row in unusual:
                before = values[row]
                values[row], reason = _converted(before, identifier)
                if reason is None and values[row] is None and required:
                    reason = "is empty"
                if reason is not None:
                    self.reasons.setdefault(row, []).append(f"{name} {reason}")
                elif values[row] is not None and values[row] != before:
                    self.changed_ids += 1
                    if name not in _PERSONAL_IDS:
                        self.changed_id = self.changed_id or (before, values[row])
            text = pa.array(values, pa.string())
        return text

    def text(self, name: str, *, required: bool = False, max_bytes: int | None = None) -> pa.Array:
        """Return a text column `[rows]`; NUL characters, invalid UTF-8 and too long values are rejected."""
        column = _without_nan(self._column(name))
        if required:
            self._require(name, column)
        if not pa.types.is_binary(column.type):
            column = self._convert(
                name, column, lambda values: values.cast(pa.string()).cast(pa.binary()), _as_text, pa.binary()
            )
        text = self._convert(name, column, _decode, _decode_one, pa.string())
        if max_bytes is not None and (pc.max(pc.binary_length(text)).as_py() or 0) > max_bytes:
            too_long = pc.fill_null(pc.greater(pc.binary_length(text), max_bytes), False)
            self._add(too_long, f"{name} is longer than {max_bytes} bytes")
        return text

    def prose(self, name: str) -> pa.Array:
        """Return a column of texts that people read `[rows]`, see `recsys.warehouse.item_prose`."""
        text = self.text(name)
        special = pc.or_(pc.starts_with(text, "["), pc.match_substring(text, "&"))
        if not pc.any(special).as_py():
            return text
        values = text.to_pylist()
        for row in pc.indices_nonzero(pc.fill_null(special, False)).to_pylist():
            values[row] = prose(values[row])
        return pa.array(values, pa.string())

    def number(self, name: str) -> pa.Array:
        """Return a column of finite numbers `[rows]`, null where the value is missing."""
        return self._convert(name, self._column(name), _numbers, _number, pa.float64())

    def days(self, name: str) -> pa.Array:
        """Return a column of numbers of days `[rows]`, 0 or more, null where the value is missing."""
        days = self.number(name)
        self._add(pc.less(days, 0), f"{name} is below 0: give a number of days, 0 or more")
        return days

    def time(self, name: str) -> pa.Array:
        """Return UTC times in microseconds `[rows]` from ISO 8601 with time zone or from Unix seconds."""
        column = self._column(name)
        self._require(name, column)
        times = self._convert(
            name,
            column,
            lambda values: _times(values, self.time_zone, _TICKS[self.time_unit]),
            lambda value: _time(value, self.time_zone, self.time_unit),
            _TIMESTAMP,
        )
        outside = pc.or_(pc.less(times, _YEAR_1), pc.greater_equal(times, _YEAR_10000))
        if pc.any(outside).as_py():
            self._add(pc.fill_null(outside, False), f"{name} is outside the years 1 to 9999")
        return times

    def boolean(self, name: str) -> pa.Array:
        """Return a column of booleans `[rows]`, null where the value is missing."""
        return self._convert(name, self._column(name), None, _boolean, pa.bool_())

    def json_object(self, name: str) -> pa.Array:
        """Return a column of JSON objects as text `[rows]`."""
        return self._convert(name, self._column(name), None, _json_object, pa.string())

    def text_list(self, name: str, *, required: bool = False) -> pa.Array:
        """Return a column of Postgres arrays of text `[rows]` from JSON lists of non-empty strings."""
        column = self._column(name)
        if required:
            self._require(name, column)
        return self._convert(name, column, None, _text_list, pa.string())

    def probability_list(self, name: str, *, as_long_as: str) -> pa.Array:
        """Return Postgres arrays of probabilities `[rows]`, each as long as the list of another column."""
        lists = self._convert(name, self._column(name), None, _probability_list, pa.string())
        others = self._column(as_long_as)
        for row in pc.indices_nonzero(pc.and_(lists.is_valid(), others.is_valid())).to_pylist():
            entries, other = lists[row].as_py().count(",") + (lists[row].as_py() != "{}"), others[row].as_py()
            with suppress(ValueError, TypeError, RecursionError):
                if entries != (expected := len(json.loads(other))):
                    reason = f"{name} has {entries} entries, but {as_long_as} has {expected}"
                    self.reasons.setdefault(row, []).append(reason)
        return lists

    def good_rows(self, columns: dict[str, pa.Array]) -> pa.Table:
        """Return the columns without rejected rows."""
        table = pa.table(columns)
        return table.take(pa.array(self.good_row_numbers(), pa.int64())) if self.reasons else table

    def good_row_numbers(self) -> Sequence[int]:
        """Return the numbers of the rows that are not rejected, in the order of `good_rows`."""
        if not self.reasons:
            return range(self.rows)
        return [row for row in range(self.rows) if row not in self.reasons]

    def wrong_rows(self) -> list[tuple[int, str]]:
        """Return the number of each rejected row with all reasons."""
        return [(row, "; ".join(reasons)) for row, reasons in sorted(self.reasons.items())]

    def _column(self, name: str) -> pa.Array:
        return self.columns.get(name, pa.nulls(self.rows, pa.binary()))

    def _require(self, name: str, column: pa.Array) -> None:
        if column.null_count:
            self._add(pc.is_null(column), f"{name} is empty")

    def _add(self, wrong: pa.Array, reason: str) -> None:
        for row in pc.indices_nonzero(wrong).to_pylist():
            self.reasons.setdefault(row, []).append(reason)

    def _convert(
        self,
        name: str,
        column: pa.Array,
        convert_all: Callable[[pa.Array], pa.Array] | None,
        convert_one: Callable[[Any], Any],
        kind: pa.DataType,
    ) -> pa.Array:
        """Convert a column at once, or value by value if that is impossible; note what is wrong."""
        if column.null_count == len(column):
            return pa.nulls(len(column), kind)
        if convert_all is not None:
            with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
                return convert_all(column)
        values: list[Any] = []
        for row, value in enumerate(column.to_pylist()):
            converted, reason = (None, None) if value is None else _converted(value, convert_one)
            values.append(converted)
            if reason is not None:
                self.reasons.setdefault(row, []).append(f"{name} {reason}")
        return pa.array(values, kind)


def _converted(value: Any, convert: Callable[[Any], Any]) -> tuple[Any, str | None]:
    """Return the converted value, or None and the reason why it is wrong."""
    try:
        converted = convert(value)
        if isinstance(converted, str):
            converted.encode()
    except WrongValue as error:
        return None, str(error)
    except UnicodeEncodeError:
        return None, "contains half of a surrogate pair"
    except RecursionError:
        return None, f"is nested more than {_MAX_NESTING} deep"
    except (ValueError, TypeError, ArithmeticError) as error:
        # One strange value must not end the load of a file.
        return None, f"{shown(value)} cannot be read: {error}"
    return converted, None


def _without_nan(column: pa.Array) -> pa.Array:
    """Return the column with null for NaN, which is how data frames mark a missing text."""
    return pc.if_else(pc.is_nan(column), None, column) if pa.types.is_floating(column.type) else column


def _as_text(value: Any) -> bytes:
    return str(value).encode()


def _number_as_id(number: Any) -> bytes:
    return identifier_of_number(number).encode()


def _decode(column: pa.Array) -> pa.Array:
    if pc.any(pc.match_substring(column, "\0")).as_py():
        raise pa.ArrowInvalid("NUL")
    return column.cast(pa.string())


def _decode_one(value: bytes) -> str:
    if b"\0" in value:
        raise WrongValue("contains a NUL character")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise WrongValue(f"is not valid UTF-8 at its byte {error.start + 1}") from error


def _numbers(column: pa.Array) -> pa.Array:
    if pa.types.is_binary(column.type):
        column = column.cast(pa.string())
    numbers = column.cast(pa.float64())
    if not pc.all(pc.is_finite(numbers)).as_py():
        raise pa.ArrowInvalid("not finite")
    return numbers


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (ValueError, TypeError, OverflowError) as error:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        hint = "; write a point instead of the decimal comma" if _DECIMAL_COMMA.fullmatch(text) else ""
        raise WrongValue(f"{shown(value)} is not a number{hint}") from error
    if not math.isfinite(number):
        raise WrongValue(f"{shown(value)} is not a finite number")
    return number


def _times(column: pa.Array, zone: tzinfo | None, ticks: int) -> pa.Array:
    kind = column.type
    if pa.types.is_binary(kind):
        text = column.cast(pa.string())
        try:
            return text.cast(_TIMESTAMP)
        except pa.ArrowInvalid:
            column = text.cast(pa.float64())
    elif pa.types.is_timestamp(kind):
        if kind.tz is None:
            if zone is None:
                raise pa.ArrowInvalid("no zone")
            return pc.assume_timezone(column, str(zone)).cast(_TIMESTAMP, safe=False)
        return column.cast(_TIMESTAMP, safe=False)
    seconds = pc.divide(column.cast(pa.float64()), float(ticks))
    if not pc.all(pc.less_equal(pc.abs(seconds), float(_MAX_SECONDS))).as_py():
        raise pa.ArrowInvalid("not seconds")
    return pc.round(pc.multiply(seconds, 1e6)).cast(pa.int64()).cast(_TIMESTAMP)


def _time(value: Any, zone: tzinfo | None, unit: TimeUnit) -> int:
    if isinstance(value, datetime):
        time = value
    else:
        text = value.decode("utf-8", "replace").strip() if isinstance(value, bytes) else str(value)
        if (number := _float(text)) is not None:
            return _from_number(number, unit)
        try:
            time = datetime.fromisoformat(text)
        except ValueError as error:
            raise WrongValue(
                f"{shown(value)} is not a time; write ISO 8601 with time zone, such as "
                "2026-01-31T18:30:00+01:00, or Unix seconds"
            ) from error
    if time.tzinfo is None:
        if zone is None:
            raise WrongValue(
                f"{shown(value)} has no time zone; add one, such as Z or +01:00, or name it with "
                "--assume-timezone"
            )
        time = time.replace(tzinfo=zone)
    since = time - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _from_number(number: float, unit: TimeUnit) -> int:
    seconds = number / _TICKS[unit]
    if not math.isfinite(seconds):
        raise WrongValue(f"{number} is not a time")
    if abs(seconds) > _MAX_SECONDS:
        finer = "milliseconds" if abs(number) < _LEAST_MICROSECONDS else "microseconds"
        hint = f"pass --time-unit {finer}" if finer != unit else "check the unit"
        raise WrongValue(f"{number:.0f} is too large for Unix {unit}; are these {finer}? If so, {hint}")
    return round(seconds * 1e6)


def _boolean(value: Any) -> bool:
    text = value.decode("utf-8", "replace").strip().lower() if isinstance(value, bytes) else str(value)
    if text in ("true", "t", "yes", "y", "1"):
        return True
    if text in ("false", "f", "no", "n", "0"):
        return False
    raise WrongValue(f"{shown(value)} is neither true nor false")


def _json(value: Any) -> Any:
    try:
        entries = json.loads(value)
    except (ValueError, TypeError) as error:
        raise WrongValue(f"{shown(value)} is not valid JSON") from error
    # The parsers that read it later, in Postgres and Python, have limits that depend on their stack.
    if _count(value, "[") + _count(value, "{") > _MAX_NESTING and _nesting(entries) > _MAX_NESTING:
        raise WrongValue(f"is nested more than {_MAX_NESTING} deep")
    return entries


def _count(value: bytes | str, character: str) -> int:
    return value.count(character.encode()) if isinstance(value, bytes) else value.count(character)


def _nesting(entries: Any) -> int:
    """Return how deep lists and objects are nested."""
    depth, level = 0, [entries]
    while level := [entry for entry in level if isinstance(entry, list | dict)]:
        depth += 1
        level = [inner for entry in level for inner in (entry.values() if isinstance(entry, dict) else entry)]
    return depth


def _has_nul(entries: Any) -> bool:
    if isinstance(entries, dict):
        return any("\0" in name or _has_nul(entry) for name, entry in entries.items())
    if isinstance(entries, list):
        return any(_has_nul(entry) for entry in entries)
    return isinstance(entries, str) and "\0" in entries


def _json_object(value: Any) -> str:
    entries = _json(value)
    if not isinstance(entries, dict):
        raise WrongValue(f"{shown(value)} is not a JSON object")
    if _count(value, "&"):
        entries = characters_within(entries)
    try:
        text = json.dumps(entries, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise WrongValue("contains NaN or Infinity") from error
    # Text may hold a backslash and "u0000", which is not a NUL character.
    if "\\u0000" in text and _has_nul(entries):
        raise WrongValue("contains a NUL character")
    return text


def _text_list(value: Any) -> str:
    entries = _json(value)
    if not isinstance(entries, list) or not entries:
        raise WrongValue(f"{shown(value)} is not a JSON list of ids")
    texts = [
        identifier_of_number(entry)
        if isinstance(entry, int | float) and not isinstance(entry, bool)
        else identifier(entry)
        if isinstance(entry, str)
        else None
        for entry in entries
    ]
    if not all(text and "\0" not in text for text in texts):
        raise WrongValue(f"{shown(value)} is not a JSON list of ids")
    quoted = (str(text).replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"


def _probability_list(value: Any) -> str:
    entries = _json(value)
    if not isinstance(entries, list) or not all(
        isinstance(entry, int | float) and not isinstance(entry, bool) and 0 <= entry <= 1
        for entry in entries
    ):
        raise WrongValue(f"{shown(value)} is not a list of probabilities between 0 and 1")
    return "{" + ",".join(str(float(entry)) for entry in entries) + "}"
