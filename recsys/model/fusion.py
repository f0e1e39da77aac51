"""Combine the parts of a score: neural, liking, collaborative filtering, what follows what, and others.

Each part except the request is standardised per user over the catalogue, so that a weight means the same
for every user. The weights are fitted on validation cases. The request part is not standardised: how much it
separates items depends on the request, and its scale is learned. Nor is appeal, which is the same for all
users. Features of repeats are 0 for all items that a user has not had; see `recsys.model.repeats`. Those of
an item's age (`recsys.model.item_age`) are 0 for items of unknown age.


A model has three sets of weights: for users in the middle of a visit, for users who come back, and for users
with a request. `CatalogueScorer.fusions` says which is used when.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from recsys.model import item_age
from recsys.model.repeats import FEATURES, Repeats

NEURAL = "neural"
LIKING = "liking"
COLLABORATIVE = "collaborative"
SUCCESSION = "succession"
"""What follows the latest events; see `recsys.model.succession`."""
POPULARITY = "popularity"
RECENT = "recent"
"""Popularity of the recent past; see `recsys.model.recent`."""
APPEAL = "appeal"
"""Answers in shown lists; see `recsys.model.appeal`. `recsys.training.appeal` fits its weight."""
REQUEST = "request"
"""Exists only for users with a request in words."""

DEFAULT_WEIGHTS = {NEURAL: 1.0, LIKING: 0.1, COLLABORATIVE: 0.2, POPULARITY: 0.05}
REQUEST_WEIGHTS = DEFAULT_WEIGHTS | {REQUEST: 0.5}
"""For users with a request. That part is in logits; two logits are about one unit of the other parts."""
_TARGETS_AT_A_TIME = 1_000
_PRIOR_USERS = 10.0
"""Users that the default weights count as, so that a few cases do not outweigh them."""
_PRIOR_USERS_OF_REPEATS = 0.2
"""Less, because no default says how much users repeat, and these weights can be large."""
_LARGEST = 10.0
_SIGNED = (*FEATURES, *item_age.FEATURES)
"""Parts whose weights may be negative."""
_LARGEST_OF_REPEATS = 30.0
"""What most targets have in common needs a large weight."""


def standardise(scores: NDArray[np.float32], known: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Return scores [users, items] with mean 0 and standard deviation 1 for each user.

    With `known` [items], mean and deviation are those of the known items and all others get 0: the popularity
    of a new item is unknown, which is not the same as unpopular.
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
    """Weights of the standardised parts; the neural part's is 1.

    Attributes
    ----------
    weights
        By the names of the parts.
    unit
        Logits of the next item in the whole catalogue that one unit of the score is worth, as it was fitted.
        It is not stored with a model.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_WEIGHTS))
    unit: float = field(default=1.0, compare=False)

    def join(
        self, parts: Mapping[str, NDArray[np.float32]], repeats: Repeats | None = None
    ) -> NDArray[np.float32]:
        """Return the weighted sum [users, items] of the parts; absent parts count as 0."""
        scores = np.asarray(
            sum(self.weights.get(name, 0.0) * part for name, part in parts.items()), dtype=np.float32
        )
        if repeats is not None:
            had = repeats.with_neural(parts[NEURAL][repeats.users, repeats.items])
            scores[repeats.users, repeats.items] += self.of_repeats(had)
        return scores

    def of_repeats(self, repeats: Repeats) -> NDArray[np.float32]:
        """Return [pairs] what having had an item before adds to its score."""
        weights = np.array([self.weights.get(name, 0.0) for name in FEATURES], dtype=np.float32)
        added: NDArray[np.float32] = repeats.features @ weights
        return added


def fit_fusion(
    parts: Mapping[str, NDArray[np.float32]],
    targets: NDArray[np.int64],
    excluded: NDArray[np.bool_],
    users: NDArray[np.object_],
    *,
    case: NDArray[np.int64] | None = None,
    least: Mapping[str, float] | None = None,
    least_gains: Mapping[str, float] | None = None,
    prior: Mapping[str, float] = DEFAULT_WEIGHTS,
    repeats: Repeats | None = None,
    k: int = 10,
) -> tuple["Fusion", float]:
    """Fit the weights by maximum likelihood of the targets (a conditional logit).

    Each user counts once, and so do a user's cases and the targets of a case among themselves.

    The likelihood depends on the whole ranking, so on a few hundred cases it is far less noisy than a
    search for the best NDCG@k. For the same reason, a part can raise it by what it does far below the k-th
    place and make the list worse. The parts of `least_gains` are tested for that.

    Parameters
    ----------
    parts
        Standardised scores [cases, items] by name, including the neural part.
    targets
        [targets] items that were consumed next.
    excluded
        [cases, items] items that may not be recommended because they were consumed before.
    users
        [cases] user of each case.
    case
        [targets] case of each target, in increasing order. Default: each case has one target.
    least
        Lower bounds of weights, by name.
    least_gains
        By name, in standard errors over the users: parts that are left out, with their lower bound, unless
        NDCG@k is better with them by more than this. Below 0, a part stays unless it is shown to do harm.
    prior
        Weights that the fit is regularised towards.
    repeats
        Features of the items that the users of the cases have had before. Their weights and those of the
        items' ages may be negative.
    k
        Cut-off of the reported metric.

    Returns
    -------
    tuple of Fusion, float
        The weights, and their NDCG@k on the cases, mean over users.
    """

    def fit(names: Sequence[str]) -> tuple["Fusion", NDArray[np.float64]]:
        chosen = {name: parts[name] for name in names}
        return _fit_all(chosen, targets, excluded, users, case, least or {}, prior, repeats, k)

    fusion, quality = fit([*parts])
    for name, least_gain in (least_gains or {}).items():
        if name not in parts or len(quality) < 2:
            continue
        rest = [other for other in parts if other != name and other in fusion.weights]
        without, quality_without = fit(rest)
        gain = quality - quality_without
        needed = least_gain * gain.std(ddof=1) / np.sqrt(len(gain))
        if gain.mean() < needed or (least_gain > 0 and gain.mean() <= needed):
            fusion, quality = without, quality_without
    return fusion, float(quality.mean())


def _fit_all(
    parts: Mapping[str, NDArray[np.float32]],
    targets: NDArray[np.int64],
    excluded: NDArray[np.bool_],
    users: NDArray[np.object_],
    case: NDArray[np.int64] | None,
    least: Mapping[str, float],
    prior: Mapping[str, float],
    repeats: Repeats | None,
    k: int,
) -> tuple["Fusion", NDArray[np.float64]]:
    """Fit the weights of all parts; return them and the mean NDCG@k [users] of each user's cases."""
    had = None
    if repeats is not None and len(repeats.users):
        had = repeats.with_neural(parts[NEURAL][repeats.users, repeats.items])
    names = [*parts, *(FEATURES if had else ())]
    _, owner = np.unique(users.astype(str), return_inverse=True)
    counts = np.bincount(owner)
    case_weight = 1.0 / (counts[owner] * len(counts))
    case = np.arange(len(targets)) if case is None else case
    target_weight = (case_weight / np.maximum(np.bincount(case, minlength=len(users)), 1))[case]
    trusted = np.array([prior.get(name, 0.0) for name in names])
    trust = np.array([_PRIOR_USERS_OF_REPEATS if name in FEATURES else _PRIOR_USERS for name in names])
    trust /= len(counts)
    own = np.stack([parts[name][case, targets] for name in parts], axis=1)
    if had:
        own = np.concatenate([own, had.of_items(targets, case)], axis=1)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores = Fusion(dict(zip(names, weights.tolist(), strict=True))).join(parts, had)
        scores[excluded] = -np.inf
        scores -= scores.max(axis=1, keepdims=True)
        target_score = scores[case, targets].astype(np.float64)
        chances = np.exp(scores, out=scores)
        total = chances.sum(axis=1)
        expected = np.stack([np.einsum("ci,ci->c", chances, parts[n]) / total for n in parts], axis=1)
        if had:
            of_pairs = had.features * (chances[had.users, had.items] / total[had.users])[:, None]
            sums = [np.bincount(had.users, weights=column, minlength=len(users)) for column in of_pairs.T]
            expected = np.concatenate([expected, np.stack(sums, axis=1)], axis=1)
        value = case_weight @ np.log(total) - target_weight @ target_score
        gradient = case_weight @ expected - target_weight @ own
        far = weights - trusted
        return float(value + trust @ far**2), gradient + 2 * trust * far

    start = np.where(trusted != 0, trusted, [0.0 if name in _SIGNED else 0.1 for name in names])
    largest = {name: _LARGEST_OF_REPEATS if name in FEATURES else _LARGEST for name in names}
    least_of = {name: -largest[name] for name in names if name in _SIGNED} | {NEURAL: 0.01}
    bounds = [(least_of.get(name, 0.0), largest[name]) for name in names]
    fitted = scipy.optimize.minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    scale = float(fitted[names.index(NEURAL)])
    weights = {name: round(float(weight) / scale, 4) for name, weight in zip(names, fitted, strict=True)}
    weights |= {name: max(least[name], weights[name]) for name in least if name in weights}
    fusion = Fusion(weights, scale)
    scores = fusion.join(parts, had)
    ranks = np.concatenate(
        [
            target_ranks(scores[case[rows]], targets[rows], excluded[case[rows]])
            for rows in np.array_split(np.arange(len(targets)), 1 + len(targets) // _TARGETS_AT_A_TIME)
        ]
    )
    quality = np.bincount(owner, ndcg_of_cases(ranks, case, len(users), k)) / counts
    return fusion, quality


def target_ranks(
    scores: NDArray[np.float32], targets: NDArray[np.int64], excluded: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return the rank [cases] of each target among the items that are not excluded; the best rank is 1.

    Items with the same score rank before the target, so a constant score is worth nothing. NaN ranks last.
    """
    own = np.take_along_axis(scores, targets[:, None], axis=1)
    ahead = (scores >= own) & ~excluded
    # `ahead` contains the target itself, unless the target is excluded.
    ranks = ahead.sum(axis=1) + np.take_along_axis(excluded, targets[:, None], axis=1)[:, 0]
    worst = np.int64(scores.shape[1])
    return np.where(np.isfinite(own[:, 0]), ranks.astype(np.int64), worst)


def ndcg_of_ranks(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Return NDCG@k [cases] of single targets with these ranks [cases]."""
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)


def ndcg_of_cases(
    ranks: NDArray[np.int64], case: NDArray[np.int64], cases: int, k: int
) -> NDArray[np.float64]:
    """Return NDCG@k [cases] of targets [targets] with these ranks, each of a case; 0 without any."""
    gains = np.bincount(case, ndcg_of_ranks(ranks, k), minlength=cases)
    ideal = np.concatenate([[1.0], np.cumsum(1.0 / np.log2(np.arange(k) + 2.0))])
    result: NDArray[np.float64] = gains / ideal[np.minimum(np.bincount(case, minlength=cases), k)]
    return result
