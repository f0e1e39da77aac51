"""Slates shown to simulated users and their reactions, as rows that an application would insert."""

from dataclasses import dataclass
from datetime import datetime, timedelta
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
        Model version that chose the slates, or [slates] one per slate.
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
    model_version: str | NDArray[np.object_]
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
        for kind, given, delay in (
            (CLICK, self.clicks, _SECONDS_TO_CLICK),
            (RATING, np.isfinite(self.ratings), _SECONDS_TO_RATE),
        ):
            slate, position = np.nonzero(given)
            value = self.ratings[slate, position] if kind == RATING else np.full(len(slate), np.nan)
            time = self.shown_at[slate] + delay * 1_000_000 + position
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
                        Columns.VALUE: pa.array(value, from_pandas=True),
                        Columns.IMPRESSION_ID: self._impression_ids(slate),
                        Columns.OCCURRED_AT: pa.array(time, pa.timestamp("us", tz="UTC")),
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


@dataclass(frozen=True, eq=False)
class Luck:
    """Random numbers behind the users' reactions, each [slates, positions].

    Attributes
    ----------
    click, rate
        Uniform numbers. A position is clicked, and a click is rated, if the number is below the probability.
    noise
        Standard normal numbers: the noise of a rating.
    """

    click: NDArray[np.float64]
    rate: NDArray[np.float64]
    noise: NDArray[np.float64]

    @classmethod
    def draw(cls, shape: tuple[int, int], generator: np.random.Generator) -> "Luck":
        """Draw random numbers of a shape: [slates, positions] or [slates, items]."""
        return cls(generator.random(shape), generator.random(shape), generator.standard_normal(shape))

    def at(self, slates: NDArray[np.int32]) -> "Luck":
        """Select the numbers [slates, positions] of shown items from those of all [slates, items].

        An item then has the same luck at any position.
        """
        items = np.where(slates == NO_ITEM, 0, slates)
        return Luck(
            *(np.take_along_axis(part, items, axis=1) for part in (self.click, self.rate, self.noise))
        )


def simulate_reactions(
    world: World,
    users: NDArray[np.int64],
    slates: NDArray[np.int32],
    propensities: NDArray[np.float64],
    luck: Luck,
    *,
    model_version: str | NDArray[np.object_],
    start: datetime,
    prefix: str,
    every: timedelta = timedelta(seconds=1),
    consumed: NDArray[np.bool_] | None = None,
) -> SlateLog:
    """Let users click and rate the slates they are shown, by the position-based model.

    A user examines a position with a probability that depends on the position alone, and clicks an examined
    item with a probability that depends on the preference alone (Craswell et al., 2008).

    Parameters
    ----------
    users
        [slates]; a user may occur several times.
    slates, propensities
        [slates, positions]
    luck
        The same luck and slates give the same reactions.
    start, every
        When the first slate is shown, and the time between slates.
    prefix
        Prefix of impression and event ids.
    consumed
        [users, items] items that a user has consumed and does not click again; None: no items.
    """
    shown = slates != NO_ITEM
    items = np.where(shown, slates, 0)
    if consumed is not None:
        shown = shown & ~consumed[users[:, None], items]
    preference = (world.interests[users][:, None, :] * world.traits[items]).sum(axis=2) + world.appeal[items]
    probabilities = world.click_probability(preference) * world.examination(slates.shape[1])
    probabilities = np.where(shown, probabilities, 0.0)
    clicks = luck.click < probabilities
    rated = clicks & (luck.rate < world.settings.rating_share)
    stars = 3.2 + preference + world.settings.rating_noise * luck.noise
    microseconds = int(start.timestamp()) * 1_000_000 + start.microsecond
    step = int(every / timedelta(microseconds=1))
    return SlateLog(
        world=world,
        users=users,
        slates=slates,
        propensities=propensities,
        clicks=clicks,
        ratings=np.where(rated, np.clip(np.round(stars * 2) / 2, 0.5, 5.0), np.nan),
        shown_at=microseconds + step * np.arange(len(users), dtype=np.int64),
        click_probabilities=probabilities,
        model_version=model_version,
        prefix=prefix,
    )
