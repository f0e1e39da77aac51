"""Appeal of an item: its answers in shown lists, over those that its places on the screen let expect.

What was shown and passed over is known of it, unlike what nobody was shown. Source: clicks over expected
clicks, Zhang and Jones, "Comparing click logs and editorial labels for training query rewriting" (2007).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.snapshot.slates import Slates

PRIOR = 3.0
"""Expected answers that draw an item towards the average, so that a few lists say little."""


@dataclass(frozen=True, eq=False)
class Appeal:
    """Answers and expected answers of the items.

    Each user counts once for an item, however often it was shown, with the mean over these showings. So
    nobody moves an item by more than one answer.

    Attributes
    ----------
    answers, expected
        `[items]`; both 0 for an item that was not shown.
    """

    answers: NDArray[np.float64]
    expected: NDArray[np.float64]

    @classmethod
    def fit(cls, slates: Slates, n_items: int) -> "Appeal":
        """Count what was shown; items that are not in the catalogue are left out."""
        known = slates.items >= 0
        items, answered = slates.items[known], slates.answered[known]
        weight = _weights(slates)[known]
        expected = weight * place_rates(slates)[slates.place[known]]
        counts = [np.bincount(items, one, n_items) for one in (weight * answered, expected)]
        return cls(*(one.astype(np.float64) for one in counts))

    def score(self) -> NDArray[np.float32]:
        """Return `[items]` the logarithm of answers over expected answers; 0 for what was not shown."""
        return np.log((self.answers + PRIOR) / (self.expected + PRIOR)).astype(np.float32)

    def aligned(self, positions: NDArray[np.int64], n_items: int) -> "Appeal":
        """Move item i to `positions[i]` in a catalogue of `n_items`; new items were not shown."""
        moved = np.zeros((2, n_items))
        kept = positions >= 0
        moved[:, positions[kept]] = np.stack([self.answers, self.expected])[:, kept]
        return Appeal(moved[0], moved[1])


def place_rates(slates: Slates) -> NDArray[np.float64]:
    """Return `[places]` the share of showings at a place that were answered, drawn towards that of all."""
    weight = _weights(slates)
    shown = np.bincount(slates.place, weight)
    answered = np.bincount(slates.place, weight * slates.answered)
    mean = answered.sum() / max(shown.sum(), 1e-9)
    rates: NDArray[np.float64] = (answered + PRIOR * mean) / (shown + PRIOR)
    return rates


def _weights(slates: Slates) -> NDArray[np.float64]:
    """Return `[shown]` one over the number of times that the user was shown the item."""
    _, user = np.unique(slates.user_keys.astype(str), return_inverse=True)
    pairs = user[slates.slate_of_item] * (slates.items.max(initial=0) + 2) + slates.items + 1
    _, pair, times = np.unique(pairs, return_inverse=True, return_counts=True)
    return 1.0 / times[pair]
