import time

import numpy as np
import pytest

from recsys.evaluation.bootstrap import bootstrap_means, mean_intervals, paired_bootstrap


def test_an_interval_agrees_with_the_normal_one_on_many_users():
    values = np.random.default_rng(1).normal(0.3, 1.0, size=(2_000, 1))
    [interval] = mean_intervals(values, 4_000, 0.95)
    error = values.std() / np.sqrt(len(values))
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_pairing_sees_a_difference_that_is_small_beside_the_spread_of_users():
    generator = np.random.default_rng(2)
    champion = generator.normal(0, 1, 500)
    candidate = champion + 0.02 + generator.normal(0, 0.05, 500)
    interval = paired_bootstrap(candidate, champion, 2_000)
    assert interval.low > 0
    assert interval.difference == pytest.approx(0.02, abs=0.01)


def test_identical_scorers_differ_by_nothing():
    values = np.random.default_rng(3).random(50)
    interval = paired_bootstrap(values, values, 500)
    assert (interval.difference, interval.low, interval.high) == (0, 0, 0)


def test_intervals_cover_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(4)
    covered = 0
    for trial in range(300):
        interval = paired_bootstrap(generator.exponential(1, 80), np.zeros(80), 400, seed=trial)
        covered += interval.low <= 1 <= interval.high
    assert 0.88 <= covered / 300 <= 0.98


def test_the_same_seed_gives_the_same_means_whatever_the_columns():
    values = np.random.default_rng(5).random((40, 2))
    together = bootstrap_means(values, 100, seed=9)
    alone = bootstrap_means(values[:, 1:], 100, seed=9)
    assert np.allclose(together[:, 1:], alone)


def test_no_users_give_no_interval_and_nan_stays_nan():
    assert np.isnan(mean_intervals(np.zeros((0, 1)), 100, 0.95)[0].low)
    assert np.isnan(mean_intervals(np.array([[np.nan], [1.0]]), 100, 0.95)[0].high)


def test_unpaired_values_are_refused():
    with pytest.raises(ValueError, match="paired values"):
        paired_bootstrap([1.0, 2.0], [1.0])


def test_a_hundred_thousand_users_are_resampled_in_seconds():
    values = np.random.default_rng(6).random((100_000, 1))
    start = time.perf_counter()
    bootstrap_means(values, 500)
    # 10,000 resamples take twenty times as long: some five seconds on an idle core.
    assert time.perf_counter() - start < 3
