"""From scores to a ranked list: leave out what was consumed, keep the best k."""

import numpy as np
from numpy.typing import NDArray

from recsys.snapshot.sequences import Sequences

NO_ITEM = -1
"""Index that `top_k` gives where fewer than k items can be recommended."""


def mask_consumed(scores: NDArray[np.float32], histories: Sequences) -> NDArray[np.float32]:
    """Set the score of every item in a user's history to minus infinity.

    Disliked items count as consumed: they were seen.

    Parameters
    ----------
    scores
        [users, items]; changed in place, because a second copy may not fit.
    histories
        Events of the same users, in the same order.

    Returns
    -------
    The same array.
    """
    rows = np.repeat(np.arange(scores.shape[0]), np.diff(histories.offsets))
    known = (histories.item_index >= 0) & (histories.item_index < scores.shape[1])
    scores[rows[known], histories.item_index[known]] = -np.inf
    return scores


def top_k(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the indices [users, k] and scores [users, k] of the best items, best first.

    Equal scores are ordered by item index, so that two runs give the same list. Where a user has fewer
    than k items with a finite score, the rest is `NO_ITEM` with a score of minus infinity.
    """
    users, items = scores.shape
    width = min(k, items)
    if width < items:
        split = items - width
        parted = np.argpartition(scores, (split - 1, split), axis=1)
        edge = np.take_along_axis(scores, parted[:, split - 1 : split + 1], axis=1)
        candidates = parted[:, split:]
        for user in np.flatnonzero((edge[:, 0] == edge[:, 1]) & np.isfinite(edge[:, 0])):
            # The cut goes through equal scores: only a sort knows which come first.
            candidates[user] = np.argsort(-scores[user], kind="stable")[:width]
        candidates.sort(axis=1)
    else:
        candidates = np.broadcast_to(np.arange(items), (users, items))
    values = np.take_along_axis(scores, candidates, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    index = np.full((users, k), NO_ITEM, dtype=np.int32)
    best = np.full((users, k), -np.inf, dtype=np.float32)
    index[:, :width] = np.take_along_axis(candidates, order, axis=1)
    best[:, :width] = np.take_along_axis(values, order, axis=1)
    index[~np.isfinite(best)] = NO_ITEM
    return index, best
