import numpy as np

from recsys.model.fusion import (
    COLLABORATIVE,
    LIKING,
    NEURAL,
    Fusion,
    fit_fusion,
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


def test_a_few_cases_do_not_outweigh_the_default_weights() -> None:
    parts = {NEURAL: noisy(1.0)[:3], COLLABORATIVE: noisy(-3.0)[:3]}
    fusion, _ = fit_fusion(parts, TARGETS[:3], NOTHING[:3], USERS[:3])
    assert 0.02 < fusion.weights[COLLABORATIVE] < 0.4


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
