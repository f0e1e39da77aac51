"""What a value of a file means, stated from docs/files.md without the product's code.

A value is what its format gives: text in CSV and TSV, any JSON value in JSON Lines, any Python value in
Parquet. Each function returns the value of the table's column, None if there is none, or raises Refused.
"""

import ast
import html
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np


class Refused(Exception):  # noqa: N818 - the documented answer to a wrong value
    """The documented rules reject the value."""


_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WHOLE_AS_FLOAT = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0")
_ROUNDED = re.compile(r"-?[0-9](?:\.[0-9]+)?[eE]\+[0-9]+")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_EXACT = 2**53
_TICKS = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SECOND = 253_402_300_799
_MAX_ID_BYTES = 1_000
_MAX_NESTING = 100


def readable(value: Any) -> Any:
    """Return bytes as text; refuse text that Postgres cannot hold."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise Refused("not UTF-8") from error
    if isinstance(value, str):
        if "\0" in value:
            raise Refused("a NUL character")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise Refused("half of a surrogate pair")
    return value


def present(value: Any) -> bool:
    """Whether a field has a value."""
    return value is not None and value not in ("", b"")


def identifier(value: Any) -> str | None:
    """An id: the same text in every format, without spaces around it and without the `.0` of a float."""
    value = readable(value)
    if isinstance(value, list | Mapping):
        raise Refused("a list or an object is no id")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | np.floating | Decimal):
        if not math.isfinite(value):
            raise Refused("not finite")
        if isinstance(value, Decimal):
            return str(int(value)) if value == int(value) else str(value)
        if abs(value) > _EXACT:
            raise Refused("digits were lost")
        return str(int(value)) if value == int(value) else str(float(value))
    text = str(value)
    if len(text.encode()) > _MAX_ID_BYTES:
        raise Refused("too long")
    text = text.strip()
    if text in ("nan", "NaN"):
        raise Refused("an empty cell")
    if _ROUNDED.fullmatch(text):
        raise Refused("digits were lost")
    if (whole := _WHOLE_AS_FLOAT.fullmatch(text)) is not None:
        if abs(int(whole[1])) > _EXACT:
            raise Refused("digits were lost")
        return str(int(whole[1]))
    if text[:1] in ("[", "{") and _is_json(text):
        raise Refused("a list or an object is no id")
    return text or None


def number(value: Any, *, ranged: bool) -> float | None:
    """A number with a decimal point; true is 1 and false is 0 where the type of event has no range."""
    value = readable(value)
    if not present(value):
        return None
    flag = value if isinstance(value, bool) else None
    if isinstance(value, str):
        text = value.strip(" \t\n\r\f\v")
        if text.lower() in ("true", "false"):
            flag = text.lower() == "true"
        elif not _NUMBER.fullmatch(text):
            raise Refused("not a number")
        else:
            value = float(text)
    if flag is not None:
        if ranged:
            raise Refused("a flag is no value of a type with a range")
        return float(flag)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | np.number):
        raise Refused("not a number")
    try:
        result = float(value)
    except OverflowError as error:
        raise Refused("not a double") from error
    if not math.isfinite(result):
        raise Refused("not finite")
    return result


def days(value: Any) -> float | None:
    """A number of days, 0 or more."""
    found = number(value, ranged=True)
    if found is not None and found < 0:
        raise Refused("below 0")
    return found


def text(value: Any) -> Any:
    """A text as it was written; other values as the format's text for them (see `same_text`)."""
    value = readable(value)
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if present(value) else None


def same_text(expected: Any, stored: str | None) -> bool:
    """Whether the stored text says the value: the text itself, or a number, flag, time, list or object."""
    if expected is None or isinstance(expected, str):
        return expected == stored
    if stored is None:
        return False
    if isinstance(expected, bool):
        return stored == str(expected).lower()
    if isinstance(expected, int | float | Decimal | np.number):
        try:
            return float(stored) == float(expected)
        except (ValueError, OverflowError):
            return stored == str(expected)
    if isinstance(expected, list | Mapping):
        try:
            return same_json(plain(expected), json.loads(stored))
        except (ValueError, Refused):
            return False
    if isinstance(expected, datetime):
        try:
            return datetime.fromisoformat(stored).timestamp() == expected.timestamp()
        except ValueError:
            return stored.startswith(str(expected)[:19])
    if isinstance(expected, date):
        return stored == expected.isoformat()
    return bool(stored)


def prose(value: Any) -> Any:
    """A title or description: lists joined with spaces, HTML entities as characters."""
    value = text(value)
    if isinstance(value, list):
        texts = _texts(value)
        return _as_text(value) if texts is None else readable(_entities(" ".join(texts))) or None
    if isinstance(value, Mapping):
        return _as_text(value)
    if isinstance(value, str):
        if (
            re.match(r"""\[\s*(?:\]|\[|["']|null\b|None\b)""", value)
            and (found := _literal(value)) is not None
        ):
            texts = _texts(found)
            if texts is not None:
                value = " ".join(texts)
        return readable(_entities(value)) or None
    return value


def flag(value: Any) -> bool | None:
    """A flag: true, false, yes, no and their first letters in any case, 1 and 0."""
    value = readable(value)
    if not present(value):
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float | Decimal | np.number):
        if value in (0, 1):
            return bool(value)
        raise Refused("neither true nor false")
    if isinstance(value, str):
        word = value.strip().lower()
        if word in ("true", "t", "yes", "y", "1", "1.0"):
            return True
        if word in ("false", "f", "no", "n", "0", "0.0"):
            return False
    raise Refused("neither true nor false")


def json_object(value: Any) -> dict[str, Any] | None:
    """A JSON object, also as text; entities become characters; at most 100 levels deep."""
    value = readable(value)
    if not present(value):
        return None
    if isinstance(value, str):
        value = _json(value)
    if not isinstance(value, Mapping):
        raise Refused("not an object")
    return _checked(value, 1)


def moment(value: Any, zone: tzinfo | None, unit: str) -> datetime:
    """A time: ISO 8601 with a zone, or a number since 1970; microseconds are the finest."""
    value = readable(value)
    if isinstance(value, str):
        value = value.strip()
        if _NUMBER.fullmatch(value):
            value = float(value)
        else:
            try:
                value = datetime.fromisoformat(value)
            except ValueError as error:
                raise Refused("not a time") from error
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if isinstance(value, datetime):
        if value.tzinfo is None:
            if zone is None:
                raise Refused("no time zone")
            value = value.replace(tzinfo=zone)
        try:
            return datetime.fromisoformat(value.isoformat()).astimezone(UTC)
        except OverflowError as error:
            raise Refused("outside the years 1 to 9999") from error
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | np.number):
        raise Refused("not a time")
    try:
        seconds = float(value) / _TICKS[unit]
        if not abs(seconds) <= _LAST_SECOND:
            raise Refused("too large")
        return _EPOCH + timedelta(microseconds=round(seconds * 1e6))
    except OverflowError as error:
        raise Refused("outside the years 1 to 9999") from error


def slate(value: Any) -> list[str]:
    """A list of at least one id."""
    value = readable(value)
    entries = _json(value) if isinstance(value, str) else value
    if not isinstance(entries, list) or not entries:
        raise Refused("not a list of ids")
    ids = []
    for entry in entries:
        if isinstance(entry, bool) or not isinstance(entry, str | int | float | bytes | UUID | Decimal):
            raise Refused("not an id")
        found = identifier(entry)
        if found is None:
            raise Refused("an empty id")
        ids.append(found)
    return ids


def propensities(value: Any, length: int) -> list[float] | None:
    """A list of probabilities, one for each item of the slate."""
    value = readable(value)
    if not present(value):
        return None
    entries = _json(value) if isinstance(value, str) else value
    if not isinstance(entries, list) or len(entries) != length:
        raise Refused("not one probability for each item")
    for entry in entries:
        if isinstance(entry, bool) or not isinstance(entry, int | float | Decimal) or not 0 <= entry <= 1:
            raise Refused("not a probability")
        if 0 < entry < 1e-37:
            raise Refused("too small for 32 bits")
    return [float(np.float32(entry)) for entry in entries]


def plain(value: Any, depth: int = 1) -> Any:
    """Return a nested value of Parquet as JSON: ISO 8601 times, numbers, no keys without a value."""
    if depth > _MAX_NESTING + 1:
        raise Refused("nested too deep")
    if isinstance(value, Mapping):
        inner = {str(name): plain(entry, depth + 1) for name, entry in value.items()}
        return {name: entry for name, entry in inner.items() if entry is not None}
    if isinstance(value, list | tuple):
        return [plain(entry, depth + 1) for entry in value]
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def same_json(expected: Any, stored: Any) -> bool:
    """Whether two JSON values are equal; numbers are equal if their doubles are."""
    if isinstance(expected, bool) or isinstance(stored, bool):
        return expected is stored
    if isinstance(expected, Mapping):
        return (
            isinstance(stored, Mapping)
            and expected.keys() == stored.keys()
            and all(same_json(entry, stored[name]) for name, entry in expected.items())
        )
    if isinstance(expected, list):
        return (
            isinstance(stored, list)
            and len(expected) == len(stored)
            and all(same_json(*pair) for pair in zip(expected, stored, strict=True))
        )
    if isinstance(expected, int | float) and isinstance(stored, int | float):
        try:
            return float(expected) == float(stored)
        except OverflowError:
            return expected == stored
    return bool(expected == stored)


def _checked(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping | list) and depth > _MAX_NESTING:
        raise Refused("nested too deep")
    if isinstance(value, Mapping):
        return {readable(_entities(str(name))): _checked(entry, depth + 1) for name, entry in value.items()}
    if isinstance(value, list):
        return [_checked(entry, depth + 1) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise Refused("not finite")
    return readable(_entities(readable(value))) if isinstance(value, str) else value


def _json(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise Refused("not JSON") from error


def _is_json(value: str) -> bool:
    try:
        _json(value)
    except Refused:
        return False
    return True


def _literal(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        try:
            return ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None


def _texts(entries: Any) -> list[str] | None:
    """Return the texts of a nested list that holds only texts, in order."""
    if isinstance(entries, str):
        return [entries.strip()] if entries.strip() else []
    if entries is None:
        return []
    if not isinstance(entries, list | tuple):
        return None
    parts = [_texts(entry) for entry in entries]
    return None if None in parts else [word for part in parts for word in part or []]


def _as_text(value: Any) -> str:
    return readable(_entities(json.dumps(value, ensure_ascii=False)))


def _entities(value: str) -> str:
    return _ENTITY.sub(lambda found: html.unescape(found[0]), value)
