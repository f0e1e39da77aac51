"""The catalogue: items in a fixed order, which the `item_index` of events refers to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys.errors import SnapshotError
from recsys.snapshot.item_text import item_text

ALWAYS = np.iinfo(np.int64).min
"""Value of `Catalogue.available_from` for an item that has always been available."""
WITHOUT_END = np.iinfo(np.int64).max
"""Value of `Catalogue.available_until` for an item that stays available."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
        `[items]` whether the item may be recommended between the next two times.
    available_from, available_until
        `[items]` microseconds since 1970 UTC (the second exclusive), or `ALWAYS` and `WITHOUT_END`.
    group
        `[items]` position of the first item that is the same thing; its own if it has no variants. A list
        shows one item of a group.
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
    available_from: NDArray[np.int64]
    available_until: NDArray[np.int64]
    group: NDArray[np.int64]

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
        available_from: Sequence[datetime | None] | None = None,
        available_until: Sequence[datetime | None] | None = None,
        variant_of: Sequence[str | None] | None = None,
    ) -> "Catalogue":
        """Build from columns, each `[items]`; `item_text` composes the texts. None: the item has none.

        An item belongs to the group that `variant_of` names, and to the one that is named like itself. Items
        that are connected by such names are one group, also along chains and circles.
        """
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
            available_from=_times(available_from, count, ALWAYS),
            available_until=_times(available_until, count, WITHOUT_END),
            group=_groups(item_ids, variant_of),
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
            available_from=self.available_from[list(items)],
            available_until=self.available_until[list(items)],
            group=_firsts(self.group[list(items)]),
        )

    def within_its_time(self, items: ArrayLike, at: ArrayLike) -> NDArray[np.bool_]:
        """Return whether each moment is between the two times of its item; always for an item of -1.

        Parameters
        ----------
        items, at
            Positions of items and microseconds since 1970 UTC. They are broadcast against each other.
        """
        position, moment = np.asarray(items, dtype=np.int64), np.asarray(at, dtype=np.int64)
        inside = (self.available_from[position] <= moment) & (moment < self.available_until[position])
        result: NDArray[np.bool_] = inside | (position < 0)
        return result

    def available_at(self, at: int) -> NDArray[np.bool_]:
        """Return `[items]` whether each may be recommended at a time in microseconds since 1970 UTC."""
        return self.available & self.within_its_time(np.arange(len(self)), at)

    @cached_property
    def variants(self) -> NDArray[np.int64]:
        """Positions of the items that share their group with another."""
        return np.flatnonzero(np.bincount(self.group, minlength=len(self))[self.group] > 1)

    @cached_property
    def timed(self) -> NDArray[np.int64]:
        """Positions of the items that are not available at all times."""
        return np.flatnonzero((self.available_from != ALWAYS) | (self.available_until != WITHOUT_END))

    def __len__(self) -> int:
        return len(self.item_ids)

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each item id."""
        return {item_id: position for position, item_id in enumerate(self.item_ids.tolist())}

    def lookup(self, item_ids: Sequence[str] | NDArray[np.object_]) -> NDArray[np.int32]:
        """Return `[len(item_ids)]` positions; -1 for an item that is not in the catalogue."""
        return np.fromiter((self.index.get(i, -1) for i in item_ids), dtype=np.int32, count=len(item_ids))


def _times(times: Sequence[datetime | None] | None, count: int, default: int) -> NDArray[np.int64]:
    if times is None:
        return np.full(count, default, dtype=np.int64)
    return np.fromiter(
        (default if time is None else (time - _EPOCH) // timedelta(microseconds=1) for time in times),
        dtype=np.int64,
        count=count,
    )


def _groups(item_ids: Sequence[str], variant_of: Sequence[str | None] | None) -> NDArray[np.int64]:
    """Return `[items]` the position of the first item of each item's group."""
    named = [(item, name) for item, name in enumerate(variant_of or ()) if name is not None]
    if not named:
        return np.arange(len(item_ids))
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    nodes = {item_id: item for item, item_id in enumerate(item_ids)}
    ends = [nodes.setdefault(name, len(nodes)) for _, name in named]
    edges = (np.ones(len(ends), dtype=bool), ([item for item, _ in named], ends))
    _, labels = connected_components(coo_matrix(edges, shape=(len(nodes), len(nodes))), directed=False)
    return _firsts(labels[: len(item_ids)])


def _firsts(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return `[items]` the first position with the same label."""
    _, first, number = np.unique(labels, return_index=True, return_inverse=True)
    return first[number].astype(np.int64)
