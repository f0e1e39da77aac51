"""Ranking metrics of cases with one relevant item each, and metrics of users' lists.

Ties count against the scorer: an item with the same score as the target ranks above it. A scorer that gives
all items the same score therefore gets the worst rank, and the result does not depend on the order of the
catalogue.
"""

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from recsys.errors import EvaluationError


def metric_names(k: int) -> tuple[str, ...]:
    """Return the names of all metrics per user: those of `case_metrics`, then novelty and diversity."""
    return *case_metric_names(k), novelty_name(k), diversity_name(k)


def case_metric_names(k: int) -> tuple[str, ...]:
    """Return the names of the metrics in the order of `case_metrics`."""
    return ndcg_name(k), f"recall_at_{k}", "mrr", f"map_at_{k}"


def ndcg_name(k: int) -> str:
    """Return the name of the metric that the gate decides on."""
    return f"ndcg_at_{k}"


def novelty_name(k: int) -> str:
    """Return the name of the mean self-information of a user's list."""
    return f"novelty_at_{k}"


def diversity_name(k: int) -> str:
    """Return the name of the mean distance between two items of a user's list."""
    return f"diversity_at_{k}"


def gini_name(k: int) -> str:
    """Return the name of the Gini coefficient of the items' exposure in users' lists."""
    return f"gini_at_{k}"


def coverage_name(k: int) -> str:
    """Return the name of the share of the catalogue in at least one user's top k."""
    return f"coverage_at_{k}"


def require_shape(scores: NDArray[np.float32], rows: int, items: int) -> None:
    """Check that scores are [rows, items].

    Raises
    ------
    EvaluationError
        The shape is different.
    """
    if scores.shape != (rows, items):
        raise EvaluationError(
            f"scores must be [{rows} users, {items} items], not {list(scores.shape)}; align the model with "
            "the snapshot's catalogue first"
        )


def are_valid(scores: NDArray[np.float32]) -> bool:
    """Return whether no score is NaN or plus infinity; minus infinity means "never recommend"."""
    # A sum finds both in one pass without a temporary array. It can also overflow, so the slow test decides
    # when the sum is not finite.
    with np.errstate(all="ignore"):
        total = scores.sum()
    if not np.isnan(total) and total != np.inf:
        return True
    return not (np.isnan(scores).any() or np.isposinf(scores).any())


def ranks(scores: NDArray[np.float32], targets: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return [cases] the rank of the target, 1 is best; ties count against it.

    Parameters
    ----------
    scores
        [cases, items]; minus infinity for items that are not ranked.
    targets
        [cases] index of the relevant item.
    """
    target_scores = scores[np.arange(len(targets)), targets]
    # The target equals itself, which makes the best rank 1.
    return np.asarray(np.count_nonzero(scores >= target_scores[:, None], axis=1), dtype=np.int64)


def case_metrics(rank: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Return [cases, metrics]: NDCG@k, Recall@k, reciprocal rank and average precision at k.

    With one relevant item the ideal DCG is 1, so NDCG@k is 1 / log2(1 + rank) within the first k
    (Järvelin and Kekäläinen, 2002), and Recall@k is 1 within the first k. The reciprocal rank is over the
    whole catalogue. The average precision, whose mean is MAP@k, is the reciprocal rank within the first k.
    """
    hit = rank <= k
    ndcg, reciprocal = 1.0 / np.log2(1.0 + rank), 1.0 / rank
    return np.stack(
        [np.where(hit, ndcg, 0.0), hit.astype(float), reciprocal, np.where(hit, reciprocal, 0.0)], axis=1
    )


def novelty(lists: NDArray[np.int32], popularity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [users] the mean self-information of the items in a list, in bits (Vargas and Castells, 2011).

    Parameters
    ----------
    lists
        [users, k] items; negative beyond the end of a shorter list.
    popularity
        [items] share of the users who know the item; an unknown item counts as known by half a user.
    """
    shown = lists >= 0
    information = -np.log2(popularity)
    return np.asarray(
        np.where(shown, information[np.where(shown, lists, 0)], 0.0).sum(axis=1)
        / np.maximum(shown.sum(axis=1), 1)
    )


def diversity(lists: NDArray[np.int32], features: scipy.sparse.csr_matrix) -> NDArray[np.float64]:
    """Return [users] the mean cosine distance between two items of a list (Ziegler et al., 2005).

    Parameters
    ----------
    lists
        [users, k] items; negative beyond the end of a shorter list. A list of fewer than 2 items has 0.
    features
        [items, features] with rows of length 1 (or 0), the same for all compared models.
    """
    shown = lists >= 0
    counts = shown.sum(axis=1)
    rows = np.repeat(np.arange(len(lists)), counts)
    members = scipy.sparse.csr_matrix(
        (np.ones(len(rows)), (rows, lists[shown])), shape=(len(lists), features.shape[0])
    )
    sums = members @ features
    own = np.asarray(members @ np.asarray(features.multiply(features).sum(axis=1)).ravel())
    together = np.asarray(sums.multiply(sums).sum(axis=1)).ravel() - own
    pairs = counts * (counts - 1)
    return np.where(pairs > 0, 1.0 - together / np.maximum(pairs, 1), 0.0)


def gini(exposure: NDArray[np.int64]) -> float:
    """Return the Gini coefficient of the items' exposure: 0 is equal, near 1 is a few items only."""
    count, total = len(exposure), exposure.sum()
    if total == 0:
        return float("nan")
    ordered = np.sort(exposure)
    return float((2 * np.arange(1, count + 1) - count - 1) @ ordered / (count * total))


def user_means(
    values: NDArray[np.float64], users: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Average the cases of each user, so that every user counts once.

    Parameters
    ----------
    values
        [cases, columns]
    users
        [cases]

    Returns
    -------
    The users [users] in increasing order, their number of cases [users], the means [users, columns].
    """
    unique, inverse, counts = np.unique(users, return_inverse=True, return_counts=True)
    sums = np.stack(
        [np.bincount(inverse, weights=column, minlength=len(unique)) for column in values.T], axis=1
    )
    return unique, counts.astype(np.int64), sums / counts[:, None]
