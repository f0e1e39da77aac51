"""Predicted rewards for the doubly robust estimator: examination by position times appeal of the item."""

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.off_policy.slates import SlateDistribution
from recsys.model.ranking import NO_ITEM

_FOLDS = 2
_PRIOR_LOOKS = 20.0
"""Shrinks an item's rate towards the mean: it counts as that many more looks at a mean item."""


def reward_table(
    slates: NDArray[np.int32], rewards: NDArray[np.float64], items: int, positions: int
) -> NDArray[np.float64]:
    """Return [items, positions] the predicted reward of each item at each position.

    Parameters
    ----------
    slates, rewards
        [slates, positions] items shown (`NO_ITEM` for an empty position) and their rewards.
    """
    shown = slates != NO_ITEM
    earned = np.where(shown, rewards, 0.0)
    counts = np.maximum(shown.sum(axis=0), 1)
    mean = earned.sum() / max(shown.sum(), 1)
    by_position = earned.sum(axis=0) / counts
    look = by_position / mean if mean > 0 else np.ones(positions)
    index = np.where(shown, slates, 0)
    looks = np.bincount(index.ravel(), np.where(shown, look, 0.0).ravel(), minlength=items)
    sums = np.bincount(index.ravel(), earned.ravel(), minlength=items)
    rate = (sums + _PRIOR_LOOKS * mean) / (looks + _PRIOR_LOOKS)
    return np.asarray(rate[:, None] * look)


def predict_rewards(
    slates: NDArray[np.int32],
    rewards: NDArray[np.float64],
    users: NDArray[np.int64],
    policy: SlateDistribution,
    items: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predict the rewards of the items shown and of the items that the policy shows.

    Users are split in two halves, and each half is predicted from the other (cross-fitting): no reward is
    predicted from itself.

    Returns
    -------
    Two arrays [slates, positions]: for the items shown, and the mean over the policy's items.
    """
    width = slates.shape[1]
    predicted, target = np.zeros(slates.shape), np.zeros(slates.shape)
    fold = np.unique(users, return_inverse=True)[1] % _FOLDS
    for number in range(_FOLDS):
        here = fold == number
        if not here.any():
            continue
        learned = ~here if (~here).any() else here
        table = reward_table(slates[learned], rewards[learned], items, width)
        shown = np.where(slates[here] == NO_ITEM, 0, slates[here])
        predicted[here] = table[shown, np.arange(width)]
        chosen = SlateDistribution(policy.items[here], policy.probabilities[here])
        positions = chosen.probabilities.shape[2]
        target[here, :positions] = chosen.expected(table[:, :positions])[:, :width]
    return predicted, target
