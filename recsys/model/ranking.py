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
_GROUP = 32
"""Neighbouring items of which `_top_k_of_groups` finds the best score first."""


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
        # A row at a time stays in the processor's cache, which is many times faster than a block.
        for row, moment in zip(scores, moments, strict=True):
            row[timed[~catalogue.within_its_time(timed, moment)]] = -np.inf
    return scores


def mask_variants(scores: NDArray[np.float32], catalogue: Catalogue) -> None:
    """Set the score of all but the best item of each group of variants to minus infinity.

    Of equal scores the first item in the catalogue stays. `top_k_things` lists the same items in less time.

    Parameters
    ----------
    scores
        [users, items], after all other masks; changed in place.
    """
    members = catalogue.variants[np.argsort(catalogue.group[catalogue.variants], kind="stable")]
    if not len(members):
        return
    _, starts, sizes = np.unique(catalogue.group[members], return_index=True, return_counts=True)
    order = np.arange(len(members))
    # A row at a time stays in the processor's cache, which is several times faster than a block.
    for row in scores:
        values = row[members]
        is_best = values == np.repeat(np.maximum.reduceat(values, starts), sizes)
        first = np.minimum.reduceat(np.where(is_best, order, len(members)), starts)
        row[members[order != np.repeat(first, sizes)]] = -np.inf


def top_k_things(
    scores: "NDArray[np.float32] | Tensor", k: int, catalogue: Catalogue
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return what `top_k` does, with only the best item of each group of variants."""
    if not len(catalogue.variants):
        return top_k(scores, k)
    width = 2 * k
    while True:
        index, best = top_k(scores, width)
        # What is not finite stays too, so that callers find NaN in the first place.
        group = np.where(index == NO_ITEM, -1, catalogue.group[index])
        listed = np.where(index == NO_ITEM, best > -np.inf, _are_first(group))
        listed |= np.isnan(best)
        is_short = (listed.sum(axis=1) < k) & (index[:, -1] != NO_ITEM)
        if width >= scores.shape[1] or not is_short.any():
            break
        width *= 2
    order = np.argsort(~listed, axis=1, kind="stable")[:, :k]
    listed, index, best = (np.take_along_axis(each, order, axis=1) for each in (listed, index, best))
    return np.where(listed, index, NO_ITEM), np.where(listed, best, np.float32(-np.inf))


def _are_first(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return [rows, width] whether no earlier place of the row has the same label."""
    order = np.argsort(labels, axis=1, kind="stable")
    ordered = np.take_along_axis(labels, order, axis=1)
    first = np.ones(labels.shape, dtype=bool)
    np.put_along_axis(first, order[:, 1:], ordered[:, 1:] != ordered[:, :-1], axis=1)
    return first


def top_k(scores: "NDArray[np.float32] | Tensor", k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the indices [users, k] and scores [users, k] of the best items, best first.

    Items with equal scores are ordered by index, so that two runs give the same list. If a user has fewer
    than k items with a finite score, the other places are `NO_ITEM` with a score of minus infinity. A NaN
    score comes first, with `NO_ITEM`, so that callers find it in the first place.
    """
    import torch  # imported here, because reading published lists must not load it

    if not isinstance(scores, torch.Tensor):
        scores = torch.from_numpy(np.require(scores, requirements=["C", "W"]))
    if scores.device.type == "cpu" and scores.shape[1] >= 2 * _GROUP * k:
        found = _top_k_of_groups(scores.contiguous(), k)
        if found is not None:
            return found
    return _top_k_of_all(scores, k)


def _top_k_of_all(scores: "Tensor", k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    import torch

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


def _top_k_of_groups(scores: "Tensor", k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]] | None:
    """Return what `top_k` does, in less time than `torch.topk` if the catalogue is large.

    The k-th best of the best scores of groups of items is a bound: k items reach it, so nothing below it is
    listed, and only groups that reach it are looked at. None: that leaves too much, because scores are not
    finite or many are equal.

    Parameters
    ----------
    scores
        [users, items], contiguous.
    """
    users, items = scores.shape
    whole = items // _GROUP
    best_of_group = scores[:, : whole * _GROUP].view(users, whole, _GROUP).amax(2).numpy()
    bound = np.partition(best_of_group, whole - k, axis=1)[:, whole - k]
    if not np.isfinite(bound).all() or np.isnan(best_of_group).any():
        return None
    flat = scores.view(-1).numpy()
    user, group = np.divmod(np.flatnonzero(best_of_group >= bound[:, None]), whole)
    first = group * _GROUP
    if rest := items - whole * _GROUP:
        # The last group reaches back into the one before it, whose items are then left out.
        tail = np.flatnonzero(scores[:, -rest:].amax(1).numpy() >= bound)
        user, first = np.append(user, tail), np.append(first, np.full(len(tail), items - _GROUP))
        order = np.argsort(user, kind="stable")
        user, first = user[order], first[order]
    looked_at: NDArray[np.float32] = np.lib.stride_tricks.sliding_window_view(flat, _GROUP)[
        user * items + first
    ]
    reach = looked_at >= bound[user, None]
    if rest:
        reach[first == items - _GROUP, : _GROUP - rest] = False
    hit = np.flatnonzero(reach)
    values, owner = looked_at.reshape(-1)[hit], user[hit // _GROUP]
    places = (first[hit // _GROUP] + hit % _GROUP).astype(np.int32)
    counts = np.bincount(owner, minlength=users)
    if counts.max(initial=0) > 4 * k:
        return None
    column = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    index = np.full((users, counts.max(initial=0)), NO_ITEM, dtype=np.int32)
    worst_first = np.full(index.shape, np.inf, dtype=np.float32)
    index[owner, column], worst_first[owner, column] = places, -values
    # Places ascend in each row, so a stable sort orders equal scores by them.
    order = np.argsort(worst_first, axis=1, kind="stable")[:, :k]
    index, best = np.take_along_axis(index, order, axis=1), -np.take_along_axis(worst_first, order, axis=1)
    index[~np.isfinite(best)] = NO_ITEM
    return index, best
