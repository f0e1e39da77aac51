from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.model.ranking import (
    NO_ITEM,
    _top_k_of_groups,
    mask_hidden,
    mask_unavailable,
    mask_variants,
    top_k,
    top_k_things,
)
from recsys.snapshot.catalogue import Catalogue
from tests.small_models import disliked, histories, liked, theme_catalogue


def test_consumed_and_disliked_items_get_no_score() -> None:
    catalogue = theme_catalogue(2)
    past = histories(catalogue, liked("space-0"), [], liked("crime-1") + disliked("space-1"))
    scores = mask_hidden(np.zeros((3, len(catalogue)), dtype=np.float32), past)
    masked = [set(catalogue.item_ids[np.isneginf(row)]) for row in scores]
    assert masked == [{"space-0"}, set(), {"crime-1", "space-1"}]


def test_best_items_come_first_and_equal_scores_in_catalogue_order() -> None:
    scores = np.array([[0.1, 0.9, 0.5, 0.9], [1.0, 1.0, 1.0, 1.0]], dtype=np.float32)
    index, best = top_k(scores, 3)
    assert index.tolist() == [[1, 3, 2], [0, 1, 2]]
    assert np.allclose(best, [[0.9, 0.9, 0.5], [1, 1, 1]])


def test_a_user_with_fewer_than_k_items_gets_a_shorter_list() -> None:
    scores = np.array([[0.3, -np.inf, 0.2], [-np.inf, -np.inf, -np.inf]], dtype=np.float32)
    index, best = top_k(scores, 5)
    assert index.tolist() == [[0, 2, *[NO_ITEM] * 3], [NO_ITEM] * 5]
    assert np.isneginf(best[0, 2:]).all()


def test_top_k_equals_a_full_sort() -> None:
    scores = np.random.default_rng(0).normal(size=(20, 300)).astype(np.float32)
    index, _ = top_k(scores, 7)
    assert (index == np.argsort(-scores, axis=1)[:, :7]).all()


def test_equal_scores_at_the_cut_come_in_catalogue_order() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 4, (50, 40)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.3] = -np.inf
    expected = np.argsort(-scores, axis=1, kind="stable")
    for k in (1, 5, 39, 40):
        index, best = top_k(scores, k)
        assert (best == np.take_along_axis(scores, expected[:, :k], axis=1)).all()
        assert (index == np.where(np.isfinite(best), expected[:, :k], NO_ITEM)).all()


@pytest.mark.parametrize("items", [640, 641, 671, 2_000])
@pytest.mark.parametrize("different", [8, 60, 10**9])
def test_the_best_of_a_large_catalogue_are_those_of_a_full_sort(items, different) -> None:
    rng = np.random.default_rng(items + different)
    scores = rng.integers(-different, different, (40, items)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.1] = -np.inf
    scores[0, 10:] = -np.inf
    scores[1] = -np.inf
    scores[2, -3:] = 2e9
    if different > 8:
        assert _top_k_of_groups(torch.from_numpy(scores[2:]), 10) is not None
    for rows in (scores, scores[2:]):
        expected = np.argsort(-rows, axis=1, kind="stable")[:, :10]
        index, best = top_k(rows.copy(), 10)
        assert (best == np.take_along_axis(rows, expected, axis=1)).all()
        assert (index == np.where(np.isfinite(best), expected, NO_ITEM)).all()


def test_a_nan_score_of_a_large_catalogue_comes_first() -> None:
    scores = np.random.default_rng(0).random((3, 1_000)).astype(np.float32)
    scores[1, 500] = np.nan
    index, best = top_k(scores, 3)
    assert np.isnan(best[1, 0])
    assert (index[:, 0] == NO_ITEM).tolist() == [False, True, False]


def test_read_only_arrays_can_be_ranked() -> None:
    scores = np.broadcast_to(np.array([0.1, 0.3, 0.2], dtype=np.float32), (2, 3))
    assert top_k(scores, 2)[0].tolist() == [[1, 2], [1, 2]]


def test_a_nan_score_comes_first() -> None:
    scores = np.array([[0.0, 2.0, np.nan, 1.0]], dtype=np.float32)
    index, best = top_k(scores, 2)
    assert np.isnan(best[0, 0])
    assert index.tolist() == [[NO_ITEM, 1]]


LOW = -np.inf


def test_of_variants_only_the_best_keeps_its_score() -> None:
    names = list("abcdef")
    catalogue = Catalogue.build(names, names, variant_of=["film", None, "film", "e", None, "film"])
    scores = np.array([[1, 9, 3, 2, 2, 3], [LOW, 1, LOW, 5, 6, LOW]], np.float32)
    mask_variants(scores, catalogue)
    np.testing.assert_array_equal(scores, [[LOW, 9, 3, 2, LOW, LOW], [LOW, 1, LOW, LOW, 6, LOW]])


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_a_list_of_things_is_as_long_as_there_are_things(kind) -> None:
    names = [str(item) for item in range(40)]
    # One thing has 37 variants, which take the first places.
    catalogue = Catalogue.build(names, names, variant_of=["0" if item < 37 else None for item in range(40)])
    scores = np.stack([np.arange(40, 0, -1), np.full(40, LOW)]).astype(np.float32)
    index, best = top_k_things(kind(scores), 5, catalogue)
    assert index.tolist() == [[0, 37, 38, 39, NO_ITEM], [NO_ITEM] * 5]
    assert best.tolist() == [[40, 3, 2, 1, LOW], [LOW] * 5]


def test_a_score_that_is_not_a_number_is_found_in_the_first_place() -> None:
    catalogue = Catalogue.build(["a", "b"], ["", ""], variant_of=["g", "g"])
    index, best = top_k_things(np.array([[1, np.nan], [np.inf, 1]], np.float32), 2, catalogue)
    assert index[:, 0].tolist() == [NO_ITEM, NO_ITEM]
    assert np.isnan(best[0, 0])
    assert np.isposinf(best[1, 0])


def test_variants_of_a_random_catalogue_agree_with_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        items = int(rng.integers(1, 30))
        names = [f"i{number}" for number in range(items)]
        groups = [None if rng.random() < 0.3 else f"g{rng.integers(0, 6)}" for _ in names]
        catalogue = Catalogue.build(names, names, variant_of=groups)
        scores = rng.integers(0, 5, (7, items)).astype(np.float32)
        scores[rng.random(scores.shape) < 0.2] = LOW
        expected = scores.copy()
        for row in expected:
            for group in {group for group in groups if group is not None}:
                members = [item for item in range(items) if groups[item] == group]
                best = max(members, key=lambda item: (row[item], -item))
                row[[item for item in members if item != best]] = LOW
        k = int(rng.integers(1, items + 2))
        for found, wanted in zip(top_k_things(scores, k, catalogue), top_k(expected, k), strict=True):
            np.testing.assert_array_equal(found, wanted)
        mask_variants(scores, catalogue)
        np.testing.assert_array_equal(scores, expected)


def test_an_item_has_a_score_only_while_it_is_available() -> None:
    names = list("abc")
    catalogue = replace(
        Catalogue.build(names, names, available=[True, True, False]),
        available_from=np.array([5, 0, 0]), available_until=np.array([9, 7, 99]),
    )  # fmt: skip
    scores = mask_unavailable(np.zeros((4, 3), dtype=np.float32), catalogue, np.array([4, 5, 7, 9]))
    assert np.isneginf(scores).tolist() == [
        [True, False, True], [False, False, True], [False, True, True], [True, True, True],
    ]  # fmt: skip
