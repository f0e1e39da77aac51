"""Exploration: some lists are drawn around the ranking, with the probability of what they show.

A list that is always the best one supports no judgement of another model: what it does not show is
never answered. So a share of the lists is drawn as Plackett and Luce do: place after place, an item
of rank r among the candidates with odds r ** (-1 / temperature). Ranks and not scores, because then the
chances are the same for every user and every model: they are known before anything is drawn, cost a
look-up, hold for lists that were re-ranked for variety as well, and are bounded from below by the settings.
"""

from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.off_policy.slates import position_probabilities
from recsys.model.ranking import NO_ITEM
from recsys.settings import ExplorationSettings


def publication_seed(seed: int, run_key: str) -> int:
    """Return the seed of a publication's draws, from 0 to 2^63: its retries draw the same lists."""
    return int.from_bytes(sha256(f"{seed}/{run_key}".encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class Exploration:
    """Draws lists from ranked candidates.

    Attributes
    ----------
    settings
        How many lists are drawn, and how far from the ranking.
    k
        Length of the lists.
    """

    settings: ExplorationSettings
    k: int
    _tables: dict[int, NDArray[np.float64]] = field(default_factory=dict, repr=False, compare=False)

    def draw(
        self, items: NDArray[np.int32], scores: NDArray[np.float32], seeds: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
        """Return lists and what shows with which probability.

        The propensity of an item at its place is that of both ways in which it can get there, whichever
        it was: ``(1 - share) * [it is the place's rank] + share * P(drawn at the place)``. It is
        marginal: whatever stands in the places before.

        Parameters
        ----------
        items, scores
            [users, pool] candidates in the order in which they would be shown; `NO_ITEM` comes last.
        seeds
            [users]; the same seed and candidates give the same list.

        Returns
        -------
        Items, scores and propensities, each [users, k]; the propensity of an empty place is 1.
        """
        users, pool = items.shape
        share = self.settings.share
        numbers = _uniforms(seeds, 1 + pool)
        drawn = np.flatnonzero(numbers[:, 0] < share)
        order = np.broadcast_to(np.arange(self.k), (users, self.k)).copy()
        with np.errstate(divide="ignore"):
            waiting = -np.log(numbers[drawn, 1:]) / self._odds(pool)
        # The order in which exponential clocks of these rates ring is a Plackett-Luce draw.
        waiting[items[drawn] == NO_ITEM] = np.inf
        order[drawn] = np.argsort(waiting, axis=1, kind="stable")[:, : self.k]
        shown = np.take_along_axis(items, order, axis=1)
        places = np.arange(self.k)
        propensities = np.ones((users, self.k))
        candidates = (items != NO_ITEM).sum(axis=1)
        for count in np.unique(candidates[candidates > 0]):
            rows = candidates == count
            chance = self._chances(int(count))[np.minimum(order[rows], count - 1), places]
            propensities[rows] = (1 - share) * (order[rows] == places) + share * chance
        propensities[shown == NO_ITEM] = 1.0
        return (
            shown,
            np.take_along_axis(scores, order, axis=1),
            np.minimum(propensities, 1.0).astype(np.float32),
        )

    def _odds(self, candidates: int) -> NDArray[np.float64]:
        return np.asarray(np.arange(1, candidates + 1) ** (-1 / self.settings.temperature))

    def _chances(self, candidates: int) -> NDArray[np.float64]:
        """Return [candidates, k] the probability that a drawn list shows a rank at a place."""
        if candidates not in self._tables:
            self._tables[candidates] = position_probabilities(self._odds(candidates)[None], self.k)[0]
        return self._tables[candidates]


def _uniforms(seeds: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Return [seeds, count] numbers between 0 and 1: a stream of SplitMix64 (Steele et al., 2014) for each.

    A generator of numpy for each user would take longer than scoring, and might draw otherwise with another
    version of numpy.
    """
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = seeds.astype(np.int64).view(np.uint64)[:, None] + steps
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return np.asarray(((state >> np.uint64(11)) + 0.5) * 2.0**-53)
