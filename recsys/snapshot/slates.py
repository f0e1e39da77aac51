"""Lists that users were shown, and what they answered in them."""

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.columns import Columns
from recsys.snapshot.catalogue import Catalogue
from recsys.snapshot.sequences import microseconds

SLATES = "slates"
"""Name of the file in a snapshot, without its ending; an erasure gives it another ending."""
MOST_POSITIONS = 100
UNANSWERED = np.iinfo(np.int64).max
SCHEMA = pa.schema(
    [
        ("slate", pa.int64()),
        (Columns.USER_KEY, pa.string()),
        ("placement", pa.string()),
        ("query", pa.string()),
        ("shown_at", pa.timestamp("us", "UTC")),
        (Columns.ITEM_ID, pa.string()),
        ("position", pa.int32()),
        ("answered_at", pa.timestamp("us", "UTC")),
    ]
)


@dataclass(frozen=True, eq=False)
class Slates:
    """Lists in the order in which they were shown, with their items in the order of the positions.

    Attributes
    ----------
    user_keys
        `[slates]` keyed hash of the user.
    shown_at
        `[slates]` microseconds since 1970.
    offsets, items
        `[slates + 1]` and `[shown]` the items of each list, as positions in the catalogue; -1: not in it.
    place
        `[shown]` number of the place on the screen: a position within a placement.
    answered_at
        `[shown]` microseconds since 1970; `UNANSWERED` for what was passed over.
    requests
        `[slates]` the request in words that the list answers; empty for none.
    """

    user_keys: NDArray[np.object_]
    shown_at: NDArray[np.int64]
    offsets: NDArray[np.int64]
    items: NDArray[np.int64]
    place: NDArray[np.int64]
    answered_at: NDArray[np.int64]
    requests: NDArray[np.object_]

    @classmethod
    def from_arrow(cls, table: pa.Table, catalogue: Catalogue) -> "Slates":
        """Read rows with the schema `SCHEMA`, in which the rows of a slate are side by side."""
        slate = table["slate"].to_numpy()
        first = np.flatnonzero(np.diff(slate, prepend=slate[:1] - 1)) if len(slate) else slate
        placement = table["placement"].combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()
        items = table[Columns.ITEM_ID].combine_chunks().dictionary_encode()
        numbers = np.append(catalogue.lookup(items.dictionary.to_pylist()), -1).astype(np.int64)
        position = table["position"].to_numpy().astype(np.int64)
        answered = table["answered_at"].cast(pa.int64()).fill_null(int(UNANSWERED)).to_numpy()
        requests = np.full(len(first), "", dtype=object)
        if "query" in table.schema.names:  # older snapshots have none
            requests[:] = table["query"].take(first).fill_null("").to_pylist()
        return cls(
            user_keys=np.asarray(table[Columns.USER_KEY].take(first).to_pylist(), dtype=object),
            shown_at=table["shown_at"].cast(pa.int64()).to_numpy()[first],
            offsets=np.append(first, len(slate)).astype(np.int64),
            items=numbers[items.indices.to_numpy()],
            place=(placement.astype(np.int64) + 1) * MOST_POSITIONS + position,
            answered_at=answered,
            requests=requests,
        )

    def __len__(self) -> int:
        return len(self.user_keys)

    @property
    def answered(self) -> NDArray[np.bool_]:
        """`[shown]` whether the user answered the item."""
        return np.asarray(self.answered_at != UNANSWERED)

    @property
    def slate_of_item(self) -> NDArray[np.int64]:
        """`[shown]` the slate that shows it."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def take(self, slates: NDArray[np.int64]) -> "Slates":
        """Return some of the slates."""
        lengths = np.diff(self.offsets)[slates]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][slates] - offsets[:-1], lengths)
        return Slates(
            self.user_keys[slates], self.shown_at[slates], offsets,
            self.items[rows], self.place[rows], self.answered_at[rows], self.requests[slates],
        )  # fmt: skip

    def before(self, time: datetime | int) -> "Slates":
        """Return the slates shown before a time, as they were then: later answers are not known."""
        limit = microseconds(time)
        known = self.take(np.flatnonzero(self.shown_at < limit))
        answered_at = np.where(known.answered_at < limit, known.answered_at, UNANSWERED)
        return replace(known, answered_at=answered_at)

    def unrequested(self) -> "Slates":
        """Return the slates that answer no request: what a request brings says nothing of other lists."""
        return self.take(np.flatnonzero(self.requests == ""))
