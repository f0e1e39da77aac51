"""What can be evaluated: anything that scores the catalogue for a user's history."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.snapshot.sequences import Sequences


class Scorer(Protocol):
    """A recommender, a baseline, or a test's stand-in."""

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return scores [users, items] in the order of the catalogue, higher is better.

        Minus infinity means "never recommend". NaN and plus infinity are errors.
        """
        ...
