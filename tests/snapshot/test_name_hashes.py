import numpy as np
import pyarrow as pa
import pytest

from recsys.snapshot.name_hashes import HashIndex

RANDOM = np.random.default_rng(5)


def some_hashes(count: int) -> np.ndarray:
    return np.unique(RANDOM.integers(-(2**63), 2**63 - 1, count))


def named(hashes: np.ndarray) -> HashIndex:
    return HashIndex(pa.array([f"name {number}" for number in range(len(hashes))]), hashes)


@pytest.mark.parametrize("count", [1, 2, 3, 1_000, 40_000])
def test_every_hash_finds_its_name_and_other_hashes_none(count: int) -> None:
    hashes = RANDOM.permutation(some_hashes(count))
    names = named(hashes)
    asked = np.concatenate([hashes, hashes + 1, some_hashes(100), [0, -1, 2**63 - 1, -(2**63)]])
    place_of = {hash_: place for place, hash_ in enumerate(hashes.tolist())}
    assert names.positions(asked).tolist() == [place_of.get(hash_, -1) for hash_ in asked.tolist()]


def test_hashes_with_equal_leading_bits_find_different_names() -> None:
    hashes = np.arange(-50, 50) + 2**40
    assert named(hashes).positions(hashes[::-1].copy()).tolist() == list(range(100))[::-1]


def test_an_empty_index_finds_no_name() -> None:
    assert named(np.zeros(0, dtype=np.int64)).positions(np.array([0, 5])).tolist() == [-1, -1]


def test_a_dictionary_has_only_the_names_that_occur_in_order() -> None:
    encoded = named(some_hashes(10)).encode(np.array([7, 2, 7, 3], dtype=np.int32))
    assert encoded.to_pylist() == ["name 7", "name 2", "name 7", "name 3"]
    assert encoded.dictionary.to_pylist() == ["name 2", "name 3", "name 7"]
