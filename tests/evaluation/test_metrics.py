import numpy as np
import pytest

from recsys.errors import EvaluationError
from recsys.evaluation.metrics import are_sound, case_metrics, ranks, require_shape, user_means

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


def test_a_user_counts_once_however_active():
    users, cases, means = user_means(np.array([[1.0], [0.0], [0.0], [1.0]]), np.array([3, 3, 3, 5]))
    assert users.tolist() == [3, 5]
    assert cases.tolist() == [3, 1]
    assert means[:, 0].tolist() == pytest.approx([1 / 3, 1.0])


@pytest.mark.parametrize(
    ("values", "sound"),
    [
        ([1.0, LOWEST], True),
        ([1.0, np.nan], False),
        ([1.0, np.inf], False),
        ([np.inf, LOWEST], False),
        ([3e38, 3e38], True),
    ],
)
def test_only_nan_and_plus_infinity_are_unsound(values, sound):
    assert are_sound(np.array([values], dtype=np.float32)) is sound


def test_scores_of_another_catalogue_are_refused():
    with pytest.raises(EvaluationError, match="align the model with the snapshot's catalogue"):
        require_shape(np.zeros((2, 3), dtype=np.float32), 2, 4)
