"""Score the items that a user has had before: how often, how recently, and after what pause.

Repeats are most of what people buy in a grocery or listen to, and none of what they watch. The features of an
item follow the literature on repeat consumption: the base-level activation of ACT-R, ln(sum of t^-0.5) over
the ages t of its events (Anderson and Schooler, 1991; for music Reiter-Haas et al., 2021), its number of
events, the number of visits with it, in which older ones count less (as in TIFU-kNN, Hu et al., 2020), and
whether the user's usual pause with it is over. The neural score has a weight of its own for items
that were had: what comes next in general says little about which of them is due. The fusion fits these
weights together with those of the other parts, so the share of repeats in a list is what users repeat.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.snapshot.sequences import Sequences
from recsys.snapshot.visits import visits

FEATURES = (
    "repeat",
    "repeat_activation",
    "repeat_count",
    "repeat_due",
    "seen",
    "seen_activation",
    "repeat_frequency",
    "repeat_neural",
)
"""Names in the fusion. `repeat` is 1 for an item with an outcome, `seen` for an item with a step;
`repeat_neural` is the neural score of an item with an outcome."""
_HALF_LIFE_VISITS = 5.0
_SHORTEST_AGE = 1 / 1440
"""Days: what happened within the last minute is equally recent."""
_MICROSECONDS_PER_DAY = 86_400e6


@dataclass(frozen=True, eq=False)
class Repeats:
    """Features of the items that users have had before and may have again.

    Attributes
    ----------
    users, items
        [pairs] row in the histories, and position in the catalogue; each pair once.
    features
        [pairs, features] in the order of `FEATURES`.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    features: NDArray[np.float32]

    def of_items(self, items: NDArray[np.int64], users: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return [wanted, features] of items [wanted] for users [wanted]; 0 where the user has not had it."""
        width = 1 + max(int(self.items.max(initial=0)), int(items.max(initial=0)))
        keys, wanted = self.users * width + self.items, users * width + items
        order = np.argsort(keys)
        place = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
        return np.where((keys[place] == wanted)[:, None], self.features[place], np.float32(0))

    def with_neural(self, scores: NDArray[np.float32]) -> "Repeats":
        """Return the features with `repeat_neural` for standardised neural scores [pairs]."""
        features = self.features.copy()
        features[:, FEATURES.index("repeat_neural")] = scores * features[:, FEATURES.index("repeat")]
        return replace(self, features=features)

    def take(self, users: NDArray[np.int64]) -> "Repeats":
        """Return the features of some users, each at most once."""
        row = np.full(int(self.users.max(initial=-1)) + 1, -1, dtype=np.int64)
        inside = users < len(row)
        row[users[inside]] = np.flatnonzero(inside)
        kept = row[self.users] >= 0
        return Repeats(row[self.users[kept]], self.items[kept], self.features[kept])


def repeat_features(histories: Sequences, n_items: int) -> Repeats:
    """Compute the features of each user's items at the `moments` of the histories.

    Items that are off the user's list, or of which the latest event is negative, have none. `repeat_neural`
    is 0 until `Repeats.with_neural` is called.
    """
    owners, moments = histories.event_users(), histories.moments
    pairs = owners * n_items + histories.item_index
    usable = _usable(histories, pairs)
    different, place = np.unique(pairs[usable], return_inverse=True)
    outcome = histories.outcome[usable]
    ages = (moments[owners] - histories.occurred_at)[usable] / _MICROSECONDS_PER_DAY
    ages = np.maximum(ages, _SHORTEST_AGE)
    size = len(different)

    def activation(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        strength = np.bincount(place[chosen], weights=ages[chosen] ** -0.5, minlength=size)
        return np.log(strength, out=np.zeros(size), where=strength > 0)

    count = np.bincount(place[outcome], minlength=size)
    columns = (
        count > 0,
        activation(outcome),
        np.log(count, out=np.zeros(size), where=count > 0),
        _due(place[outcome], ages[outcome], count),
        np.bincount(place[~outcome], minlength=size) > 0,
        activation(~outcome),
        _frequency(histories, np.flatnonzero(usable)[outcome], place[outcome], size),
        np.zeros(size),
    )
    features = np.stack(columns, axis=1).astype(np.float32)
    return Repeats(different // n_items, different % n_items, features)


def _usable(histories: Sequences, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return [events] whether the event counts: not of a pair that is hidden or was refused last."""
    if not histories.events:
        return np.zeros(0, dtype=bool)
    hidden = histories.hidden_until >= histories.moments[histories.event_users()]
    _, from_end = np.unique(pairs[::-1], return_index=True)
    latest = histories.events - 1 - from_end
    refused = pairs[latest[histories.sentiment[latest] < 0]]
    out = np.union1d(pairs[hidden], refused)
    usable: NDArray[np.bool_] = (histories.sentiment >= 0) & ~np.isin(pairs, out)
    return usable


def _frequency(
    histories: Sequences, events: NDArray[np.int64], place: NDArray[np.int64], size: int
) -> NDArray[np.float64]:
    """Return [pairs] the logarithm of the number of visits with the item; older ones count less.

    Parameters
    ----------
    events, place
        [outcomes] positions in the histories, and the pair.
    """
    visit = visits(histories)
    last = visit[histories.offsets[1:][histories.event_users()[events]] - 1]
    # Several outcomes with an item in one visit count once.
    _, first = np.unique(np.stack([place, visit[events]]), axis=1, return_index=True)
    weights = 0.5 ** ((last - visit[events])[first] / _HALF_LIFE_VISITS)
    total = np.bincount(place[first], weights=weights, minlength=size)
    return np.log(total, out=np.zeros(size), where=total > 0)


def _due(
    place: NDArray[np.int64], ages: NDArray[np.float64], count: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return [pairs] minus the distance, in logarithms, between the pause so far and the usual one.

    0 for an item with fewer than two outcomes, whose usual pause is unknown.
    """
    size = len(count)
    youngest = np.full(size, np.inf)
    oldest = np.zeros(size)
    np.minimum.at(youngest, place, ages)
    np.maximum.at(oldest, place, ages)
    several = count > 1
    usual = (oldest[several] - youngest[several]) / (count[several] - 1)
    due = np.zeros(size)
    due[several] = -np.abs(np.log(youngest[several] + 0.1) - np.log(usual + 0.1))
    return due
