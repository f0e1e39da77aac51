"""Bounds of a test that is looked at repeatedly: group sequential, by spending of the error rate.

Source: Lan and DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 1983; the spending
function is that of Kim and DeMets (1987); the recursion is that of Armitage, McPherson and Rowe (1969).

`spotify-confidence` 4.1 computes such bounds too, but needs pandas below 3; `confseq` 0.0.11 has no wheels
and is built with Boost. The computation is short, and the tests hold it to simulated paths.

Two clocks run in it. The error rate is spent by the share of the planned time, which is known in advance.
What two looks have in common follows from how much each has read, which is not: it is the square root of the
ratio. That is exact if every day brings new users. Users who come back, and differ lastingly, give two looks
more in common than that, and the bounds err on the safe side (Slepian's inequality, 1962). The inverse of the
estimate's variance would be closer, but it may fall: on the first day everybody has seen one slate.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

POWER_OF_TIME = 1.5
"""Of the error rate, this power of the share of the time is spent: little at first, when data is scarce."""
_GRID = 201  # odd, for Simpson's rule
_LOWEST = -5.0
_SMALLEST_STEP = 0.005  # less would be new than the grid resolves


def spent(share: float, alpha: float) -> float:
    """Return how much of a one-sided error rate may be spent by a share of the planned time."""
    return float(alpha * min(max(share, 0.0), 1.0) ** POWER_OF_TIME)


class Bounds:
    """Gives for each look the z-score from which on a difference counts as shown.

    If there is no difference, the probability that any look reaches its bound is at most `alpha`.

    Parameters
    ----------
    alpha
        One-sided error rate.
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self._spent = 0.0
        self._information = 0.0
        self._grid = np.empty(0)  # z-scores at the last look that counted
        self._density = np.empty(0)  # of those paths that have not reached a bound, times the grid's weights

    def look(self, share: float, information: float) -> float:
        """Return the bound of the next look.

        It is infinite if there is hardly more information than at an earlier look. What such a look might
        have spent is left to the next one.

        Parameters
        ----------
        share
            Share of the planned time that has passed. Above 1 nothing more is spent.
        information
            How much has been read so far, such as a number of slates.
        """
        to_spend = spent(share, self._alpha) - self._spent
        least = self._information * (1 + _SMALLEST_STEP)
        if to_spend <= 0 or not np.isfinite(information) or information <= least:
            return float("inf")
        first = self._information == 0
        common = self._information / information
        scale, new = float(np.sqrt(common)), float(np.sqrt(1 - common))
        bound = float(-ndtri(to_spend)) if first else self._solve(scale, new, to_spend)
        grid = np.linspace(_LOWEST, bound, _GRID)
        if first:
            density = _normal(grid)
        else:
            density = _normal((grid[:, None] - scale * self._grid[None, :]) / new) @ self._density / new
        self._grid, self._density = grid, density * _weights(grid)
        self._information = information
        self._spent += to_spend
        return bound

    def _solve(self, scale: float, new: float, to_spend: float) -> float:
        """Return the bound above which the paths that are left end with this probability; bisection."""
        low, high = _LOWEST, -2 * _LOWEST
        for _ in range(40):
            middle = (low + high) / 2
            above = float(ndtr((scale * self._grid - middle) / new) @ self._density)
            low, high = (middle, high) if above > to_spend else (low, middle)
        return high


def upper_bounds(shares: Sequence[float], information: Sequence[float], alpha: float) -> NDArray[np.float64]:
    """Return the bounds of consecutive looks, [looks]; see `Bounds.look`."""
    bounds = Bounds(alpha)
    return np.array([bounds.look(share, now) for share, now in zip(shares, information, strict=True)])


def _weights(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights of Simpson's rule; the number of points is odd."""
    weights = np.full(len(grid), 2.0)
    weights[1::2] = 4.0
    weights[[0, -1]] = 1.0
    step = float(grid[1] - grid[0])
    return weights * (step / 3)


def _normal(z: NDArray[np.float64]) -> NDArray[np.float64]:
    density: NDArray[np.float64] = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return density
