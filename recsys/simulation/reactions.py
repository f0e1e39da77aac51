"""How simulated users react to the slates that they are shown."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from recsys.model.ranking import NO_ITEM
from recsys.simulation.off_lists import OffLists
from recsys.simulation.slates import SlateLog, reactions_to
from recsys.simulation.world import World


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
    model_version: str | NDArray[np.object_] | None,
    start: datetime,
    prefix: str,
    every: timedelta = timedelta(seconds=1),
    off_lists: OffLists | None = None,
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
    off_lists
        What is off a user's list is not clicked; what the user clicks now is added. None: nothing is off.
    """
    shown = slates != NO_ITEM
    items = np.where(shown, slates, 0)
    preference = (world.interests[users][:, None, :] * world.traits[items]).sum(axis=2) + world.appeal[items]
    probabilities = world.click_probability(preference) * world.examination(slates.shape[1])
    probabilities = np.where(shown, probabilities, 0.0)
    rated = luck.rate < world.settings.rating_share
    stars = 3.2 + preference + world.settings.rating_noise * luck.noise
    stars = np.where(rated, np.clip(np.round(stars * 2) / 2, 0.5, 5.0), np.nan)
    microseconds = int(start.timestamp()) * 1_000_000 + start.microsecond
    step = int(every / timedelta(microseconds=1))
    shown_at = microseconds + step * np.arange(len(users), dtype=np.int64)
    if off_lists is not None:
        # The first slates of all users, then the second ones: what was clicked in one may be off the next.
        for rows in _in_turn(users):
            gone = off_lists.at(users[rows], items[rows], shown_at[rows])
            probabilities[rows] = np.where(gone, 0.0, probabilities[rows])
            clicked = np.zeros(shown.shape, dtype=bool)
            clicked[rows] = luck.click[rows] < probabilities[rows]
            off_lists.add(users, slates, reactions_to(clicked, stars, shown_at))
    clicks = luck.click < probabilities
    return SlateLog(
        world=world,
        users=users,
        slates=slates,
        propensities=propensities,
        clicks=clicks,
        ratings=np.where(clicks, stars, np.nan),
        shown_at=shown_at,
        click_probabilities=probabilities,
        model_version=model_version,
        prefix=prefix,
    )


def _in_turn(users: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the rows of each user's first slate, of each user's second, and so on."""
    order = np.argsort(users, kind="stable")
    turn = np.empty(len(users), dtype=np.int64)
    turn[order] = np.arange(len(users)) - np.searchsorted(users[order], users[order])
    return [np.flatnonzero(turn == number) for number in range(int(turn.max(initial=-1)) + 1)]
