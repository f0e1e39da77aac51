"""Ranking metrics of cases that have one relevant item each.

Ties are resolved against the model: an item whose score equals the target's counts as ranked above
it. A scorer that gives every item the same score is therefore at the bottom, not at random, and the
result does not depend on the order of the catalogue.
"""

import numpy as np
from numpy.typing import NDArray

from recsys.errors import EvaluationError


def metric_names(k: int) -> tuple[str, str, str]:
    """Return the names of the metrics in the order of `case_metrics`."""
    return ndcg_name(k), f"recall_at_{k}", "mrr"


def ndcg_name(k: int) -> str:
    """Return the name of the metric that the gate decides on."""
    return f"ndcg_at_{k}"


def coverage_name(k: int) -> str:
    """Return the name of the share of the catalogue in the top k of at least one user."""
    return f"coverage_at_{k}"


def require_shape(scores: NDArray[np.float32], rows: int, items: int) -> None:
    """Refuse scores of another shape than [rows, items].

    Raises
    ------
    EvaluationError
    """
    if scores.shape != (rows, items):
        raise EvaluationError(
            f"scores must be [{rows} users, {items} items], not {list(scores.shape)}; align the model with "
            "the snapshot's catalogue first"
        )


def are_sound(scores: NDArray[np.float32]) -> bool:
    """Return whether no score is NaN or plus infinity; minus infinity means "never recommend"."""
    # A sum shows them in one pass without a temporary array. It can also overflow, so when it looks
    # unsound the slow test has the last word.
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
        [cases, items]; minus infinity for items that are out of the ranking.
    targets
        [cases] position of the relevant item.
    """
    target_scores = scores[np.arange(len(targets)), targets]
    # The target equals itself, which makes the best rank 1.
    return np.asarray(np.count_nonzero(scores >= target_scores[:, None], axis=1), dtype=np.int64)


def case_metrics(rank: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Return [cases, metrics]: NDCG@k, Recall@k and reciprocal rank.

    With one relevant item the ideal DCG is 1, so NDCG@k is 1 / log2(1 + rank) within the first k
    (Järvelin and Kekäläinen, 2002) and Recall@k is whether the item is among them. The reciprocal rank
    is over the whole catalogue.
    """
    hit = rank <= k
    return np.stack([np.where(hit, 1.0 / np.log2(1.0 + rank), 0.0), hit.astype(float), 1.0 / rank], axis=1)


def user_means(
    values: NDArray[np.float64], users: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Average the cases of each user, so that a user counts once whatever their activity.

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
