"""Turn scores into a ranked list: mask consumed items and keep the best k."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys.snapshot.sequences import Sequences

if TYPE_CHECKING:
    from torch import Tensor

NO_ITEM = -1
"""Index in the places that `top_k` cannot fill because fewer than k items can be recommended."""


def mask_consumed(scores: NDArray[np.float32], histories: Sequences) -> NDArray[np.float32]:
    """Set the score of every item in a user's history to minus infinity.

    Disliked items count as consumed, because the user has seen them.

    Parameters
    ----------
    scores
        [users, items]; changed in place, because a copy may not fit in memory.
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

    Items with equal scores are ordered by index, so that two runs give the same list. If a user has fewer
    than k items with a finite score, the other places are `NO_ITEM` with a score of minus infinity. A NaN
    score comes first, with `NO_ITEM`, so that callers find it in the first place.
    """
    import torch  # imported here, because reading published lists must not load it

    if not isinstance(scores, torch.Tensor):
        scores = torch.from_numpy(np.require(scores, requirements=["C", "W"]))
    users, items = scores.shape
    width = min(k, items)
    # One item more than needed shows whether the cut separates equal scores.
    found = torch.topk(scores, min(k + 1, items), dim=1)
    values, places = found.values.cpu().numpy(), found.indices.cpu().numpy()
    if width < items:
        tied_at_cut = (values[:, -1] == values[:, -2]) & np.isfinite(values[:, [0, -1]]).all(axis=1)
        for user in np.flatnonzero(tied_at_cut):
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
