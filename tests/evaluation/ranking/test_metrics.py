import numpy as np
import pytest
import scipy.sparse

from recsys.errors import EvaluationError
from recsys.evaluation.ranking.metrics import (
    are_valid,
    case_metrics,
    diversity,
    gini,
    metric_names,
    novelty,
    ranks,
    require_shape,
    user_means,
)

LOWEST = -np.inf


def test_the_best_score_has_rank_one_and_masked_items_do_not_count():
    scores = np.array([[0.1, 0.9, LOWEST, 0.5], [0.1, 0.9, 0.8, 0.5]], dtype=np.float32)
    assert ranks(scores, np.array([1, 3], dtype=np.int32)).tolist() == [1, 3]


def test_ties_count_against_the_model():
    scores = np.zeros((1, 5), dtype=np.float32)
    assert ranks(scores, np.array([0], dtype=np.int32)).tolist() == [5]


def test_metrics_of_known_ranks():
    values = case_metrics(np.array([1, 2, 3]), k=2)
    assert values[:, 0].tolist() == pytest.approx([1.0, 1 / np.log2(3), 0.0])
    assert values[:, 1].tolist() == [1.0, 1.0, 0.0]
    assert values[:, 2].tolist() == pytest.approx([1.0, 1 / 2, 1 / 3])


def test_every_user_counts_once():
    users, cases, means = user_means(np.array([[1.0], [0.0], [0.0], [1.0]]), np.array([3, 3, 3, 5]))
    assert users.tolist() == [3, 5]
    assert cases.tolist() == [3, 1]
    assert means[:, 0].tolist() == pytest.approx([1 / 3, 1.0])


@pytest.mark.parametrize(
    ("values", "valid"),
    [
        ([1.0, LOWEST], True),
        ([1.0, np.nan], False),
        ([1.0, np.inf], False),
        ([np.inf, LOWEST], False),
        ([3e38, 3e38], True),
    ],
)
def test_only_nan_and_plus_infinity_are_invalid(values, valid):
    assert are_valid(np.array([values], dtype=np.float32)) is valid


def test_scores_of_another_catalogue_are_refused():
    with pytest.raises(EvaluationError, match="align the model with the snapshot's catalogue"):
        require_shape(np.zeros((2, 3), dtype=np.float32), 2, 4)


def test_average_precision_is_the_reciprocal_rank_within_the_list():
    metrics = case_metrics(np.array([1, 3, 11]), 10)
    column = metric_names(10).index("map_at_10")
    assert metrics[:, column] == pytest.approx([1, 1 / 3, 0])


def test_novelty_is_the_mean_self_information_of_the_shown_items():
    popularity = np.array([0.5, 0.25, 1.0])
    assert novelty(np.int32([[0, 1], [2, 2], [1, -1]]), popularity) == pytest.approx([1.5, 0, 2])


def test_diversity_is_the_mean_distance_between_two_items_of_a_list():
    features = scipy.sparse.csr_matrix([[1, 0], [0, 1], [np.sqrt(0.5), np.sqrt(0.5)]])
    lists = np.int32([[0, 1, -1], [0, 0, 0], [0, 1, 2], [1, -1, -1]])
    third = (1 + 2 * (1 - np.sqrt(0.5))) / 3
    assert diversity(lists, features) == pytest.approx([1, 0, third, 0])


def test_gini_is_0_for_equal_exposure_and_high_when_one_item_is_shown_alone():
    assert gini(np.array([5, 5, 5, 5])) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 9])) == pytest.approx(0.75)
    assert gini(np.array([1, 3])) == pytest.approx(0.25)
    assert np.isnan(gini(np.zeros(3, dtype=int)))
