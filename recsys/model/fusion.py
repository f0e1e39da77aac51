"""Join the parts of a recommender's score: neural, liking, collaborative filtering and popularity.

Each part is standardised per user over the catalogue, so that the weights mean the same for every
user; the weights are fitted on validation cases.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

NEURAL = "neural"
LIKING = "liking"
COLLABORATIVE = "collaborative"
POPULARITY = "popularity"
PARTS = (NEURAL, LIKING, COLLABORATIVE, POPULARITY)

_STEPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)


def standardise(scores: NDArray[np.float32], known: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Return scores [users, items] with mean 0 and deviation 1 for each user.

    With `known` [items], only these are counted and the others get 0: nothing is known of a new item's
    popularity, which is not the same as being unpopular.
    """
    counted = scores if known is None or known.all() else scores[:, known]
    if counted.shape[1] == 0:
        return np.zeros_like(scores)
    mean = counted.mean(axis=1, keepdims=True)
    deviation = counted.std(axis=1, keepdims=True)
    result: NDArray[np.float32] = (scores - mean) / np.where(deviation > 1e-6, deviation, np.inf)
    if known is not None:
        result[:, ~known] = 0.0
    return result


@dataclass(frozen=True)
class Fusion:
    """Weights of the standardised parts; the neural part's is 1."""

    weights: Mapping[str, float] = field(
        default_factory=lambda: {NEURAL: 1.0, LIKING: 0.1, COLLABORATIVE: 0.2, POPULARITY: 0.05}
    )

    def join(self, parts: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the weighted sum [users, items] of standardised parts; absent parts count nothing."""
        return np.asarray(
            sum(self.weights.get(name, 0.0) * part for name, part in parts.items()), dtype=np.float32
        )


def fit_fusion(
    parts: Mapping[str, NDArray[np.float32]],
    targets: NDArray[np.int64],
    excluded: NDArray[np.bool_],
    *,
    least: Mapping[str, float] | None = None,
    k: int = 10,
    rounds: int = 2,
) -> tuple["Fusion", float]:
    """Choose weights by coordinate search on NDCG@k of validation cases.

    Parameters
    ----------
    parts
        Standardised scores [cases, items] by name, the neural part among them.
    targets
        [cases] the item that was consumed next.
    excluded
        [cases, items] items that may not be recommended: consumed before.
    least
        Weights may not be fitted below these.
    k
        Cut-off of the metric.
    rounds
        Passes over the parts.

    Returns
    -------
    tuple of Fusion, float
        The weights and the NDCG@k that they give on the cases.
    """
    floor = dict(least or {})
    weights = {name: floor.get(name, 0.0) for name in parts}
    weights[NEURAL] = 1.0
    current = Fusion(weights).join(parts)
    best = _smoothed_ndcg(current, targets, excluded, k)
    for _ in range(rounds):
        for name, part in parts.items():
            if name == NEURAL:
                continue
            without = current - weights[name] * part
            for step in _STEPS:
                if step < floor.get(name, 0.0) or step == weights[name]:
                    continue
                tried = _smoothed_ndcg(without + step * part, targets, excluded, k)
                if tried > best + 1e-6:
                    best, weights[name] = tried, step
            current = without + weights[name] * part
    final = float(ndcg_of_ranks(target_ranks(current, targets, excluded), k).mean())
    return Fusion(weights), final


def target_ranks(
    scores: NDArray[np.float32], targets: NDArray[np.int64], excluded: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return the rank [cases], from 1, of each target among the items that are not excluded.

    Equal scores rank before the target: a constant score is worth nothing. NaN counts as worst.
    """
    own = np.take_along_axis(scores, targets[:, None], axis=1)
    ahead = (scores >= own) & ~excluded
    # An excluded target is not among those ahead: count it itself.
    ranks = ahead.sum(axis=1) + np.take_along_axis(excluded, targets[:, None], axis=1)[:, 0]
    worst = np.int64(scores.shape[1])
    return np.where(np.isfinite(own[:, 0]), ranks.astype(np.int64), worst)


def ndcg_of_ranks(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Return NDCG@k [cases] of single targets at these ranks."""
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)


def _smoothed_ndcg(
    scores: NDArray[np.float32], targets: NDArray[np.int64], excluded: NDArray[np.bool_], k: int
) -> float:
    """NDCG with the cut-off k joined by NDCG without one, which is less noisy on few cases."""
    ranks = target_ranks(scores, targets, excluded)
    return float(ndcg_of_ranks(ranks, k).mean() + 0.5 * (1.0 / np.log2(ranks + 1.0)).mean())
