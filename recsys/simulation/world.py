"""Simulated users whose tastes are fitted on real ratings, so that the truth is known."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import NDArray
from scipy.special import expit

from recsys.catalogues.movielens import MovieLens
from recsys.columns import Columns
from recsys.errors import SimulationError
from recsys.evaluation.off_policy.slates import SlateDistribution
from recsys.simulation.policies import SimulationSettings


@dataclass(frozen=True)
class WorldSettings:
    """Behaviour of the simulated users.

    Attributes
    ----------
    dim
        Number of latent interests.
    click_rate
        Share of examined items that are clicked when items are shown at random (0 to 1).
    slope
        Change in the log-odds of a click per standard deviation of preference.
    examination_decay
        Position bias: position p (from 1) is examined with probability 1 / p ** decay.
    accidents
        Noise: share of examined items where chance rather than preference decides.
    rating_share
        Share of clicks followed by a rating.
    rating_noise
        Standard deviation of ratings around the preference, in stars.
    drift
        Share of a user's interests that is replaced per day; 0: interests never change.
    new_item_share
        Share of the items that arrive after day 0.
    days
        Number of days over which the new items arrive, evenly.
    """

    dim: int = 16
    click_rate: float = 0.15
    slope: float = 1.5
    examination_decay: float = 0.5
    accidents: float = 0.05
    rating_share: float = 0.3
    rating_noise: float = 0.5
    drift: float = 0.0
    new_item_share: float = 0.0
    days: int = 30


@dataclass(frozen=True, eq=False)
class World:
    """Users and items with known preferences.

    Attributes
    ----------
    user_ids, item_ids
        [users], [items] of str, dtype object.
    interests, traits
        [users, dim], [items, dim]: their product is the personal part of a preference.
    appeal
        [items]: the part of a preference that is the same for all users.
    arrival_day
        [items]: first day on which an item can be shown.
    intercept
        Log-odds of a click on an item of mean preference.
    settings
        Behaviour.
    """

    user_ids: NDArray[np.object_]
    item_ids: NDArray[np.object_]
    interests: NDArray[np.float64]
    traits: NDArray[np.float64]
    appeal: NDArray[np.float64]
    arrival_day: NDArray[np.int64]
    intercept: float
    settings: WorldSettings

    @property
    def users(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    @property
    def items(self) -> int:
        """Number of items, including those that have not arrived yet."""
        return len(self.item_ids)

    def of_users(self, users: NDArray[np.int64]) -> "World":
        """Return the world with only these users."""
        return replace(self, user_ids=self.user_ids[users], interests=self.interests[users])

    def available(self, day: int) -> NDArray[np.bool_]:
        """Return [items] whether each item has arrived by a day."""
        result: NDArray[np.bool_] = self.arrival_day <= day
        return result

    def preference(self, users: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return [len(users), items] true preferences; 0 is the mean, 1 a standard deviation."""
        return np.asarray(self.interests[users] @ self.traits.T + self.appeal)

    def examination(self, positions: int) -> NDArray[np.float64]:
        """Return [positions] the probability that a user examines the position."""
        return np.asarray(np.arange(1, positions + 1) ** -self.settings.examination_decay, dtype=np.float64)

    def click_probability(self, preference: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of a click on an examined item, given its preference, of any shape."""
        chosen = expit(self.intercept + self.settings.slope * preference)
        return np.asarray(
            (1 - self.settings.accidents) * chosen + self.settings.accidents * self.settings.click_rate
        )

    def expected_clicks(self, users: NDArray[np.int64], policy: SlateDistribution) -> NDArray[np.float64]:
        """Return [contexts] the true expected number of clicks on a slate.

        Parameters
        ----------
        users
            [contexts] the user of each context of the policy.
        """
        clicks = self.click_probability(self.preference(users))
        examined = self.examination(policy.probabilities.shape[2])
        return np.asarray(policy.expected(clicks[:, :, None] * examined).sum(axis=1))

    def next_day(self, generator: np.random.Generator) -> "World":
        """Return the world one day later: every user has adopted some interests of another user.

        The distribution of interests over users stays the same.
        """
        share = self.settings.drift
        if share == 0:
            return self
        keep, mean = 1 - share, self.interests.mean(axis=0)
        own = self.interests - mean
        others = own[generator.permutation(self.users)]
        return replace(self, interests=mean + keep * own + np.sqrt(1 - keep**2) * others)


def fit_world(
    ratings: pd.DataFrame, settings: WorldSettings | None = None, seed: int = 0, max_items: int | None = None
) -> World:
    """Fit users' interests on real ratings by truncated singular value decomposition.

    Parameters
    ----------
    ratings
        Columns `user_id`, `item_id` and `value`, one row for each rating.
    settings
        Behaviour; the number of latent interests is at most what the ratings allow.
    seed
        Seed of the decomposition's start and of the order in which items arrive.
    max_items
        Keep only this many of the most rated items.

    Raises
    ------
    SimulationError
        The frame lacks a column, contains NaN, or has fewer than 3 users or items.
    """
    settings = settings or WorldSettings()
    missing = {Columns.USER_ID, Columns.ITEM_ID, Columns.VALUE} - set(ratings.columns)
    if missing:
        raise SimulationError(
            f"ratings need the columns user_id, item_id and value; {sorted(missing)} are missing"
        )
    if ratings[Columns.VALUE].isna().any():
        raise SimulationError("ratings contain NaN; remove rows without a value")
    if max_items is not None:
        kept = ratings[Columns.ITEM_ID].value_counts().index[:max_items]
        ratings = ratings[ratings[Columns.ITEM_ID].isin(kept)]
    user, user_ids = pd.factorize(ratings[Columns.USER_ID], sort=True)
    item, item_ids = pd.factorize(ratings[Columns.ITEM_ID], sort=True)
    if min(len(user_ids), len(item_ids)) < 3:
        raise SimulationError(
            f"a world needs at least 3 users and 3 items, not {len(user_ids)} and {len(item_ids)}"
        )
    generator = np.random.default_rng(seed)
    value = ratings[Columns.VALUE].to_numpy(dtype=np.float64)
    value = value - (np.bincount(user, value) / np.bincount(user))[user]
    counts = np.bincount(item)
    # Shrink towards 0, so that two enthusiastic ratings do not make the best item.
    appeal = np.bincount(item, value) / (counts + 5.0)
    residual = scipy.sparse.csr_matrix((value - appeal[item], (user, item)))
    dim = min(settings.dim, min(residual.shape) - 1)
    left, strength, right = scipy.sparse.linalg.svds(
        residual, k=dim, v0=generator.standard_normal(min(residual.shape))
    )
    interests, traits = left * np.sqrt(strength), right.T * np.sqrt(strength)
    personal = interests @ traits.T
    # Real ratings are sparse, which shrinks the personal part. Rescale both parts to fixed variances.
    spread, personal_spread = max(float(appeal.std()), 1e-9), max(float(personal.std()), 1e-9)
    appeal = (appeal - appeal.mean()) / spread * np.sqrt(0.3)
    interests = interests / personal_spread * np.sqrt(0.7)
    arrival = np.zeros(len(item_ids), dtype=np.int64)
    late = generator.permutation(len(item_ids))[: int(settings.new_item_share * len(item_ids))]
    arrival[late] = 1 + np.arange(len(late)) * settings.days // max(len(late), 1)
    world = World(
        user_ids=np.asarray(user_ids.astype(str), dtype=object),
        item_ids=np.asarray(item_ids.astype(str), dtype=object),
        interests=interests,
        traits=traits,
        appeal=appeal,
        arrival_day=arrival,
        intercept=0.0,
        settings=settings,
    )
    return replace(world, intercept=_intercept(world, generator))


def make_world(source: MovieLens, settings: SimulationSettings, behaviour: WorldSettings) -> World:
    """Fit a world on real ratings and keep the wanted number of users and items.

    Raises
    ------
    SimulationError
        There are fewer users or items than wanted, or too few to fit.
    """
    ratings = pd.DataFrame(
        [(rating.user_id, rating.item_id, rating.value) for rating in source.ratings],
        columns=["user_id", "item_id", "value"],
    )
    world = fit_world(ratings, behaviour, settings.seed, max_items=settings.items)
    for name, asked, there in (
        ("users", settings.users, world.users),
        ("items", settings.items, world.items),
    ):
        if asked > there:
            raise SimulationError(
                f"there are ratings of {there} {name}: simulate at most so many, not {asked}"
            )
    chosen = np.random.default_rng(settings.seed).choice(world.users, settings.users, replace=False)
    return world.of_users(np.sort(chosen))


def _intercept(world: World, generator: np.random.Generator) -> float:
    """Find the intercept at which randomly shown items are clicked at the configured rate (bisection)."""
    sample = generator.choice(world.users, size=min(world.users, 500), replace=False)
    preference = world.preference(sample)
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        rate = expit(middle + world.settings.slope * preference).mean()
        low, high = (middle, high) if rate < world.settings.click_rate else (low, middle)
    return (low + high) / 2
