"""Slates shown to simulated users, and what the users do: rows as applications insert them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from numpy.typing import NDArray

from recsys.columns import Columns
from recsys.evaluation.off_policy.slates import PlackettLuce
from recsys.model.ranking import NO_ITEM
from recsys.simulation.world import World

CLICK, RATING = "click", "rating"
_SECONDS_TO_CLICK, _SECONDS_TO_RATE = 5, 600


@dataclass(frozen=True, eq=False)
class SlateLog:
    """Slates in the order they were shown.

    Attributes
    ----------
    world
        Whose users and items the positions refer to.
    users
        [slates]
    slates
        [slates, positions] items; `NO_ITEM` where there was none left.
    propensities
        [slates, positions] probability of the item at its position; NaN where there is none.
    clicks
        [slates, positions]
    ratings
        [slates, positions] stars of clicked items; NaN where none was given.
    shown_at
        [slates] microseconds since 1970 UTC.
    chances
        [slates, positions] probability of each click: what the slates are truly worth.
    model_version
        The policy that chose them, or [slates] the policy of each.
    prefix
        Of the ids of impressions and events; distinct for logs that go into one warehouse.
    """

    world: World
    users: NDArray[np.int64]
    slates: NDArray[np.int32]
    propensities: NDArray[np.float64]
    clicks: NDArray[np.bool_]
    ratings: NDArray[np.float64]
    shown_at: NDArray[np.int64]
    chances: NDArray[np.float64]
    model_version: str | NDArray[np.object_]
    prefix: str

    def __len__(self) -> int:
        return len(self.users)

    def impressions(self) -> pa.Table:
        """Return rows of table `impressions`."""
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
        """Return rows of table `feedback`: a click, and a rating where one was given."""
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
        """Load impressions and feedback into a warehouse, through the files that `recsys ingest` reads."""
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
    """What chance adds to the users' taste, for each place of each slate [slates, positions].

    Attributes
    ----------
    click, rate
        Uniform numbers: a place is clicked, and a click is rated, when its number is below the chance.
    noise
        Standard normal numbers: the noise of a rating.
    """

    click: NDArray[np.float64]
    rate: NDArray[np.float64]
    noise: NDArray[np.float64]

    @classmethod
    def draw(cls, shape: tuple[int, int], generator: np.random.Generator) -> "Luck":
        """Draw the luck of so many slates and places, or items."""
        return cls(generator.random(shape), generator.random(shape), generator.standard_normal(shape))

    def at(self, slates: NDArray[np.int32]) -> "Luck":
        """Return the luck [slates, positions] of shown items, where this is that of all [slates, items].

        An item then has the same luck in whichever place it is shown.
        """
        items = np.where(slates == NO_ITEM, 0, slates)
        return Luck(
            *(np.take_along_axis(part, items, axis=1) for part in (self.click, self.rate, self.noise))
        )


def show_slates(
    world: World,
    users: NDArray[np.int64],
    scores: NDArray[np.float32],
    policy: PlackettLuce,
    *,
    positions: int,
    model_version: str,
    start: datetime,
    generator: np.random.Generator,
    prefix: str,
    every: timedelta = timedelta(seconds=1),
) -> SlateLog:
    """Show one slate to each of the users and let them click by the position-based model.

    A user looks at a position with the probability of the position alone and clicks what is looked at
    with the probability of the preference alone (Craswell et al., 2008).

    Parameters
    ----------
    users
        [slates]; a user may be there several times.
    scores
        [slates, items] of the logging policy; minus infinity for what may not be shown.
    policy
        Draws the slates; its propensities are logged.
    start, every
        When the first slate is shown, and the time between two.
    prefix
        Of the ids of impressions and events.
    """
    slates, propensities = policy.draw(scores, positions, generator)
    return answer_slates(
        world,
        users,
        slates,
        propensities,
        Luck.draw(slates.shape, generator),
        model_version=model_version,
        start=start,
        prefix=prefix,
        every=every,
    )


def answer_slates(
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
    """Let users click and rate slates that somebody else chose; see `show_slates`.

    Parameters
    ----------
    slates, propensities
        [slates, positions]
    luck
        The same luck and slates give the same answers.
    consumed
        [users, items]: nobody clicks again what they have had; default: nobody has had anything.
    """
    shown = slates != NO_ITEM
    items = np.where(shown, slates, 0)
    if consumed is not None:
        shown = shown & ~consumed[users[:, None], items]
    preference = (world.interests[users][:, None, :] * world.traits[items]).sum(axis=2) + world.appeal[items]
    chances = world.click_probability(preference) * world.examination(slates.shape[1])
    chances = np.where(shown, chances, 0.0)
    clicks = luck.click < chances
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
        chances=chances,
        model_version=model_version,
        prefix=prefix,
    )
