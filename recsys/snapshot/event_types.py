"""Event types, and the sentiment, scaled value and target weight of events, vectorised."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from recsys.errors import ConfigurationError

_FIELDS = (
    "event_type",
    "explicit",
    "weight",
    "polarity",
    "min_value",
    "max_value",
    "negative_to",
    "positive_from",
    "role",
    "hide_days",
    "value_is_amount",
    "typical_amount",
)
SCHEMA = pa.schema(
    [
        ("event_type", pa.string()),
        ("explicit", pa.bool_()),
        ("weight", pa.float64()),
        ("polarity", pa.int16()),
        ("min_value", pa.float64()),
        ("max_value", pa.float64()),
        ("negative_to", pa.float64()),
        ("positive_from", pa.float64()),
        ("role", pa.string()),
        ("hide_days", pa.float64()),
        ("value_is_amount", pa.bool_()),
        ("typical_amount", pa.float64()),
    ]
)
ROLES = ("outcome", "step", "dislike")
"""What a type of event is for: an outcome one wants, a step towards it, or a sign of dislike."""
_LARGEST_AMOUNT_FACTOR = 3.0
"""An amount changes the weight of a target by at most this factor, so that no large order decides."""


@dataclass(frozen=True, eq=False)
class EventTypes:
    """The rows of the table `event_types`, sorted by name. Events refer to a type by its index.

    Attributes
    ----------
    names
        `[types]`
    explicit
        `[types]` whether users state an opinion with it.
    weight
        `[types]` weight as a next-item target.
    polarity
        `[types]` 1: positive, -1: negative, 0: the value decides.
    min_value, max_value, negative_to, positive_from
        `[types]` range of the value and bounds of its sentiment; NaN where the type has none.
    role
        `[types]` one of `ROLES`.
    hide_days
        `[types]` for how many days an event keeps its item off its user's lists: 0 never, infinity for ever.
    value_is_amount
        `[types]` whether the value is an amount, such as a price or a quantity. An event with an amount below
        0 is a return: it takes back the user's latest earlier event of the type with the item.
    typical_amount
        `[types]` amount at which an event has the weight of its type; NaN if amounts do not weigh targets.
    """

    names: tuple[str, ...]
    explicit: NDArray[np.bool_]
    weight: NDArray[np.float32]
    polarity: NDArray[np.int8]
    min_value: NDArray[np.float64]
    max_value: NDArray[np.float64]
    negative_to: NDArray[np.float64]
    positive_from: NDArray[np.float64]
    role: tuple[str, ...]
    hide_days: NDArray[np.float32]
    value_is_amount: NDArray[np.bool_]
    typical_amount: NDArray[np.float64]

    @classmethod
    def from_records(cls, records: Iterable[Mapping[str, Any]]) -> "EventTypes":
        """Build from rows of the table `event_types`, in which optional values may be absent or None.

        Rows of older releases have no role, and hide their items for ever.
        """
        rows = sorted(records, key=lambda row: str(row["event_type"]))
        if not rows:
            raise ConfigurationError("there are no event types: the table event_types is empty")
        names = tuple(str(row["event_type"]) for row in rows)
        if len(set(names)) != len(names):
            raise ConfigurationError(f"event types must be unique, got {list(names)}")

        def numbers(field: str) -> NDArray[np.float64]:
            return np.array(
                [np.nan if row.get(field) is None else row[field] for row in rows], dtype=np.float64
            )

        return cls(
            names=names,
            explicit=np.array([bool(row["explicit"]) for row in rows]),
            weight=numbers("weight").astype(np.float32),
            polarity=numbers("polarity").astype(np.int8),
            min_value=numbers("min_value"),
            max_value=numbers("max_value"),
            negative_to=numbers("negative_to"),
            positive_from=numbers("positive_from"),
            role=tuple(_role(row) for row in rows),
            hide_days=np.nan_to_num(numbers("hide_days"), nan=np.inf, posinf=np.inf).astype(np.float32),
            value_is_amount=np.array([bool(row.get("value_is_amount")) for row in rows]),
            typical_amount=numbers("typical_amount"),
        )

    @classmethod
    def from_arrow(cls, table: pa.Table) -> "EventTypes":
        """Build from `event_types.parquet` of a snapshot."""
        return cls.from_records(table.to_pylist())

    def to_records(self) -> list[dict[str, Any]]:
        """Return rows for JSON, with None where a type has no value."""
        columns = [self.names, *(np.asarray(getattr(self, field)).tolist() for field in _FIELDS[1:])]
        return [
            {
                field: None if isinstance(value, float) and not np.isfinite(value) else value
                for field, value in zip(_FIELDS, row, strict=True)
            }
            for row in zip(*columns, strict=True)
        ]

    def to_arrow(self) -> pa.Table:
        """Return the table that `from_arrow` reads."""
        return pa.Table.from_pylist(self.to_records(), schema=SCHEMA)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def index(self) -> dict[str, int]:
        """Index of each name."""
        return {name: number for number, name in enumerate(self.names)}

    @property
    def carries_value(self) -> NDArray[np.bool_]:
        """`[types]` whether the type has a value range."""
        return ~np.isnan(self.min_value) & ~np.isnan(self.max_value)

    @property
    def is_outcome(self) -> NDArray[np.bool_]:
        """`[types]` whether the type is an outcome one wants."""
        return np.array([role == "outcome" for role in self.role])

    def lookup(self, names: Sequence[str]) -> NDArray[np.int16]:
        """Return `[len(names)]` indices; -1 for an unknown type."""
        return np.fromiter((self.index.get(name, -1) for name in names), dtype=np.int16, count=len(names))

    def sentiment(self, event_type: ArrayLike, value: ArrayLike) -> NDArray[np.int8]:
        """Return `[events]` -1 for negative, 1 for positive, 0 for neutral.

        A type with polarity 0 is negative up to the value `negative_to` and positive from `positive_from` on.
        An amount below 0 is a return and negative.

        Parameters
        ----------
        event_type
            `[events]` index of the type.
        value
            `[events]` as the application sent it, not scaled; NaN for none.
        """
        kind = np.asarray(event_type, dtype=np.int64)
        values = np.asarray(value, dtype=np.float64)
        polarity = self.polarity[kind]
        # Comparisons with NaN are false, so an event without a value, or a type without a bound, is neutral.
        positive = (polarity == 1) | (values >= self.positive_from[kind])
        negative = (polarity == -1) | (values <= self.negative_to[kind]) | self.are_returns(kind, values)
        return np.where(negative, -1, np.where(positive, 1, 0)).astype(np.int8)

    def are_returns(self, event_type: ArrayLike, value: ArrayLike) -> NDArray[np.bool_]:
        """Return `[events]` whether the value is an amount below 0."""
        returns: NDArray[np.bool_] = self.value_is_amount[np.asarray(event_type, dtype=np.int64)] & (
            np.asarray(value, dtype=np.float64) < 0
        )
        return returns

    def scale(self, event_type: ArrayLike, value: ArrayLike) -> NDArray[np.float32]:
        """Return `[events]` values scaled to 0..1 within the type's range; NaN where there is no value."""
        kind = np.asarray(event_type, dtype=np.int64)
        low, high = self.min_value[kind], self.max_value[kind]
        width = np.where(high > low, high - low, 1.0)
        return np.clip((np.asarray(value, dtype=np.float64) - low) / width, 0, 1).astype(np.float32)

    def target_weight(
        self,
        event_type: ArrayLike,
        sentiment: NDArray[np.int8],
        value: ArrayLike = np.nan,
        row_weight: ArrayLike = 1.0,
    ) -> NDArray[np.float32]:
        """Return `[events]` weights as next-item targets: 0 if negative, else type weight x row weight.

        Where the type has a typical amount, the weight grows with the square root of the amount, by a factor
        of at most 3 in both directions.
        """
        kind = np.asarray(event_type, dtype=np.int64)
        weight = self.weight[kind] * np.asarray(row_weight, dtype=np.float32)
        share = np.asarray(value, dtype=np.float64) / self.typical_amount[kind]
        factor = np.sqrt(np.maximum(share, 0))
        factor = np.clip(factor, 1 / _LARGEST_AMOUNT_FACTOR, _LARGEST_AMOUNT_FACTOR)
        weight = weight * np.where(np.isnan(share), 1.0, factor)
        return np.where(sentiment < 0, 0, weight).astype(np.float32)

    def hides_for(
        self, event_type: ArrayLike, sentiment: NDArray[np.int8], rest_days: ArrayLike = np.nan
    ) -> NDArray[np.float32]:
        """Return `[events]` for how many days an event keeps its item off its user's lists.

        Infinity means for ever.

        Parameters
        ----------
        event_type
            `[events]` index of the type; -1, an unknown type, hides for ever.
        rest_days
            `[events]` rest period of the event's item; NaN for none. It replaces the days of the event type
            for outcomes that are not negative.
        """
        kind = np.asarray(event_type, dtype=np.int64)
        known = kind >= 0
        days = np.where(known, self.hide_days[kind], np.inf)
        rests = known & self.is_outcome[kind] & (sentiment >= 0) & ~np.isnan(rest_days)
        return np.where(rests, rest_days, days).astype(np.float32)


def _role(row: Mapping[str, Any]) -> str:
    role = row.get("role") or ("dislike" if row["polarity"] == -1 else "outcome")
    if role not in ROLES:
        raise ConfigurationError(
            f"event type {row['event_type']!r} has the role {role!r}; a role is one of {', '.join(ROLES)}"
        )
    return str(role)
