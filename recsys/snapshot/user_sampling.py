"""Sample users by their keys. A sample depends on the seed only, not on the order in which users are seen."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_DIGITS = 16
FIRST_VISITOR = 0xFFFFF << 44
"""Lowest number of a visitor, see `recsys.warehouse.pseudonyms`."""
ALL = 1 << 64
"""Upper bound (exclusive) of user numbers and priorities."""
_ACTIVITY_QUANTILES = (0.25, 0.5, 0.75)
_POPULARITY_QUANTILES = (1 / 3, 2 / 3)


def user_numbers(user_keys: pa.Array) -> NDArray[np.uint64]:
    """Return `[users]` the first sixteen hex digits of each key as a number; sorts as the keys do."""
    digits = pc.utf8_slice_codeunits(user_keys, 0, _DIGITS).cast(pa.binary()).cast(pa.binary(_DIGITS))
    text = np.frombuffer(digits.buffers()[1] or b"", dtype=np.uint8)
    text = text[digits.offset * _DIGITS : (digits.offset + len(digits)) * _DIGITS].reshape(-1, _DIGITS)
    values = np.where(text >= ord("a"), text - (ord("a") - 10), text - ord("0")).astype(np.uint64)
    numbers = np.zeros(len(digits), dtype=np.uint64)
    for place in range(_DIGITS):
        numbers = (numbers << np.uint64(4)) | values[:, place]
    return numbers


def priorities(numbers: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Return `[users]` uniform numbers; the users with the smallest ones are a random sample.

    The finaliser of SplitMix64 (Steele, Lea, Flood 2014), a bijection.
    """
    # Every bit depends on the seed, so consecutive seeds give unrelated samples.
    mixed = numbers ^ np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % ALL)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def without_lone_visits(user_keys: pa.Array, owners: pa.ChunkedArray) -> pa.Array:
    """Return the keys without those of visitors who have one event: nothing comes before it to learn from.

    Parameters
    ----------
    owners
        `[events]` key of each event's user.
    """
    counted = owners.value_counts()
    keys, counts = counted.field("values"), counted.field("counts")
    if pa.types.is_dictionary(keys.type):
        keys = keys.dictionary_decode()
    lone = keys.filter(pc.equal(counts, 1))
    visits = pa.array(user_numbers(lone) >= np.uint64(FIRST_VISITOR))
    return user_keys.filter(pc.invert(pc.is_in(user_keys, value_set=lone.filter(visits))))


def stratified_sample(
    events: NDArray[np.int64], popularity: NDArray[np.float64], priority: NDArray[np.uint64], size: int
) -> NDArray[np.int64]:
    """Sample users in proportion to their activity and to the popularity of their items.

    Strata are quarters by activity crossed with thirds by popularity. Each stratum gets places in proportion
    to its users, for those with the smallest priorities.

    Parameters
    ----------
    events
        `[users]` number of events.
    popularity
        `[users]` mean popularity of each user's items.
    priority
        `[users]` from `priorities`.
    size
        Number of users to sample.

    Returns
    -------
    `[sampled]` positions, ascending; all users when there are no more than `size`.
    """
    if len(events) <= size:
        return np.arange(len(events))
    stratum = np.searchsorted(np.quantile(events, _ACTIVITY_QUANTILES), events) * (
        len(_POPULARITY_QUANTILES) + 1
    ) + np.searchsorted(np.quantile(popularity, _POPULARITY_QUANTILES), popularity)
    users = np.bincount(stratum)
    order = np.lexsort((priority, stratum))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(users) - users, users)
    sampled: NDArray[np.int64] = np.sort(order[rank < np.repeat(_allocate(users, size), users)])
    return sampled


def _allocate(users: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return `[strata]` places in proportion to users; the largest remainders get what rounding leaves."""
    shares = users * size / users.sum()
    places: NDArray[np.int64] = np.floor(shares).astype(np.int64)
    left = size - int(places.sum())
    places[np.argsort(places - shares, kind="stable")[:left]] += 1
    return places
