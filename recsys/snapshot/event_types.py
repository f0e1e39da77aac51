"""Event types as the model sees them: sentiment, scaled values and target weights, vectorised."""

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
_SCHEMA = pa.schema(
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
    """The rows of table `event_types`, sorted by name; an event refers to one by its index.

    Attributes
    ----------
    names
        [types]
    explicit, weight, polarity
        [types]: given as an opinion; weight as a next-item target; 1, -1 or 0 (the value decides).
    min_value, max_value, negative_to, positive_from
        [types]; NaN where the type has none.
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
        """Build from rows of the table `event_types`; a value that is absent or None means none."""
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
        """Return plain rows for JSON; None where a type has no such value."""
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
        return pa.Table.from_pylist(self.to_records(), schema=_SCHEMA)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def index(self) -> dict[str, int]:
        """Index of each name."""
        return {name: number for number, name in enumerate(self.names)}

    @property
    def carries_value(self) -> NDArray[np.bool_]:
        """[types]: the type has a value range."""
        return ~np.isnan(self.min_value) & ~np.isnan(self.max_value)

    def lookup(self, names: Sequence[str]) -> NDArray[np.int16]:
        """Return [len(names)] indices; -1 for an unknown type."""
        return np.fromiter((self.index.get(name, -1) for name in names), dtype=np.int16, count=len(names))

    def sentiment(self, event_type: ArrayLike, value: ArrayLike) -> NDArray[np.int8]:
        """Return [events]: -1 negative, 1 positive, 0 neither.

        The type's polarity decides; where it is 0 the value does: negative up to `negative_to`,
        positive from `positive_from` on.

        Parameters
        ----------
        event_type
            [events] index of the type.
        value
            [events] as given by the application, not scaled; NaN: none.
        """
        kind = np.asarray(event_type, dtype=np.int64)
        values = np.asarray(value, dtype=np.float64)
        polarity = self.polarity[kind]
        # Comparisons with NaN are false: no value, or no bound, decides nothing.
        positive = (polarity == 1) | (values >= self.positive_from[kind])
        negative = (polarity == -1) | (values <= self.negative_to[kind])
        return np.where(negative, -1, np.where(positive, 1, 0)).astype(np.int8)

    def scale(self, event_type: ArrayLike, value: ArrayLike) -> NDArray[np.float32]:
        """Return [events] values scaled to 0..1 within the type's range; NaN where there is none."""
        kind = np.asarray(event_type, dtype=np.int64)
        low, high = self.min_value[kind], self.max_value[kind]
        width = np.where(high > low, high - low, 1.0)
        return np.clip((np.asarray(value, dtype=np.float64) - low) / width, 0, 1).astype(np.float32)

    def unscale(self, event_type: ArrayLike, scaled: ArrayLike) -> NDArray[np.float32]:
        """Return [events] values in the type's own range, the inverse of `scale` inside the range."""
        kind = np.asarray(event_type, dtype=np.int64)
        low, high = self.min_value[kind], self.max_value[kind]
        width = np.where(high > low, high - low, 1.0)
        return (np.asarray(scaled, dtype=np.float64) * width + low).astype(np.float32)

    def target_weight(
        self, event_type: ArrayLike, sentiment: NDArray[np.int8], row_weight: ArrayLike = 1.0
    ) -> NDArray[np.float32]:
        """Return [events] weights as next-item targets: 0 for negative feedback, else type x row weight."""
        kind = np.asarray(event_type, dtype=np.int64)
        weight = self.weight[kind] * np.asarray(row_weight, dtype=np.float32)
        return np.where(sentiment < 0, 0, weight).astype(np.float32)
