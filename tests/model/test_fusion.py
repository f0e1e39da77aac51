import numpy as np
import pytest

from recsys.model.fusion import (
    COLLABORATIVE,
    LIKING,
    NEURAL,
    SUCCESSION,
    Fusion,
    fit_fusion,
    ndcg_of_cases,
    ndcg_of_ranks,
    standardise,
    target_ranks,
)

RNG = np.random.default_rng(0)
CASES, ITEMS = 300, 40
TARGETS = RNG.integers(0, ITEMS, CASES)
USERS = np.array([f"user-{case // 3}" for case in range(CASES)], dtype=object)
NOTHING = np.zeros((CASES, ITEMS), dtype=bool)


def noisy(strength: float) -> np.ndarray:
    scores = RNG.normal(size=(CASES, ITEMS)).astype(np.float32)
    scores[np.arange(CASES), TARGETS] += strength
    return standardise(scores)


def test_an_informative_part_gets_weight_and_a_random_one_gets_little() -> None:
    parts = {NEURAL: noisy(1.0), COLLABORATIVE: noisy(1.0), LIKING: noisy(0.0)}
    fusion, ndcg = fit_fusion(parts, TARGETS, NOTHING, USERS)
    assert fusion.weights[COLLABORATIVE] > 0.4
    assert fusion.weights[LIKING] < 0.2
    alone = ndcg_of_ranks(target_ranks(parts[NEURAL], TARGETS, NOTHING), 10).mean()
    assert ndcg > alone + 0.05


def test_a_weight_is_never_fitted_below_its_floor() -> None:
    parts = {NEURAL: noisy(2.0), LIKING: noisy(-1.0)}
    fusion, _ = fit_fusion(parts, TARGETS, NOTHING, USERS, least={LIKING: 0.05})
    assert fusion.weights[LIKING] == 0.05


def test_an_optional_part_that_makes_the_ranking_worse_is_left_out_with_its_floor() -> None:
    parts, least = {NEURAL: noisy(2.0), COLLABORATIVE: noisy(-1.0)}, {COLLABORATIVE: 0.3}
    kept, worse = fit_fusion(parts, TARGETS, NOTHING, USERS, least=least)
    fusion, ndcg = fit_fusion(parts, TARGETS, NOTHING, USERS, least=least, least_gains={COLLABORATIVE: -1.0})
    assert kept.weights[COLLABORATIVE] == 0.3
    assert COLLABORATIVE not in fusion.weights
    assert ndcg > worse
    alone, _ = fit_fusion({NEURAL: parts[NEURAL]}, TARGETS, NOTHING, USERS)
    assert fusion.weights == alone.weights


def test_an_optional_part_that_makes_no_difference_beyond_chance_stays() -> None:
    neural = noisy(2.0)
    parts = {NEURAL: neural, COLLABORATIVE: neural.copy()}
    fusion, _ = fit_fusion(parts, TARGETS, NOTHING, USERS, least_gains={COLLABORATIVE: -1.0})
    assert fusion.weights[COLLABORATIVE] > 0


@pytest.mark.parametrize(("strength", "stays"), [(1.0, True), (0.0, False)])
def test_a_part_that_must_gain_stays_only_if_it_does(strength: float, stays: bool) -> None:
    parts = {NEURAL: noisy(1.0), SUCCESSION: noisy(strength)}
    fusion, _ = fit_fusion(parts, TARGETS, NOTHING, USERS, least_gains={SUCCESSION: 1.0})
    assert (SUCCESSION in fusion.weights) == stays


def test_a_few_cases_do_not_outweigh_the_default_weights() -> None:
    parts = {NEURAL: noisy(1.0)[:3], COLLABORATIVE: noisy(-3.0)[:3]}
    fusion, _ = fit_fusion(parts, TARGETS[:3], NOTHING[:3], USERS[:3])
    assert 0.02 < fusion.weights[COLLABORATIVE] < 0.4


def test_a_unit_of_a_score_that_says_little_is_worth_what_the_defaults_say_to_few_users() -> None:
    few = slice(0, 10)
    little, much = (
        fit_fusion({NEURAL: noisy(strength)[few]}, TARGETS[few], NOTHING[few], USERS[few])[0].unit
        for strength in (0.0, 1.0)
    )
    assert 0.3 < little < much


def test_excluded_items_do_not_affect_the_fitted_weights() -> None:
    parts = {NEURAL: noisy(1.0), COLLABORATIVE: noisy(1.0)}
    consumed = NOTHING.copy()
    consumed[:, :5] = TARGETS[:, None] != np.arange(5)[None, :]
    spoilt = {name: part.copy() for name, part in parts.items()}
    spoilt[COLLABORATIVE][consumed] = 50.0
    left_out, _ = fit_fusion(spoilt, TARGETS, consumed, USERS)
    clean, _ = fit_fusion(parts, TARGETS, consumed, USERS)
    assert left_out.weights[COLLABORATIVE] == clean.weights[COLLABORATIVE]


def test_an_unknown_item_is_average_not_worst() -> None:
    scores = np.array([[0.0, 1.0, 2.0, 0.0]], dtype=np.float32)
    known = np.array([True, True, True, False])
    assert standardise(scores, known)[0, 3] == 0
    assert standardise(scores, known)[0, 0] < 0


def test_constant_scores_carry_no_information() -> None:
    assert not standardise(np.ones((2, 5), dtype=np.float32)).any()
    assert target_ranks(np.ones((1, 5), dtype=np.float32), np.array([2]), NOTHING[:1, :5])[0] == 5


def test_excluded_items_do_not_count_in_ranks() -> None:
    scores = np.array([[5.0, 4.0, 3.0, 2.0]], dtype=np.float32)
    excluded = np.array([[True, False, False, False]])
    assert target_ranks(scores, np.array([2]), excluded)[0] == 2


def test_a_nan_score_ranks_last() -> None:
    scores = np.full((1, 4), np.nan, dtype=np.float32)
    assert target_ranks(scores, np.array([0]), NOTHING[:1, :4])[0] == 4


def test_absent_parts_count_as_zero() -> None:
    fusion = Fusion({NEURAL: 1.0, COLLABORATIVE: 0.5})
    assert (fusion.join({NEURAL: np.ones((1, 2), dtype=np.float32)}) == 1).all()


def test_a_case_with_many_targets_counts_as_much_as_one_with_a_single_target() -> None:
    """Ten cases want what the neural part likes; one wants twenty things that the other part likes."""
    rng = np.random.default_rng(1)
    parts = {name: rng.normal(size=(22, ITEMS)).astype(np.float32) for name in (NEURAL, COLLABORATIVE)}
    best = np.argsort(-parts[COLLABORATIVE][:2], axis=1)[:, :20]
    targets = np.concatenate([best.ravel(), parts[NEURAL][2:].argmax(axis=1)])
    case = np.concatenate([np.repeat([0, 1], 20), np.arange(2, 22)])
    one_user_each = np.array([f"user-{row}" for row in range(22)], dtype=object)
    nothing = np.zeros((22, ITEMS), dtype=bool)
    fusion, ndcg = fit_fusion(parts, targets, nothing, one_user_each, case=case, prior={NEURAL: 1.0})
    assert fusion.weights[COLLABORATIVE] < 0.3
    assert 0.8 < ndcg <= 1


def test_ndcg_of_a_case_counts_all_its_targets() -> None:
    ranks, case = np.array([1, 3, 2, 11]), np.array([0, 0, 1, 3])
    ideal = 1 + 1 / np.log2(3)
    expected = [(1 + 1 / 2) / ideal, 1 / np.log2(3), 0, 0]
    np.testing.assert_allclose(ndcg_of_cases(ranks, case, 4, 10), expected)
