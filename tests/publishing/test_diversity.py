"""Maximal marginal relevance on lists that can be checked by hand."""

import numpy as np

from recsys.model.ranking import NO_ITEM
from recsys.publishing.diversity import diversify

# Items 0 and 1 have the same vector; item 2 is orthogonal to them.
VECTORS = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
ITEMS = np.array([[0, 1, 2]], dtype=np.int32)
SCORES = np.array([[1.0, 0.9, 0.5]], dtype=np.float32)


def test_a_duplicate_of_a_chosen_item_is_passed_over() -> None:
    items, scores = diversify(ITEMS, SCORES, VECTORS, k=2, diversity=0.5)
    assert items.tolist() == [[0, 2]]
    assert scores.tolist() == [[1.0, 0.5]]


def test_with_little_diversity_the_score_decides() -> None:
    assert diversify(ITEMS, SCORES, VECTORS, k=3, diversity=0.01)[0].tolist() == [[0, 1, 2]]


def test_positions_without_candidates_stay_empty() -> None:
    items = np.array([[2, NO_ITEM, NO_ITEM], [NO_ITEM] * 3], dtype=np.int32)
    scores = np.array([[0.3, -np.inf, -np.inf], [-np.inf] * 3], dtype=np.float32)
    found, best = diversify(items, scores, VECTORS, k=2, diversity=0.5)
    assert found.tolist() == [[2, NO_ITEM], [NO_ITEM, NO_ITEM]]
    assert np.isneginf(best[found == NO_ITEM]).all()


def test_equal_scores_do_not_divide_by_zero() -> None:
    items, _ = diversify(ITEMS, np.full_like(SCORES, 0.7), VECTORS, k=3, diversity=0.5)
    assert sorted(items[0].tolist()) == [0, 1, 2]
