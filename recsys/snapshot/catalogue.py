"""The catalogue: items in a fixed order, which the `item_index` of events refers to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.errors import SnapshotError
from recsys.snapshot.item_text import item_text


@dataclass(frozen=True, eq=False)
class Catalogue:
    """All items, including those that may no longer be recommended.

    Attributes
    ----------
    item_ids
        `[items]` of str, dtype object.
    titles, texts, attributes
        `[items]`; the text encoder reads `texts`.
    available
        `[items]` whether the item may be recommended.
    rest_days
        `[items]` days after an outcome until the item may be recommended to its user again; NaN where the
        event type decides.
    """

    item_ids: NDArray[np.object_]
    titles: list[str]
    texts: list[str]
    available: NDArray[np.bool_]
    attributes: list[dict[str, Any]]
    rest_days: NDArray[np.float32]

    def __post_init__(self) -> None:
        lengths = {len(getattr(self, field.name)) for field in fields(self)}
        if len(lengths) != 1:
            raise SnapshotError(f"the columns of a catalogue differ in length: {sorted(lengths)}")
        if len(self.index) != len(self.item_ids):
            raise SnapshotError("a catalogue may list each item only once")

    @classmethod
    def build(
        cls,
        item_ids: Sequence[str],
        titles: Sequence[str],
        descriptions: Sequence[str] | None = None,
        attributes: Sequence[Mapping[str, Any]] | None = None,
        available: Sequence[bool] | NDArray[np.bool_] | None = None,
        rest_days: Sequence[float | None] | None = None,
    ) -> "Catalogue":
        """Build from columns, each `[items]`; `item_text` composes the texts."""
        count = len(item_ids)
        described = list(descriptions) if descriptions is not None else [""] * count
        details = [dict(row) for row in attributes] if attributes is not None else [{} for _ in range(count)]
        ids = np.empty(count, dtype=object)
        ids[:] = list(item_ids)
        return cls(
            item_ids=ids,
            titles=list(titles),
            texts=[item_text(*row) for row in zip(titles, described, details, strict=True)],
            available=np.ones(count, dtype=bool) if available is None else np.asarray(available, dtype=bool),
            attributes=details,
            rest_days=np.array([None] * count if rest_days is None else rest_days, dtype=np.float32),
        )

    def take(self, items: Sequence[int] | NDArray[np.int64]) -> "Catalogue":
        """Return the items at these positions."""
        return Catalogue(
            item_ids=self.item_ids[list(items)],
            titles=[self.titles[item] for item in items],
            texts=[self.texts[item] for item in items],
            available=self.available[list(items)],
            attributes=[self.attributes[item] for item in items],
            rest_days=self.rest_days[list(items)],
        )

    def __len__(self) -> int:
        return len(self.item_ids)

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each item id."""
        return {item_id: position for position, item_id in enumerate(self.item_ids.tolist())}

    def lookup(self, item_ids: Sequence[str] | NDArray[np.object_]) -> NDArray[np.int32]:
        """Return `[len(item_ids)]` positions; -1 for an item that is not in the catalogue."""
        return np.fromiter((self.index.get(i, -1) for i in item_ids), dtype=np.int32, count=len(item_ids))
