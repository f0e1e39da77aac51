"""Convert numbers, flags and times: whole columns at once, or one value with the reason why it is wrong."""

import math
import re
from datetime import UTC, datetime, tzinfo
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from recsys.warehouse.wrong_value import WrongValue, shown

# The end of the year 9999; larger numbers are milliseconds or wrong.
_MAX_SECONDS = 253_402_300_799
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMESTAMP = pa.timestamp("us", "UTC")
YEAR_1 = pa.scalar(-62_135_596_800_000_000, pa.int64()).cast(TIMESTAMP)
YEAR_10000 = pa.scalar((_MAX_SECONDS + 1) * 1_000_000, pa.int64()).cast(TIMESTAMP)
# Milliseconds of the year 5138, and microseconds of 1973.
_LEAST_MICROSECONDS = 1e14
_DECIMAL_COMMA = re.compile(r"\s*[-+]?[0-9]+,[0-9]+\s*")
# Python also reads 1_000 and the digits of other scripts.
_NUMBER = re.compile(r"\s*[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\s*", re.ASCII)
_NOT_FINITE = re.compile(r"\s*[-+]?(?:nan|inf|infinity)\s*", re.IGNORECASE)

TimeUnit = Literal["seconds", "milliseconds", "microseconds"]
TICKS: dict[TimeUnit, int] = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}


def numbers(column: pa.Array) -> pa.Array:
    """Convert a whole column; raise an error of Arrow if a value needs a closer look."""
    if pa.types.is_binary(column.type):
        column = column.cast(pa.string())
    numbers = column.cast(pa.float64())
    if not pc.all(pc.is_finite(numbers)).as_py():
        raise pa.ArrowInvalid("not finite")
    return numbers


def flag_of(value: Any) -> bool | None:
    """Return the flag that a value is, as a text or as a Boolean; None for other values."""
    text = value.decode("utf-8", "replace").strip().lower() if isinstance(value, bytes) else value
    return {"true": True, "false": False}.get(text) if isinstance(text, str) else None


def number_or_flag(value: Any) -> float:
    """Return a finite number; true is 1 and false is 0."""
    return number(value) if (flag := flag_of(value)) is None else float(flag)


def number(value: Any) -> float:
    """Return a finite number."""
    try:
        result = _float(value)
    except (ValueError, TypeError, OverflowError) as error:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        hint = "; write a point instead of the decimal comma" if _DECIMAL_COMMA.fullmatch(text) else ""
        raise WrongValue(f"{shown(value)} is not a number{hint}") from error
    if not math.isfinite(result):
        raise WrongValue(f"{shown(value)} is not a finite number")
    return result


def _float(value: Any) -> float:
    text = value.decode() if isinstance(value, bytes) else value
    if isinstance(text, str) and not (_NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text)):
        raise ValueError("not a number")
    return float(text)


def times(column: pa.Array, zone: tzinfo | None, unit: TimeUnit) -> pa.Array:
    """Convert a whole column to UTC; raise an error of Arrow if a value needs a closer look."""
    kind = column.type
    if pa.types.is_binary(kind):
        text = column.cast(pa.string())
        try:
            return text.cast(TIMESTAMP)
        except pa.ArrowInvalid:
            column = text.cast(pa.float64())
    elif pa.types.is_timestamp(kind):
        if kind.tz is None:
            if zone is None:
                raise pa.ArrowInvalid("no zone")
            return pc.assume_timezone(column, str(zone)).cast(TIMESTAMP, safe=False)
        return column.cast(TIMESTAMP, safe=False)
    seconds = pc.divide(column.cast(pa.float64()), float(TICKS[unit]))
    if not pc.all(pc.less_equal(pc.abs(seconds), float(_MAX_SECONDS))).as_py():
        raise pa.ArrowInvalid("not seconds")
    return pc.round(pc.multiply(seconds, 1e6)).cast(pa.int64()).cast(TIMESTAMP)


def time(value: Any, zone: tzinfo | None, unit: TimeUnit) -> int:
    """Return microseconds since 1970."""
    if isinstance(value, datetime):
        moment = value
    else:
        text = value.decode("utf-8", "replace").strip() if isinstance(value, bytes) else str(value)
        if _NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text):
            return _from_number(float(text), unit)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise WrongValue(
                f"{shown(value)} is not a time; write ISO 8601 with time zone, such as "
                "2026-01-31T18:30:00+01:00, or Unix seconds"
            ) from error
    if moment.tzinfo is None:
        if zone is None:
            raise WrongValue(
                f"{shown(value)} has no time zone; add one, such as Z or +01:00, or name it with "
                "--assume-timezone"
            )
        moment = moment.replace(tzinfo=zone)
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _from_number(number: float, unit: TimeUnit) -> int:
    seconds = number / TICKS[unit]
    if not math.isfinite(seconds):
        raise WrongValue(f"{number} is not a time")
    if abs(seconds) > _MAX_SECONDS:
        finer = "milliseconds" if abs(number) < _LEAST_MICROSECONDS else "microseconds"
        hint = f"pass --time-unit {finer}" if finer != unit else "check the unit"
        raise WrongValue(f"{number:.0f} is too large for Unix {unit}; are these {finer}? If so, {hint}")
    return round(seconds * 1e6)


def boolean(value: Any) -> bool:
    """Return a flag that is a word or a number; tools that know no empty flags write 1.0 and 0.0."""
    text = value.decode("utf-8", "replace").strip().lower() if isinstance(value, bytes) else str(value)
    if text in ("true", "t", "yes", "y", "1", "1.0"):
        return True
    if text in ("false", "f", "no", "n", "0", "0.0"):
        return False
    raise WrongValue(f"{shown(value)} is neither true nor false")
