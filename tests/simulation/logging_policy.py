"""A logging policy for tests: draws slates around given scores and logs its propensities."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.off_policy.slates import SlateDistribution, position_probabilities
from recsys.model.ranking import NO_ITEM, top_k
from recsys.simulation.reactions import Luck, simulate_reactions
from recsys.simulation.slates import SlateLog
from recsys.simulation.world import World


@dataclass(frozen=True)
class PlackettLuce:
    """Draw slates without replacement, each item by a softmax over the remaining items.

    Attributes
    ----------
    temperature
        Temperature of the softmax, in units of the scores: near 0 is greedy, large is uniform over the pool.
    pool
        Number of best items that can be shown.
    """

    temperature: float = 1.0
    pool: int = 20

    def distribution(self, scores: NDArray[np.float32], positions: int) -> SlateDistribution:
        """Return the exact probabilities of each item of the pool at each position."""
        items, rates = self._rates(scores)
        return SlateDistribution(items, position_probabilities(rates, positions))

    def draw(
        self, scores: NDArray[np.float32], positions: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Draw one slate for each context.

        Returns
        -------
        Items [contexts, positions], `NO_ITEM` when none is left, and the probability that the policy shows
        the item at its position [contexts, positions], over all possible items before it.
        """
        items, rates = self._rates(scores)
        with np.errstate(divide="ignore"):
            arrival = generator.standard_exponential(rates.shape) / rates
        order = np.argsort(arrival, axis=1, kind="stable")[:, :positions]
        drawn = np.take_along_axis(items, order, axis=1)
        probabilities = position_probabilities(rates, positions)
        propensities = np.take_along_axis(
            probabilities, order[:, :, None], axis=1
        )[:, np.arange(order.shape[1]), np.arange(order.shape[1])]  # fmt: skip
        return drawn, np.where(drawn == NO_ITEM, np.nan, propensities)

    def _rates(self, scores: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        items, best = top_k(scores, min(self.pool, scores.shape[1]))
        logits = np.where(items == NO_ITEM, -np.inf, best.astype(np.float64) / self.temperature)
        top = np.max(logits, axis=1, keepdims=True)
        return items, np.where(items == NO_ITEM, 0.0, np.exp(logits - np.where(np.isfinite(top), top, 0.0)))


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
) -> SlateLog:
    """Show one slate, drawn by the policy from scores [slates, items], to each of the users [slates]."""
    slates, propensities = policy.draw(scores, positions, generator)
    return simulate_reactions(
        world,
        users,
        slates,
        propensities,
        Luck.draw(slates.shape, generator),
        model_version=model_version,
        start=start,
        prefix=prefix,
    )
