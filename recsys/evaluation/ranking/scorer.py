"""Protocol of everything that can be evaluated: it scores the catalogue for a user's history."""

from typing import Protocol

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
