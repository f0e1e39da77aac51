"""Protocol of everything that can be evaluated: it scores the catalogue for a user's history."""

from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from recsys.snapshot.sequences import Sequences


class Scorer(Protocol):
    """A recommender or a baseline."""

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return scores [users, items] in the order of the catalogue; higher is better.

        Minus infinity means "never recommend". NaN and plus infinity are errors.
        """
        ...


@runtime_checkable
class CountingScorer(Scorer, Protocol):
    """A model that has counted which items follow each other in users' histories."""

    def without_successions_of(self, histories: Sequences) -> Self:
        """Return the model as if it had not counted those in these histories."""
        ...
