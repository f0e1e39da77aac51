"""Policies over slates: from scores to the probability of every item at every position.

A logging policy draws slates. A target policy must give the exact probability with which it would have
shown an item at a position.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.model.ranking import NO_ITEM, top_k

_NODES = 96
_TABLE_FLOATS = 1 << 18
"""Largest number of floats in each table of one block of the quadrature."""
_EARLY, _LATE = 1e-11, 40.0
"""Where the density of an arrival is negligible: before `_EARLY` / rate, and after `_LATE` / rate."""


@dataclass(frozen=True, eq=False)
class SlateDistribution:
    """Probabilities of a policy's items at each position, by context.

    Attributes
    ----------
    items
        [contexts, pool] indices into the catalogue; `NO_ITEM` beyond a smaller pool.
    probabilities
        [contexts, pool, positions] probability that the policy shows the item at the position.
    """

    items: NDArray[np.int32]
    probabilities: NDArray[np.float64]

    def of(self, slates: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return [contexts, positions] the probability of each shown item at its position.

        Parameters
        ----------
        slates
            [contexts, positions] shown items; `NO_ITEM` for an empty position or an item that is not in
            the catalogue, which no policy can show. Positions beyond the policy's last one have 0.
        """
        result = np.zeros(slates.shape)
        for position in range(min(slates.shape[1], self.probabilities.shape[2])):
            shown = slates[:, position, None]
            same = (self.items == shown) & (shown != NO_ITEM)
            result[:, position] = np.where(same, self.probabilities[:, :, position], 0.0).sum(axis=1)
        return result

    def excess_over(self, other: "SlateDistribution") -> NDArray[np.float64]:
        """Return [contexts, positions] the total variation distance to another policy at each position.

        It is the probability of items that this policy shows more often there than the other does.
        """
        positions = self.probabilities.shape[2]
        result = np.zeros((len(self.items), positions))
        for number in range(self.items.shape[1]):
            items = self.items[:, number, None]
            same = (other.items == items) & (items != NO_ITEM)
            theirs = np.where(same[:, :, None], other.probabilities[:, :, :positions], 0.0).sum(axis=1)
            excess = self.probabilities[:, number].copy()
            excess[:, : theirs.shape[1]] -= theirs
            result += np.maximum(excess, 0.0)
        return result

    def expected(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return [contexts, positions] the mean of `values` over the items that the policy shows there.

        Parameters
        ----------
        values
            [items, positions], or [contexts, items, positions] when they depend on the context.
        """
        pool = np.where(self.items == NO_ITEM, 0, self.items)
        rows = np.arange(len(pool))[:, None]
        chosen = values[pool] if values.ndim == 2 else values[rows, pool]
        return np.asarray((self.probabilities * chosen).sum(axis=1))


class SlatePolicy(Protocol):
    """Makes slates from scores."""

    def distribution(self, scores: NDArray[np.float32], positions: int) -> SlateDistribution:
        """Return the slates for scores [contexts, items]; minus infinity is never shown."""
        ...


@dataclass(frozen=True)
class Greedy:
    """Show the best items, best first, as published lists do. It explores nothing."""

    def distribution(self, scores: NDArray[np.float32], positions: int) -> SlateDistribution:
        """Return probability 1 for each item at the position of its rank."""
        items, _ = top_k(scores, positions)
        shown = (items != NO_ITEM)[:, :, None] & np.eye(positions, dtype=bool)
        return SlateDistribution(items, shown.astype(np.float64))


def position_probabilities(rates: NDArray[np.float64], positions: int) -> NDArray[np.float64]:
    """Return the probability of each item at each position of a Plackett-Luce slate.

    Items that arrive at exponential times with these rates arrive in the order of a Plackett-Luce draw
    (Luce, 1959; Plackett, 1975). Item i is at position r when r - 1 other items arrived before it. Its
    probability is an integral over its arrival time: the density times a Poisson-binomial probability. The
    trapezoidal rule over the logarithm of time converges exponentially for such integrands.

    Parameters
    ----------
    rates
        [contexts, pool] softmax numerators; 0 is never shown.
    positions
        Length of the slate.

    Returns
    -------
    [contexts, pool, positions]; each position sums to 1, or to 0 when no item is left for it.
    """
    contexts, pool = rates.shape
    result = np.zeros((contexts, pool, positions))
    block = max(1, _TABLE_FLOATS // (_NODES * pool * positions))
    for start in range(0, contexts, block):
        result[start : start + block] = _block_probabilities(rates[start : start + block], positions)
    return result


def _block_probabilities(rates: NDArray[np.float64], positions: int) -> NDArray[np.float64]:
    contexts, pool = rates.shape
    descending = -np.sort(-rates, axis=1)
    filled = (rates > 0).sum(axis=1)
    # With more than `positions` items, the slate is full long before the slowest of them arrives.
    last = np.clip(np.minimum(filled - 1, positions), 0, pool - 1)
    slowest = np.maximum(np.take_along_axis(descending, last[:, None], axis=1)[:, 0], 1e-300)
    total = np.maximum(rates.sum(axis=1), 1e-300)
    low, high = np.log(_EARLY / total), np.log(_LATE / slowest)
    step = (high - low) / (_NODES - 1)
    time = np.exp(low[:, None] + step[:, None] * np.arange(_NODES))  # [contexts, nodes]
    exponent = rates.T[:, :, None] * time  # [pool, contexts, nodes]
    absent = np.exp(-exponent)
    present = 1.0 - absent
    density = exponent * absent * step[:, None]
    ahead = _counts(present, absent, positions)
    behind = _counts(present[::-1], absent[::-1], positions)[::-1]
    result = np.zeros((contexts, pool, positions))
    for position in range(positions):
        # As many other items have arrived as there are positions before this one.
        others = (ahead[:, : position + 1] * behind[:, position::-1]).sum(axis=1)
        result[:, :, position] = np.einsum("pcn,pcn->cp", density, others)
    sums = result.sum(axis=1, keepdims=True)
    possible = np.arange(positions) < filled[:, None]
    normalised = np.divide(result, sums, out=np.zeros_like(result), where=sums > 0)
    return np.where(possible[:, None, :], normalised, 0.0)


def _counts(present: NDArray[np.float64], absent: NDArray[np.float64], positions: int) -> NDArray[np.float64]:
    """Return [pool, positions, contexts, nodes]: probability that r of the items before this one arrived.

    Parameters
    ----------
    present, absent
        [pool, contexts, nodes] probability that the item has arrived, and that it has not.
    """
    pool, contexts, nodes = present.shape
    counts = np.zeros((pool, positions, contexts, nodes))
    counts[0, 0] = 1.0
    for item in range(1, pool):
        counts[item] = counts[item - 1] * absent[item - 1]
        counts[item, 1:] += counts[item - 1, :-1] * present[item - 1]
    return counts
