"""Seeded samples of users by their keys, the same however often and in whatever order users come by."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_DIGITS = 16
ALL = 1 << 64
"""Every priority, and every user's number, lies below it."""
_ACTIVITY_QUANTILES = (0.25, 0.5, 0.75)
_POPULARITY_QUANTILES = (1 / 3, 2 / 3)


def user_numbers(user_keys: pa.Array) -> NDArray[np.uint64]:
    """Return [users] the first sixteen hex digits of each key as a number; in the order of the keys."""
    digits = pc.utf8_slice_codeunits(user_keys, 0, _DIGITS).cast(pa.binary()).cast(pa.binary(_DIGITS))
    text = np.frombuffer(digits.buffers()[1] or b"", dtype=np.uint8)
    text = text[digits.offset * _DIGITS : (digits.offset + len(digits)) * _DIGITS].reshape(-1, _DIGITS)
    values = np.where(text >= ord("a"), text - (ord("a") - 10), text - ord("0")).astype(np.uint64)
    numbers = np.zeros(len(digits), dtype=np.uint64)
    for place in range(_DIGITS):
        numbers = (numbers << np.uint64(4)) | values[:, place]
    return numbers


def priorities(numbers: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Return [users] evenly spread numbers: the users with the smallest are a random sample of all.

    The finaliser of SplitMix64 (Steele, Lea, Flood 2014), a bijection.
    """
    mixed = numbers ^ priority_seed(seed)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def priority_seed(seed: int) -> np.uint64:
    """Return a number in which every bit depends on the seed, so that neighbouring seeds differ as any."""
    return np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % ALL)


def stratified(
    events: NDArray[np.int64], popularity: NDArray[np.float64], priority: NDArray[np.uint64], size: int
) -> NDArray[np.int64]:
    """Choose users so that light and heavy ones, and those of popular and of rare items, keep their shares.

    Strata are quarters by activity crossed with thirds by popularity; each gives places in proportion to
    its users, and in each those with the smallest priority are chosen.

    Parameters
    ----------
    events
        [users] events of each.
    popularity
        [users] how popular the items of each are.
    priority
        [users] from `priorities`.
    size
        Users to choose.

    Returns
    -------
    [chosen] positions, ascending; all users when there are no more than `size`.
    """
    if len(events) <= size:
        return np.arange(len(events))
    stratum = np.searchsorted(np.quantile(events, _ACTIVITY_QUANTILES), events) * (
        len(_POPULARITY_QUANTILES) + 1
    ) + np.searchsorted(np.quantile(popularity, _POPULARITY_QUANTILES), popularity)
    users = np.bincount(stratum)
    order = np.lexsort((priority, stratum))
    place = np.arange(len(order)) - np.repeat(np.cumsum(users) - users, users)
    chosen: NDArray[np.int64] = np.sort(order[place < np.repeat(_places(users, size), users)])
    return chosen


def _places(users: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Divide places in proportion to users [strata]; what rounding leaves goes to the largest remainders."""
    shares = users * size / users.sum()
    places: NDArray[np.int64] = np.floor(shares).astype(np.int64)
    left = size - int(places.sum())
    places[np.argsort(places - shares, kind="stable")[:left]] += 1
    return places
