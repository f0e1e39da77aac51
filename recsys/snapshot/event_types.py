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
    ]
)


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
    """

    names: tuple[str, ...]
    explicit: NDArray[np.bool_]
    weight: NDArray[np.float32]
    polarity: NDArray[np.int8]
    min_value: NDArray[np.float64]
    max_value: NDArray[np.float64]
    negative_to: NDArray[np.float64]
    positive_from: NDArray[np.float64]

    @classmethod
    def from_records(cls, records: Iterable[Mapping[str, Any]]) -> "EventTypes":
        """Build from rows of the table `event_types`, in which optional values may be absent or None."""
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
        )

    @classmethod
    def from_arrow(cls, table: pa.Table) -> "EventTypes":
        """Build from `event_types.parquet` of a snapshot."""
        return cls.from_records(table.to_pylist())

    def to_records(self) -> list[dict[str, Any]]:
        """Return rows for JSON, with None where a type has no value."""
        columns = [self.names, *(getattr(self, field).tolist() for field in _FIELDS[1:])]
        return [
            {
                field: None if isinstance(value, float) and np.isnan(value) else value
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

    def lookup(self, names: Sequence[str]) -> NDArray[np.int16]:
        """Return `[len(names)]` indices; -1 for an unknown type."""
        return np.fromiter((self.index.get(name, -1) for name in names), dtype=np.int16, count=len(names))

    def sentiment(self, event_type: ArrayLike, value: ArrayLike) -> NDArray[np.int8]:
        """Return `[events]` -1 for negative, 1 for positive, 0 for neutral.

        A type with polarity 0 is negative up to the value `negative_to` and positive from `positive_from` on.

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
        negative = (polarity == -1) | (values <= self.negative_to[kind])
        return np.where(negative, -1, np.where(positive, 1, 0)).astype(np.int8)

    def scale(self, event_type: ArrayLike, value: ArrayLike) -> NDArray[np.float32]:
        """Return `[events]` values scaled to 0..1 within the type's range; NaN where there is no value."""
        kind = np.asarray(event_type, dtype=np.int64)
        low, high = self.min_value[kind], self.max_value[kind]
        width = np.where(high > low, high - low, 1.0)
        return np.clip((np.asarray(value, dtype=np.float64) - low) / width, 0, 1).astype(np.float32)

    def target_weight(
        self, event_type: ArrayLike, sentiment: NDArray[np.int8], row_weight: ArrayLike = 1.0
    ) -> NDArray[np.float32]:
        """Return `[events]` weights as next-item targets: 0 if negative, else type weight x row weight."""
        kind = np.asarray(event_type, dtype=np.int64)
        weight = self.weight[kind] * np.asarray(row_weight, dtype=np.float32)
        return np.where(sentiment < 0, 0, weight).astype(np.float32)
