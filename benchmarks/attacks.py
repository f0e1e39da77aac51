"""Attacks on a catalogue of ratings: accounts that push one item, with other ratings as cover.

The kinds and their names are those of the literature on shilling (Mobasher et al., 2007, "Toward trustworthy
recommender systems"). All accounts give the target the highest rating.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

RANDOM, AVERAGE, BANDWAGON, SEGMENT = "random", "average", "bandwagon", "segment"
KINDS = (RANDOM, AVERAGE, BANDWAGON, SEGMENT)
DAY = 86_400.0
_HIGHEST = 5.0
_SECONDS_BETWEEN_RATINGS = 20.0
_POPULAR = 50


@dataclass(frozen=True)
class Ratings:
    """Ratings as arrays of the same length, in order of time.

    Attributes
    ----------
    user, item
        Numbers of the user and of the item in the catalogue.
    value
        Stars, 1 to 5.
    time
        Unix seconds.
    """

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    value: NDArray[np.float64]
    time: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.user)

    def take(self, chosen: NDArray[Any]) -> "Ratings":
        """Return some ratings, by mask or by positions."""
        return Ratings(*(getattr(self, column.name)[chosen] for column in fields(self)))

    def with_(self, others: "Ratings") -> "Ratings":
        """Return these and other ratings, in order of time."""
        both = Ratings(
            *(np.concatenate([getattr(self, c.name), getattr(others, c.name)]) for c in fields(self))
        )
        return both.take(np.argsort(both.time, kind="stable"))


@dataclass(frozen=True)
class Attack:
    """A plan to push one item.

    Attributes
    ----------
    kind
        How the other ratings of an account are chosen: `random` items with values like those of all ratings;
        `average` with each item's mean; `bandwagon`: half of them popular items with the highest value, half
        random; `segment`: popular items of the target's genres with the highest value.
    filler_share
        Other ratings of an account, as a share of the catalogue.
    days
        Time in which the accounts appear.
    share
        Accounts, as a share of the honest users.
    """

    kind: str
    filler_share: float
    days: float
    share: float

    @property
    def name(self) -> str:
        """What distinguishes the attack from others of its share."""
        pace = "in a day" if self.days <= 1 else f"over {self.days:g} days"
        return f"{self.kind}, {self.filler_share:.0%} filler, {pace}"

    def ratings(
        self, honest: Ratings, target: int, begin: float, alike: NDArray[np.bool_], rng: np.random.Generator
    ) -> Ratings:
        """Return the ratings of the accounts, whose user numbers follow the honest ones.

        Parameters
        ----------
        begin
            When the first account may appear, Unix seconds.
        alike
            [items] whether the item shares a genre with the target.
        """
        first, items = int(honest.user.max()) + 1, len(alike)
        count = round(self.share * first)
        parts = []
        for user in range(first, first + count):
            chosen, values = self._filler(honest, target, alike, rng, round(self.filler_share * items))
            chosen, values = np.append(chosen, target), np.append(values, _HIGHEST)
            order = rng.permutation(len(chosen))
            pauses = rng.exponential(_SECONDS_BETWEEN_RATINGS, len(chosen))
            time = begin + self.days * DAY * rng.random() + np.cumsum(pauses)
            parts.append(Ratings(np.full(len(chosen), user), chosen[order], values[order], np.floor(time)))
        everything = Ratings(*(np.concatenate([getattr(p, c.name) for p in parts]) for c in fields(Ratings)))
        return everything.take(np.argsort(everything.time, kind="stable"))

    def _filler(
        self,
        honest: Ratings,
        target: int,
        alike: NDArray[np.bool_],
        rng: np.random.Generator,
        count: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        popularity = np.bincount(honest.item, minlength=len(alike)).astype(float)
        popularity[target] = 0
        if self.kind == SEGMENT:
            chosen = np.argsort(-popularity * alike, kind="stable")[: max(count * 2, _POPULAR)]
            return rng.choice(chosen, count, replace=False), np.full(count, _HIGHEST)
        popular = np.empty(0, dtype=np.int64)
        if self.kind == BANDWAGON:
            top = np.argsort(-popularity, kind="stable")[:_POPULAR]
            popular = rng.choice(top, min(count // 2, _POPULAR), replace=False)
        others = np.setdiff1d(np.arange(len(alike)), np.append(popular, target))
        drawn = rng.choice(others, count - len(popular), replace=False)
        centre = np.full(len(drawn), honest.value.mean())
        if self.kind == AVERAGE:
            rated = np.bincount(honest.item, weights=honest.value, minlength=len(alike))
            number = np.bincount(honest.item, minlength=len(alike))
            centre = np.where(number[drawn] > 0, rated[drawn] / np.maximum(number[drawn], 1), centre)
        spread = 0.5 if self.kind == AVERAGE else honest.value.std()
        values = np.clip(np.round(rng.normal(centre, spread)), 1, _HIGHEST)
        return np.append(popular, drawn), np.append(np.full(len(popular), _HIGHEST), values)
