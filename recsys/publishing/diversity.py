"""Diversify ranked lists by maximal marginal relevance (Carbonell and Goldstein, 1998)."""

import numpy as np
from numpy.typing import NDArray

from recsys.model.ranking import NO_ITEM

POOL_FACTOR = 4
"""Candidates considered per position of the list."""


def diversify(
    items: NDArray[np.int32],
    scores: NDArray[np.float32],
    item_vectors: NDArray[np.float32],
    k: int,
    diversity: float,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Choose k candidates one by one, each by its score and its distance to those already chosen.

    An item's gain is ``(1 - diversity) * relevance - diversity * similarity``. Relevance is the score scaled
    to 0..1 over the user's candidates; similarity is the largest cosine to an item already chosen. The first
    item is always the one with the best score.

    Parameters
    ----------
    items, scores
        [users, pool] candidates, best first; `NO_ITEM` after the last candidate.
    item_vectors
        [items, dim]
    k
        Length of the lists.
    diversity
        0 keeps the order of the scores; close to 1 only variety counts.

    Returns
    -------
    Items and scores, each [users, k], in the order they were chosen.
    """
    users, pool = items.shape
    k = min(k, pool)
    missing = items == NO_ITEM
    vectors = item_vectors[np.where(missing, 0, items)]
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-12)
    finite = np.where(missing, np.inf, scores)
    low = finite.min(axis=1, keepdims=True)
    width = scores[:, :1] - low
    relevance = np.where(missing, 0.0, (scores - low) / np.where(width > 0, width, 1.0))
    similarity = np.zeros((users, pool), dtype=np.float32)
    remaining = ~missing
    rows = np.arange(users)
    chosen = np.zeros((users, k), dtype=np.int64)
    for position in range(k):
        gain = np.where(remaining, (1 - diversity) * relevance - diversity * similarity, -np.inf)
        best = gain.argmax(axis=1)
        chosen[:, position] = best
        # If a user has no candidate left, argmax returns the first one; the position is cleared below.
        remaining[rows, best] = False
        cosine = (vectors @ vectors[rows, best][:, :, None])[:, :, 0]
        similarity = cosine if position == 0 else np.maximum(similarity, cosine)
    picked_items = np.take_along_axis(items, chosen, axis=1)
    picked_scores = np.take_along_axis(scores, chosen, axis=1)
    empty = (~missing).sum(axis=1, keepdims=True) <= np.arange(k)
    return (
        np.where(empty, NO_ITEM, picked_items).astype(np.int32),
        np.where(empty, -np.inf, picked_scores).astype(np.float32),
    )
