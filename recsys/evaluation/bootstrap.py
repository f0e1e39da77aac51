"""Bootstrap over users: how far a mean would move with other users of the same kind.

Users are drawn with replacement (Efron, 1979), intervals are percentiles. All columns share the
draws, so that the difference of two columns is a paired comparison. Columns of different
evaluations may not be compared this way, since their users differ.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_CHUNK_DRAWS = 1 << 20  # keeps the weights of a chunk in the processor's cache


@dataclass(frozen=True)
class Interval:
    """A mean, or a difference of means, with the limits of its confidence interval."""

    value: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """The value, by the name it has in a paired comparison."""
        return self.value


def bootstrap_means(values: NDArray[np.float64], resamples: int, seed: int = 0) -> NDArray[np.float64]:
    """Return [resamples, columns] means over users drawn with replacement.

    Parameters
    ----------
    values
        [users, columns]; all columns are averaged with the same draws.
    resamples
        How often to draw as many users as there are.
    seed
        The same seed gives the same means.
    """
    users = len(values)
    generator = np.random.default_rng(seed)
    columns = np.ascontiguousarray(values, dtype=np.float64)
    means = np.empty((resamples, columns.shape[1]))
    rows = max(1, _CHUNK_DRAWS // max(users, 1))
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        # How often each user is drawn in each resample: one bincount over draws shifted by row.
        draws = generator.integers(0, users, size=(count, users), dtype=np.int32)
        draws += np.arange(count, dtype=np.int32)[:, None] * users
        weights = np.bincount(draws.ravel(), minlength=count * users).reshape(count, users)
        means[start : start + count] = weights.astype(np.float64) @ columns / users
    return means


def mean_intervals(
    values: NDArray[np.float64], resamples: int, confidence: float, seed: int = 0
) -> list[Interval]:
    """Return the mean of each column of `values` [users, columns] with its interval.

    No users, or a column with NaN, gives NaN limits.
    """
    if len(values) == 0:
        return [Interval(np.nan, np.nan, np.nan)] * values.shape[1]
    means = bootstrap_means(values, resamples, seed)
    lows, highs = np.quantile(means, _limits(confidence), axis=0)
    return [
        Interval(float(value), float(low), float(high))
        for value, low, high in zip(values.mean(axis=0), lows, highs, strict=True)
    ]


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return the mean of a - b over users with its interval.

    Parameters
    ----------
    a, b
        [users] metric of the same users in the same order.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"paired values must be two arrays [users], not {first.shape} and {second.shape}")
    return mean_intervals((first - second)[:, None], resamples, confidence, seed)[0]


def _limits(confidence: float) -> tuple[float, float]:
    return (1 - confidence) / 2, (1 + confidence) / 2
