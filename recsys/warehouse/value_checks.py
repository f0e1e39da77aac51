"""Convert columns of a file to typed columns, and record why a row is rejected.

A column is converted as a whole. Only if that fails are its values converted one by one.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recsys.columns import Columns
from recsys.warehouse.identifiers import identifier, identifier_of_number, unusual_identifiers
from recsys.warehouse.item_prose import prose
from recsys.warehouse.json_values import (
    MAX_ID_BYTES,
    MAX_NESTING,
    json_object,
    name_list,
    probability_list,
    text_list,
)
from recsys.warehouse.number_values import (
    TIMESTAMP,
    YEAR_1,
    YEAR_10000,
    TimeUnit,
    boolean,
    flag_of,
    number,
    number_or_flag,
    numbers,
    time,
    times,
)
from recsys.warehouse.wrong_value import WrongValue, shown

_PERSONAL_IDS = (
    Columns.USER_ID,
    Columns.EVENT_ID,
    Columns.IMPRESSION_ID,
    Columns.SESSION_ID,
    "visitor_id",
    "anonymous_id",
)


@dataclass
class Checked:
    """Columns of a chunk during conversion, with the reasons why rows are rejected."""

    columns: dict[str, pa.Array]
    rows: int
    time_zone: tzinfo | None = None
    """Time zone of times that have none. None: such times are rejected."""
    time_unit: TimeUnit = "seconds"
    """Unit of times that are numbers, counted since 1970."""
    types_without_flags: frozenset[str] = frozenset()
    """Types of events whose values have a range or are an amount; true and false are no values of them."""
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
        return self._convert(name, self._column(name), numbers, number, pa.float64())

    def value(self, name: str, event_types: pa.Array) -> pa.Array:
        """Return the values of events `[rows]`: finite numbers, and 1 or 0 for the flags true and false.

        A flag is rejected for event types whose values have a range or are an amount: it is no rating.
        """
        column = self._column(name)
        if pa.types.is_binary(column.type) and column.null_count < len(column):
            with suppress(pa.ArrowInvalid):
                return numbers(column)
            for row, value in enumerate(column.to_pylist()):
                kind = event_types[row].as_py()
                if flag_of(value) is not None and kind in self.types_without_flags:
                    reason = f"{name} {shown(value)} is a flag, but {kind!r} has numbers as values"
                    self.reasons.setdefault(row, []).append(reason)
        return self._convert(name, column, numbers, number_or_flag, pa.float64())

    def days(self, name: str) -> pa.Array:
        """Return a column of numbers of days `[rows]`, 0 or more, null where the value is missing."""
        days = self.number(name)
        self._add(pc.less(days, 0), f"{name} is below 0: give a number of days, 0 or more")
        return days

    def time(self, name: str, *, required: bool = True) -> pa.Array:
        """Return UTC times in microseconds `[rows]` from ISO 8601 with time zone or from Unix seconds."""
        column = self._column(name)
        if required:
            self._require(name, column)
        else:
            column = _without_nan(column)
        found = self._convert(
            name,
            column,
            lambda values: times(values, self.time_zone, self.time_unit),
            lambda value: time(value, self.time_zone, self.time_unit),
            TIMESTAMP,
        )
        outside = pc.or_(pc.less(found, YEAR_1), pc.greater_equal(found, YEAR_10000))
        if pc.any(outside).as_py():
            self._add(pc.fill_null(outside, False), f"{name} is outside the years 1 to 9999")
        return found

    def end(self, name: str, *, start: str, starts: pa.Array) -> pa.Array:
        """Return UTC times `[rows]` as `time` does, null where the value is missing; each is after its start.

        Parameters
        ----------
        start, starts
            Name of the column that holds the starts, and its times `[rows]`.
        """
        ends = self.time(name, required=False)
        self._add(pc.fill_null(pc.less_equal(ends, starts), False), f"{name} is not after {start}")
        return ends

    def boolean(self, name: str) -> pa.Array:
        """Return a column of booleans `[rows]`, null where the value is missing."""
        return self._convert(name, _without_nan(self._column(name)), None, boolean, pa.bool_())

    def json_object(self, name: str) -> pa.Array:
        """Return a column of JSON objects as text `[rows]`."""
        return self._convert(name, _without_nan(self._column(name)), None, json_object, pa.string())

    def text_list(self, name: str, *, required: bool = False) -> pa.Array:
        """Return a column of Postgres arrays of text `[rows]` from JSON lists of non-empty strings."""
        column = _without_nan(self._column(name))
        if required:
            self._require(name, column)
        return self._convert(name, column, None, text_list, pa.string())

    def probability_list(self, name: str, *, as_long_as: str) -> pa.Array:
        """Return Postgres arrays of probabilities `[rows]`, each as long as the list of another column."""
        column = _without_nan(self._column(name))
        lists = self._convert(name, column, None, probability_list, pa.string())
        return self._require_length(name, column, lists, as_long_as)

    def name_list(self, name: str, *, as_long_as: str) -> pa.Array:
        """Return Postgres arrays of names and null `[rows]`, each as long as the list of another column."""
        column = _without_nan(self._column(name))
        lists = self._convert(name, column, None, name_list, pa.string())
        return self._require_length(name, column, lists, as_long_as)

    def _require_length(self, name: str, column: pa.Array, lists: pa.Array, as_long_as: str) -> pa.Array:
        """Reject rows whose list is not as long as that of another column; return the lists."""
        others = self._column(as_long_as)
        for row in pc.indices_nonzero(pc.and_(lists.is_valid(), others.is_valid())).to_pylist():
            with suppress(ValueError, TypeError, RecursionError):
                entries, expected = len(json.loads(column[row].as_py())), len(json.loads(others[row].as_py()))
                if entries != expected:
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

    def require_one(self, name: str, values: pa.Array, other: str, others: pa.Array) -> None:
        """Reject rows in which both columns are empty."""
        if values.null_count and others.null_count:
            self._add(pc.and_(pc.is_null(values), pc.is_null(others)), f"{name} and {other} are empty")

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
        return None, f"is nested more than {MAX_NESTING} deep"
    except (ValueError, TypeError, ArithmeticError) as error:
        # One strange value must not end the load of a file.
        return None, f"{shown(value)} cannot be read: {error}"
    return converted, None


def _without_nan(column: pa.Array) -> pa.Array:
    """Return the column with null for NaN, which is how data frames mark a missing value."""
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
