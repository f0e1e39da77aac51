import numpy as np
import pytest

from recsys.evaluation.liking import (
    area_under_curve,
    evaluate_liking,
    held_out_opinions,
    liking_quality,
    load_liking,
    save_liking,
)
from recsys.snapshot.sequences import microseconds


def test_the_area_under_the_curve_is_the_share_of_pairs_in_the_right_order():
    generator = np.random.default_rng(0)
    score, positive = np.round(generator.random(80), 1), generator.random(80) < 0.4
    pairs = score[positive][:, None] - score[~positive]
    assert area_under_curve(score, positive) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert area_under_curve(score, np.ones(80, dtype=bool)) is None


def test_calibrated_probabilities_have_almost_no_calibration_error():
    generator = np.random.default_rng(1)
    probability = generator.random(50_000)
    liked = generator.random(50_000) < probability
    calibrated, overconfident = liking_quality(probability, liked), liking_quality(probability**0.25, liked)
    assert calibrated.ece < 0.01
    assert overconfident.ece > 0.2
    assert overconfident.auc == pytest.approx(calibrated.auc)
    assert sum(calibrated.counts) == 50_000


def test_the_calibration_error_equals_the_one_computed_by_hand():
    found = liking_quality(np.array([0.05, 0.05, 0.95, 0.95]), np.array([False, True, True, True]))
    assert found.ece == pytest.approx((2 * 0.45 + 2 * 0.05) / 4)
    assert found.observed == pytest.approx([0.5, 1.0])


class _ByItem:
    """Likes item a, dislikes item b."""

    def __init__(self, logits):
        self.logits = np.asarray(logits)
        self.lengths = []

    def liking(self, histories, items):
        self.lengths += histories.lengths.tolist()
        return self.logits[items]


def test_likes_and_dislikes_are_predicted_from_earlier_events(make_sequences, catalogue, minute):
    rows = [
        ("ann", "c", 0, "like", "full"), ("ann", "a", 10, "like", "full"),
        ("ann", "b", 11, "dislike", "full"),
        ("bob", "c", 12, "view", "full"),
    ]  # fmt: skip
    sequences = make_sequences(rows, catalogue)
    sequences, opinions = held_out_opinions(sequences, microseconds(minute(10)))
    model = _ByItem([3.0, -3, 0, 0, 0, 0])
    found = evaluate_liking(model, sequences, opinions)
    assert (found.events, found.auc, found.liked_share) == (2, 1.0, 0.5)
    assert model.lengths == [1, 2]
    assert evaluate_liking(_ByItem([np.nan] * 6), sequences, opinions) is None
    assert evaluate_liking(model, sequences, opinions[:0]) is None


def test_results_survive_saving(tmp_path):
    found = {"candidate": liking_quality(np.array([0.2, 0.8]), np.array([False, True]))}
    save_liking(found, tmp_path)
    assert load_liking(tmp_path) == found
    assert load_liking(tmp_path / "nothing") == {}
