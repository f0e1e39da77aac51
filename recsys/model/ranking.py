"""Turn scores into a ranked list: mask what is off a user's list or not available, and keep the best k."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys.snapshot.catalogue import Catalogue
from recsys.snapshot.sequences import Sequences
from recsys.snapshot.targets import hidden_items

if TYPE_CHECKING:
    from torch import Tensor

NO_ITEM = -1
"""Index in the places that `top_k` cannot fill because fewer than k items can be recommended."""


def mask_hidden(scores: NDArray[np.float32], histories: Sequences) -> NDArray[np.float32]:
    """Set the score of every item that a user's history keeps off the list to minus infinity.

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
    users, items = hidden_items(histories)
    known = (items >= 0) & (items < scores.shape[1])
    scores[users[known], items[known]] = -np.inf
    return scores


def mask_unavailable(scores: NDArray[np.float32], catalogue: Catalogue, at: ArrayLike) -> NDArray[np.float32]:
    """Set the score of every item that is not available to minus infinity.

    Parameters
    ----------
    scores
        [users, items]; changed in place, because a copy may not fit in memory.
    at
        [users] or one time for all, in microseconds since 1970.

    Returns
    -------
    The same array.
    """
    scores[:, ~catalogue.available] = -np.inf
    timed = catalogue.timed
    if len(timed):
        moments = np.broadcast_to(np.asarray(at, dtype=np.int64), (len(scores),))
        inside = catalogue.within_its_time(timed, moments[:, None])
        scores[:, timed] = np.where(inside, scores[:, timed], -np.inf)
    return scores


def mask_variants(scores: "NDArray[np.float32] | Tensor", catalogue: Catalogue) -> None:
    """Set the score of all but the best item of each group of variants to minus infinity.

    Of equal scores the first item in the catalogue stays. A NaN stays, so that callers find it.

    Parameters
    ----------
    scores
        [users, items], after all other masks; changed in place.
    """
    import torch  # imported here, because reading published lists must not load it

    members = catalogue.variants
    if not len(members):
        return
    if not isinstance(scores, torch.Tensor):
        scores = torch.from_numpy(scores)  # shares its memory
    _, number = np.unique(catalogue.group[members], return_inverse=True)
    columns = torch.from_numpy(members).to(scores.device)
    values = scores[:, columns]
    group = torch.from_numpy(number).to(scores.device).expand_as(values)
    order = torch.arange(len(members), dtype=torch.int32, device=scores.device).expand_as(values)
    shape = (len(values), int(number.max()) + 1)
    best = values.new_full(shape, -np.inf).scatter_reduce(1, group, values, "amax")
    is_best = values == best.gather(1, group)
    first = order.new_full(shape, len(members)).scatter_reduce(
        1, group, torch.where(is_best, order, len(members)), "amin"
    )
    kept = (order == first.gather(1, group)) | values.isnan()
    scores.index_copy_(1, columns, values.masked_fill_(~kept, -np.inf))


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
