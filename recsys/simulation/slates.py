"""Slates shown to simulated users and their reactions, as rows that an application would insert."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from numpy.typing import NDArray

from recsys.columns import Columns
from recsys.model.ranking import NO_ITEM
from recsys.simulation.world import World

CLICK, RATING = "click", "rating"
_SECONDS_TO_CLICK, _SECONDS_TO_RATE = 5, 600


@dataclass(frozen=True, eq=False)
class Reactions:
    """Events of one type that users had with shown items.

    Attributes
    ----------
    event_type
        Name of the type.
    slate, position
        [events] the shown item.
    value
        [events] value of the event; NaN for none.
    occurred_at
        [events] microseconds since 1970 UTC.
    """

    event_type: str
    slate: NDArray[np.int64]
    position: NDArray[np.int64]
    value: NDArray[np.float64]
    occurred_at: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SlateLog:
    """Shown slates with the users' reactions, in the order shown.

    Attributes
    ----------
    world
        Defines the user and item positions.
    users
        [slates] user positions.
    slates
        [slates, positions] items; `NO_ITEM` where no item was left.
    propensities
        [slates, positions] probability of the item at its position; NaN where there is no item.
    clicks
        [slates, positions] whether the item was clicked.
    ratings
        [slates, positions] stars given to clicked items; NaN where none were given.
    shown_at
        [slates] microseconds since 1970 UTC.
    click_probabilities
        [slates, positions] true probability of each click; their sum is the reward of a slate.
    model_version
        Model version that chose the slates, or [slates] one per slate; None: no model did.
    prefix
        Prefix of impression and event ids; must be unique per log within a warehouse.
    """

    world: World
    users: NDArray[np.int64]
    slates: NDArray[np.int32]
    propensities: NDArray[np.float64]
    clicks: NDArray[np.bool_]
    ratings: NDArray[np.float64]
    shown_at: NDArray[np.int64]
    click_probabilities: NDArray[np.float64]
    model_version: str | NDArray[np.object_] | None
    prefix: str

    def __len__(self) -> int:
        return len(self.users)

    def impressions(self) -> pa.Table:
        """Return rows for the table `impressions`."""
        shown = self.slates != NO_ITEM
        lengths = shown.sum(axis=1)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        items = pa.array(self.world.item_ids[self.slates[shown]].tolist(), pa.string())
        propensities = pa.array(self.propensities[shown].astype(np.float32))
        return pa.table(
            {
                Columns.IMPRESSION_ID: self._impression_ids(np.arange(len(self))),
                Columns.USER_ID: pa.array(self.world.user_ids[self.users].tolist(), pa.string()),
                "item_ids": pa.ListArray.from_arrays(offsets, items),
                "propensities": pa.ListArray.from_arrays(offsets, propensities),
                "model_version": pa.array(
                    np.broadcast_to(np.asarray(self.model_version, dtype=object), len(self)).tolist(),
                    pa.string(),
                ),
                "shown_at": pa.array(self.shown_at, pa.timestamp("us", tz="UTC")),
            }
        )

    def feedback(self) -> pa.Table:
        """Return rows for the table `feedback`: clicks, and ratings where given."""
        parts = []
        for reaction in reactions_to(self.clicks, self.ratings, self.shown_at):
            kind, slate, position = reaction.event_type, reaction.slate, reaction.position
            parts.append(
                pa.table(
                    {
                        Columns.EVENT_ID: pa.array(
                            [f"{self.prefix}-{kind}-{s}-{p}" for s, p in zip(slate, position, strict=True)],
                            pa.string(),
                        ),
                        Columns.USER_ID: pa.array(
                            self.world.user_ids[self.users[slate]].tolist(), pa.string()
                        ),
                        Columns.ITEM_ID: pa.array(
                            self.world.item_ids[self.slates[slate, position]].tolist(), pa.string()
                        ),
                        Columns.EVENT_TYPE: pa.array([kind] * len(slate), pa.string()),
                        Columns.VALUE: pa.array(reaction.value, from_pandas=True),
                        Columns.IMPRESSION_ID: self._impression_ids(slate),
                        Columns.OCCURRED_AT: pa.array(reaction.occurred_at, pa.timestamp("us", tz="UTC")),
                    }
                )
            )
        return pa.concat_tables(parts).sort_by(Columns.OCCURRED_AT)

    def load(self, engine: sa.Engine, folder: Path) -> None:
        """Load impressions and feedback into a warehouse from files, as `recsys ingest` does."""
        from recsys.warehouse.ingest import ingest_file

        folder.mkdir(parents=True, exist_ok=True)
        for table, rows in (("impressions", self.impressions()), ("feedback", self.feedback())):
            path = folder / f"{self.prefix}-{table}.parquet"
            pq.write_table(rows, path)
            ingest_file(engine, table, path)  # type: ignore[arg-type]

    def _impression_ids(self, slates: NDArray[np.int64]) -> pa.Array:
        return pa.array([f"{self.prefix}-{number}" for number in slates.tolist()], pa.string())


def reactions_to(
    clicks: NDArray[np.bool_], ratings: NDArray[np.float64], shown_at: NDArray[np.int64]
) -> list[Reactions]:
    """Return the clicks, and the ratings of clicked items, as events.

    Parameters
    ----------
    clicks
        [slates, positions]
    ratings
        [slates, positions] stars; NaN for none.
    shown_at
        [slates] microseconds since 1970 UTC.
    """
    parts = []
    for kind, given, delay in (
        (CLICK, clicks, _SECONDS_TO_CLICK),
        (RATING, clicks & np.isfinite(ratings), _SECONDS_TO_RATE),
    ):
        slate, position = np.nonzero(given)
        value = ratings[slate, position] if kind == RATING else np.full(len(slate), np.nan)
        parts.append(Reactions(kind, slate, position, value, shown_at[slate] + delay * 1_000_000 + position))
    return parts
