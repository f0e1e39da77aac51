"""From scores to a ranked list: leave out what was consumed, keep the best k."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys.snapshot.sequences import Sequences

if TYPE_CHECKING:
    from torch import Tensor

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


def top_k(scores: "NDArray[np.float32] | Tensor", k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the indices [users, k] and scores [users, k] of the best items, best first.

    Equal scores are ordered by item index, so that two runs give the same list. Where a user has fewer
    than k items with a finite score, the rest is `NO_ITEM` with a score of minus infinity. A score that
    is not a number comes first, without an item: whoever looks at the first place sees it.
    """
    import torch  # here, so that reading what is published does not load it

    if not isinstance(scores, torch.Tensor):
        scores = torch.from_numpy(np.require(scores, requirements=["C", "W"]))
    users, items = scores.shape
    width = min(k, items)
    # One more than asked for shows whether the cut goes through equal scores.
    found = torch.topk(scores, min(k + 1, items), dim=1)
    values, places = found.values.cpu().numpy(), found.indices.cpu().numpy()
    if width < items:
        cut_through = (values[:, -1] == values[:, -2]) & np.isfinite(values[:, [0, -1]]).all(axis=1)
        for user in np.flatnonzero(cut_through):
            row = scores[user].cpu().numpy()
            candidates = np.flatnonzero(row >= values[user, -1])
            places[user, :width] = candidates[np.argsort(-row[candidates], kind="stable")[:width]]
        values, places = values[:, :width], places[:, :width]
    tied = np.flatnonzero((values[:, 1:] == values[:, :-1]).any(axis=1))
    order = np.lexsort((places[tied], -values[tied]), axis=1)
    places[tied] = np.take_along_axis(places[tied], order, axis=1)
    index = np.full((users, k), NO_ITEM, dtype=np.int32)
    best = np.full((users, k), -np.inf, dtype=np.float32)
    index[:, :width] = places
    best[:, :width] = values
    index[~np.isfinite(best)] = NO_ITEM
    return index, best
