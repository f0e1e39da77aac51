"""Standardise scores of item-to-item weights for each user, without dense [users, items]."""

import numpy as np
import scipy.sparse
from numpy.typing import NDArray


def with_proxies(
    weights: scipy.sparse.csr_matrix, proxies: NDArray[np.int64], known: NDArray[np.bool_]
) -> scipy.sparse.csr_matrix:
    """Return weights [items, items] whose columns are those of the items' proxies; of unknown items 0.

    Parameters
    ----------
    weights
        [items, items] `weights[i, j]` is what an event with i adds to the score of j.
    proxies
        [items] the item whose score an item has: itself, or the proxy of a cold item.
    known
        [items] items whose scores count.
    """
    items = np.flatnonzero(known)
    ones = np.ones(len(items), dtype=np.float32)
    taken = scipy.sparse.csr_matrix((ones, (proxies[items], items)), shape=weights.shape)
    return (weights @ taken).tocsr()


def standardise_sparse(
    scores: scipy.sparse.csr_matrix, known: int
) -> tuple[scipy.sparse.csr_matrix, NDArray[np.float32]]:
    """Give scores the mean 0 and the standard deviation 1 over the known items, for each user.

    Parameters
    ----------
    scores
        [users, items] of known items only; they are changed in place.
    known
        Number of known items.

    Returns
    -------
    tuple
        Scores [users, items] in units of the user's standard deviation, and shifts [users]. The standardised
        score of a known item is its score minus the shift.
    """
    lengths = np.diff(scores.indptr)
    has, starts = lengths > 0, scores.indptr[:-1]
    # Not `scores.power`, which sorts all items of each user first and takes longer than all else here.
    mean, squares = np.zeros((2, len(lengths)))
    for sums, values in ((mean, scores.data), (squares, scores.data**2)):
        sums[has] = np.add.reduceat(values, starts[has], dtype=np.float64) / max(known, 1)
    deviation = np.sqrt(np.maximum(squares - mean**2, 0.0))
    # Equal scores for all items carry no information, as in `fusion.standardise`.
    inverse = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 1e-6)
    scores.data *= np.repeat(inverse.astype(np.float32), lengths)
    return scores, (mean * inverse).astype(np.float32)
