"""Re-ranking for variety: maximal marginal relevance (Carbonell and Goldstein, 1998)."""

import numpy as np
from numpy.typing import NDArray

from recsys.model.ranking import NO_ITEM

POOL_FACTOR = 4
"""Candidates that are looked at for each place of the list."""


def diversify(
    items: NDArray[np.int32],
    scores: NDArray[np.float32],
    item_vectors: NDArray[np.float32],
    k: int,
    diversity: float,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Choose k of the candidates one by one, each for its score and its distance to those before.

    An item's gain is ``(1 - diversity) * relevance - diversity * likeness``, with the score scaled to
    0..1 over the user's candidates and the greatest cosine to an item chosen before. The first place is
    always the best score's.

    Parameters
    ----------
    items, scores
        [users, pool] candidates, best first; `NO_ITEM` where there are no more.
    item_vectors
        [items, dim]
    k
        Length of the lists.
    diversity
        0 keeps the order of the scores; near 1 only variety counts.

    Returns
    -------
    Items and scores, each [users, k], in the order of choice.
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
    likeness = np.zeros((users, pool), dtype=np.float32)
    open_ = ~missing
    rows = np.arange(users)
    chosen = np.zeros((users, k), dtype=np.int64)
    for place in range(k):
        gain = np.where(open_, (1 - diversity) * relevance - diversity * likeness, -np.inf)
        best = gain.argmax(axis=1)
        chosen[:, place] = best
        # Where a user has no candidate left, argmax gives the first; its place is cleared below.
        open_[rows, best] = False
        cosine = (vectors @ vectors[rows, best][:, :, None])[:, :, 0]
        likeness = cosine if place == 0 else np.maximum(likeness, cosine)
    picked_items = np.take_along_axis(items, chosen, axis=1)
    picked_scores = np.take_along_axis(scores, chosen, axis=1)
    left = (~missing).sum(axis=1, keepdims=True) <= np.arange(k)
    return (
        np.where(left, NO_ITEM, picked_items).astype(np.int32),
        np.where(left, -np.inf, picked_scores).astype(np.float32),
    )
