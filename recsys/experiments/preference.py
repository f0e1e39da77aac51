"""Which version users prefer, when each of their lists has items that both versions picked in turn.

Every answered item speaks for the version that picked it, unless both wanted it. If users like
both equally, each answer is as likely to be for one as for the other, because a coin decides who picks first
(`recsys.publishing.interleaving`). So the difference of a user's answers is 0 on average, and users are
independent: its standard error is the root of the sum of squares. Users differ in how much they answer, and
that cancels out, which is why far fewer of them are needed than with one version's lists for each.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.experiments.effects import METRICS, PREFERENCE, Effect, Metric

MIN_ANSWERING = 100
"""Users who answered something, below which nothing is read: the bounds are those of large samples."""
MAX_UNEVEN = 0.1
"""Difference of the shown items of both versions, as a share of them all, that may bias answers."""
_UNEVEN_BY_CHANCE = 10.83
"""Chi-square, with one degree of freedom, that chance exceeds in one of a thousand experiments."""
_MOST = 0.99
"""A user's answers count at most as many times as those of this share of the users who answer."""

DISLIKES = METRICS["dislikes"]
"""The metric that an interleaved experiment can guard; users see both versions, so others are nobody's."""


@dataclass(frozen=True, eq=False)
class Interleaved:
    """What users did with interleaved lists.

    Attributes
    ----------
    slates
        Number of slates with such lists.
    shown, answered, disliked
        [users, 2] items that the champion and the challenger picked.
    """

    slates: int
    shown: NDArray[np.int64]
    answered: NDArray[np.int64]
    disliked: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))

    @property
    def answering(self) -> int:
        """Users who answered something."""
        return int((self.answered.sum(axis=1) > 0).sum())

    @property
    def is_uneven(self) -> bool:
        """Whether items of one version were shown more often: it was not the list that users saw.

        By more than may be, and by more than coins do: users are independent, and the difference of a user's
        shown items is 0 on average. Many users make small differences certain, such as those of lists that
        follow the latest reactions, so certainty alone says nothing.
        """
        difference = self.shown[:, 1] - self.shown[:, 0]
        is_large = abs(difference.sum()) > MAX_UNEVEN * self.shown.sum()
        return bool(is_large and difference.sum() ** 2 > _UNEVEN_BY_CHANCE * (difference**2).sum())

    def effect(self) -> Effect:
        """Return by how much more of the answered items the challenger picked than the champion."""
        return self._compare(PREFERENCE, self.answered, float(self.answered.sum()))

    def dislikes(self) -> Effect:
        """Return by how many more of the items that the challenger picked were disliked, a slate."""
        return self._compare(DISLIKES, self.disliked, float(self.slates))

    def _compare(self, metric: Metric, counts: NDArray[np.int64], per: float) -> Effect:
        """Compare what users did with items of each version, `counts` [users, 2], divided by `per`.

        What a user did beyond the 99th percentile of those who did it counts in proportion, so that no robot
        outweighs them.
        """
        total = counts.sum(axis=1)
        if (total > 0).sum() < MIN_ANSWERING or self.is_uneven:
            return nothing(metric)
        most = np.quantile(total[total > 0], _MOST, method="inverted_cdf")
        capped = counts * np.minimum(1.0, most / np.maximum(total, 1))[:, None]
        per *= capped.sum() / counts.sum()
        champion, challenger = capped.sum(axis=0) / per
        gain = capped[:, 1] - capped[:, 0]
        return Effect(
            metric,
            float(champion),
            float(challenger),
            difference=float(challenger - champion),
            standard_error=float(np.sqrt((gain**2).sum()) / per),
            information=float(self.slates),
            variance_ratio=1.0,
        )


def nothing(metric: Metric) -> Effect:
    """Return that nothing can be said about a metric."""
    return Effect(metric, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
