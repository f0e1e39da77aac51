"""Exploration: draw some lists at random around the ranking and record propensities.

If users only ever see the best list, the logs say nothing about other models, because items that are never
shown never get feedback. So a share of the lists is drawn from a Plackett-Luce distribution: position by
position, the item of rank r among the candidates has odds r ** (-1 / temperature). The odds depend on ranks
rather than scores. The probabilities are then the same for every user and model, can be looked up in a
table, are valid for diversified lists too, and have a lower bound given by the settings.
"""

from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.off_policy.slates import position_probabilities
from recsys.model.ranking import NO_ITEM
from recsys.settings import ExplorationSettings


def publication_seed(run_key: str) -> int:
    """Return a publication's random seed, 0 to 2^63 - 1, so that its retries draw the same lists."""
    return int.from_bytes(sha256(run_key.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class Exploration:
    """Draws random lists from ranked candidates.

    Attributes
    ----------
    settings
        Share of lists that are drawn, and how far they may depart from the ranking.
    k
        Length of the lists.
    """

    settings: ExplorationSettings
    k: int
    _tables: dict[int, NDArray[np.float64]] = field(default_factory=dict, repr=False, compare=False)

    def draw(
        self, items: NDArray[np.int32], scores: NDArray[np.float32], seeds: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
        """Return lists with the propensity of each item at its position.

        The propensity sums over both ways an item can get to a position, ranked or drawn:
        ``(1 - share) * [rank == position] + share * P(drawn at position)``. It is marginal over the items
        at earlier positions.

        Parameters
        ----------
        items, scores
            [users, pool] candidates in ranked order; `NO_ITEM` comes last.
        seeds
            [users] random seeds; the same seed and candidates give the same list.

        Returns
        -------
        Items, scores and propensities, each [users, k]; the propensity of an empty position is 1.
        """
        users, pool = items.shape
        share = self.settings.share
        numbers = uniforms(seeds, 1 + pool)
        drawn = np.flatnonzero(numbers[:, 0] < share)
        order = np.broadcast_to(np.arange(self.k), (users, self.k)).copy()
        with np.errstate(divide="ignore"):
            waiting = -np.log(numbers[drawn, 1:]) / self._odds(pool)
        # Exponential waiting times with these rates end in the order of a Plackett-Luce draw.
        waiting[items[drawn] == NO_ITEM] = np.inf
        order[drawn] = np.argsort(waiting, axis=1, kind="stable")[:, : self.k]
        shown = np.take_along_axis(items, order, axis=1)
        positions = np.arange(self.k)
        propensities = np.ones((users, self.k))
        candidates = (items != NO_ITEM).sum(axis=1)
        for count in np.unique(candidates[candidates > 0]):
            rows = candidates == count
            probability = self._probabilities(int(count))[np.minimum(order[rows], count - 1), positions]
            propensities[rows] = (1 - share) * (order[rows] == positions) + share * probability
        propensities[shown == NO_ITEM] = 1.0
        return (
            shown,
            np.take_along_axis(scores, order, axis=1),
            np.minimum(propensities, 1.0).astype(np.float32),
        )

    def _odds(self, candidates: int) -> NDArray[np.float64]:
        return np.asarray(np.arange(1, candidates + 1) ** (-1 / self.settings.temperature))

    def _probabilities(self, candidates: int) -> NDArray[np.float64]:
        """Return [candidates, k]: the probability of each rank at each position of a drawn list."""
        if candidates not in self._tables:
            self._tables[candidates] = position_probabilities(self._odds(candidates)[None], self.k)[0]
        return self._tables[candidates]


def uniforms(seeds: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Return [seeds, count] uniform numbers between 0 and 1, one SplitMix64 stream per seed.

    SplitMix64 is from Steele, Lea and Flood (2014). One numpy generator per user would take longer than
    scoring, and its numbers might change with the numpy version.
    """
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = seeds.astype(np.int64).view(np.uint64)[:, None] + steps
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return np.asarray(((state >> np.uint64(11)) + 0.5) * 2.0**-53)
