"""Convert columns of a file to typed columns, and record why a row is rejected.

A column is converted as a whole. Only if that fails are its values converted one by one.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

# An entry of a Postgres B-tree holds about 2,700 bytes, and an index may have two ids.
MAX_ID_BYTES = 1_000
# The end of the year 9999; larger numbers are milliseconds or wrong.
_MAX_SECONDS = 253_402_300_799
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMESTAMP = pa.timestamp("us", "UTC")
_YEAR_1 = pa.scalar(-62_135_596_800_000_000, pa.int64()).cast(_TIMESTAMP)
_YEAR_10000 = pa.scalar((_MAX_SECONDS + 1) * 1_000_000, pa.int64()).cast(_TIMESTAMP)
_SHOWN_CHARACTERS = 60


class _WrongValue(ValueError):  # noqa: N818 - never leaves this module
    pass


@dataclass
class Checked:
    """Columns of a chunk during conversion, with the reasons why rows are rejected."""

    columns: dict[str, pa.Array]
    rows: int
    time_zone: tzinfo | None = None
    """Time zone of times that have none. None: such times are rejected."""
    reasons: dict[int, list[str]] = field(default_factory=dict)

    def text(self, name: str, *, required: bool = False, max_bytes: int | None = None) -> pa.Array:
        """Return a text column `[rows]`; NUL characters, invalid UTF-8 and too long values are rejected."""
        column = self._column(name)
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

    def number(self, name: str) -> pa.Array:
        """Return a column of finite numbers `[rows]`, null where the value is missing."""
        return self._convert(name, self._column(name), _numbers, _number, pa.float64())

    def time(self, name: str) -> pa.Array:
        """Return UTC times in microseconds `[rows]` from ISO 8601 with time zone or from Unix seconds."""
        column = self._column(name)
        self._require(name, column)
        times = self._convert(
            name,
            column,
            lambda values: _times(values, self.time_zone),
            lambda value: _time(value, self.time_zone),
            _TIMESTAMP,
        )
        outside = pc.or_(pc.less(times, _YEAR_1), pc.greater_equal(times, _YEAR_10000))
        if pc.any(outside).as_py():
            self._add(pc.fill_null(outside, False), f"{name} is outside the years 1 to 9999")
        return times

    def boolean(self, name: str) -> pa.Array:
        """Return a column of booleans `[rows]`, null where the value is missing."""
        return self._convert(name, self._column(name), _unconverted, _boolean, pa.bool_())

    def json_object(self, name: str) -> pa.Array:
        """Return a column of JSON objects as text `[rows]`."""
        return self._convert(name, self._column(name), _unconverted, _json_object, pa.string())

    def text_list(self, name: str, *, required: bool = False) -> pa.Array:
        """Return a column of Postgres arrays of text `[rows]` from JSON lists of non-empty strings."""
        column = self._column(name)
        if required:
            self._require(name, column)
        return self._convert(name, column, _unconverted, _text_list, pa.string())

    def number_list(self, name: str) -> pa.Array:
        """Return a column of Postgres arrays of numbers `[rows]` from JSON lists of numbers."""
        return self._convert(name, self._column(name), _unconverted, _number_list, pa.string())

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
        together: Callable[[pa.Array], pa.Array],
        one: Callable[[Any], Any],
        kind: pa.DataType,
    ) -> pa.Array:
        if column.null_count == len(column):
            return pa.nulls(len(column), kind)
        try:
            return together(column)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pass
        values: list[Any] = []
        for row, value in enumerate(column.to_pylist()):
            try:
                values.append(None if value is None else one(value))
            except _WrongValue as error:
                values.append(None)
                self.reasons.setdefault(row, []).append(f"{name} {error}")
        return pa.array(values, kind)


def _unconverted(_: pa.Array) -> pa.Array:
    raise pa.ArrowNotImplementedError("value by value")


def _shown(value: Any) -> str:
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")


def _as_text(value: Any) -> bytes:
    return str(value).encode()


def _decode(column: pa.Array) -> pa.Array:
    if pc.any(pc.match_substring(column, "\0")).as_py():
        raise pa.ArrowInvalid("NUL")
    return column.cast(pa.string())


def _decode_one(value: bytes) -> str:
    if b"\0" in value:
        raise _WrongValue("contains a NUL character")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise _WrongValue(f"is not valid UTF-8 at its byte {error.start + 1}") from error


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
        raise _WrongValue(f"{_shown(value)} is not a number") from error
    if not math.isfinite(number):
        raise _WrongValue(f"{_shown(value)} is not a finite number")
    return number


def _times(column: pa.Array, zone: tzinfo | None) -> pa.Array:
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
    seconds = column.cast(pa.float64())
    if not pc.all(pc.less_equal(pc.abs(seconds), float(_MAX_SECONDS))).as_py():
        raise pa.ArrowInvalid("not seconds")
    return pc.round(pc.multiply(seconds, 1e6)).cast(pa.int64()).cast(_TIMESTAMP)


def _time(value: Any, zone: tzinfo | None) -> int:
    if isinstance(value, datetime):
        time = value
    else:
        text = value.decode("utf-8", "replace").strip() if isinstance(value, bytes) else str(value)
        if (seconds := _float(text)) is not None:
            return _from_seconds(seconds)
        try:
            time = datetime.fromisoformat(text)
        except ValueError as error:
            raise _WrongValue(
                f"{_shown(value)} is not a time; write ISO 8601 with time zone, such as "
                "2026-01-31T18:30:00+01:00, or Unix seconds"
            ) from error
    if time.tzinfo is None:
        if zone is None:
            raise _WrongValue(
                f"{_shown(value)} has no time zone; add one, such as Z or +01:00, or name it with "
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


def _from_seconds(seconds: float) -> int:
    if not math.isfinite(seconds):
        raise _WrongValue(f"{seconds} is not a time")
    if abs(seconds) > _MAX_SECONDS:
        raise _WrongValue(f"{seconds:.0f} is too large for Unix seconds; are these milliseconds?")
    return round(seconds * 1e6)


def _boolean(value: Any) -> bool:
    text = value.decode("utf-8", "replace").strip().lower() if isinstance(value, bytes) else str(value)
    if text in ("true", "t", "yes", "y", "1"):
        return True
    if text in ("false", "f", "no", "n", "0"):
        return False
    raise _WrongValue(f"{_shown(value)} is neither true nor false")


def _json(value: Any) -> Any:
    try:
        return json.loads(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise _WrongValue(f"{_shown(value)} is not valid JSON") from error


def _json_object(value: Any) -> str:
    entries = _json(value)
    if not isinstance(entries, dict):
        raise _WrongValue(f"{_shown(value)} is not a JSON object")
    try:
        text = json.dumps(entries, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError as error:
        raise _WrongValue("contains NaN, Infinity or half of a surrogate pair") from error
    if "\\u0000" in text:
        raise _WrongValue("contains a NUL character")
    return text


def _text_list(value: Any) -> str:
    entries = _json(value)
    if not isinstance(entries, list) or not entries:
        raise _WrongValue(f"{_shown(value)} is not a JSON list of ids")
    texts = [str(entry) if isinstance(entry, int) else entry for entry in entries]
    if not all(isinstance(text, str) and text and "\0" not in text for text in texts):
        raise _WrongValue(f"{_shown(value)} is not a JSON list of ids")
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"


def _number_list(value: Any) -> str:
    entries = _json(value)
    if not isinstance(entries, list) or not all(
        isinstance(entry, int | float) and math.isfinite(entry) for entry in entries
    ):
        raise _WrongValue(f"{_shown(value)} is not a JSON list of numbers")
    return "{" + ",".join(str(float(entry)) for entry in entries) + "}"
