"""The test for broken splits finds them, and may be looked at every day."""

import numpy as np

from recsys.experiments.mismatch import ALPHA, mismatch_p_value


def arrivals(share: float, users_a_day: int, days: int, seed: int) -> list[list[int]]:
    """Users of both arms until each day."""
    generator = np.random.default_rng(seed)
    counts = np.cumsum(generator.binomial(users_a_day, share, days))
    total = users_a_day * np.arange(1, days + 1)
    return np.stack([total - counts, counts], axis=1).tolist()


def least_p_value(share: float, seed: int) -> float:
    return min(mismatch_p_value(counts, [0.5, 0.5]) for counts in arrivals(share, 1_500, 28, seed))


def test_daily_looks_raise_no_more_false_alarms_than_allowed() -> None:
    alarms = sum(least_p_value(0.5, seed) <= ALPHA for seed in range(2_000))
    assert alarms <= 2_000 * ALPHA + 4 * np.sqrt(2_000 * ALPHA)


def test_a_split_of_52_to_48_is_found() -> None:
    assert sum(least_p_value(0.52, seed) <= ALPHA for seed in range(100)) >= 99


def test_three_arms_of_unequal_shares() -> None:
    assert mismatch_p_value([7_000, 2_000, 1_000], [0.7, 0.2, 0.1]) > 0.5
    assert mismatch_p_value([7_000, 1_600, 1_400], [0.7, 0.2, 0.1]) < ALPHA


def test_users_of_an_arm_that_nobody_was_assigned_to_are_a_mismatch() -> None:
    assert mismatch_p_value([500, 500, 1], [0.5, 0.5, 0.0]) == 0.0
    assert mismatch_p_value([500, 500, 0], [0.5, 0.5, 0.0]) == 1.0


def test_no_user_is_no_mismatch() -> None:
    assert mismatch_p_value([0, 0], [0.5, 0.5]) == 1.0
