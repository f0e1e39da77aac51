import time

import numpy as np
import pytest

from recsys.evaluation.bootstrap import (
    bootstrap_means,
    holm,
    mean_intervals,
    minimum_detectable,
    paired_bootstrap,
)


def test_an_interval_of_many_users_agrees_with_the_normal_approximation():
    values = np.random.default_rng(1).normal(0.3, 1.0, size=(2_000, 1))
    [interval] = mean_intervals(values, 4_000, 0.95)
    error = values.std() / np.sqrt(len(values))
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_pairing_finds_a_difference_much_smaller_than_the_spread_of_users():
    generator = np.random.default_rng(2)
    champion = generator.normal(0, 1, 500)
    candidate = champion + 0.02 + generator.normal(0, 0.05, 500)
    interval = paired_bootstrap(candidate, champion, 2_000)
    assert interval.low > 0
    assert interval.value == pytest.approx(0.02, abs=0.01)


def test_identical_scorers_have_a_difference_of_0():
    values = np.random.default_rng(3).random(50)
    interval = paired_bootstrap(values, values, 500)
    assert (interval.value, interval.low, interval.high) == (0, 0, 0)


def test_intervals_cover_the_truth_at_the_stated_rate():
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


def test_limits_are_nan_without_users_and_with_nan():
    assert np.isnan(mean_intervals(np.zeros((0, 1)), 100, 0.95)[0].low)
    assert np.isnan(mean_intervals(np.array([[np.nan], [1.0]]), 100, 0.95)[0].high)


def test_unpaired_values_are_refused():
    with pytest.raises(ValueError, match="paired values"):
        paired_bootstrap([1.0, 2.0], [1.0])


def test_a_hundred_thousand_users_are_resampled_in_seconds():
    values = np.random.default_rng(6).random((100_000, 1))
    start = time.process_time()
    bootstrap_means(values, 1_000)
    # 10,000 resamples take ten times as long. Processor time: other workers slow the clock.
    assert time.process_time() - start < 3


@pytest.mark.parametrize("users", [300, 5_000])
def test_users_are_drawn_within_their_stratum(users):
    generator = np.random.default_rng(7)
    strata = np.arange(users) % 3
    values = (10.0 * strata + generator.normal(0, 1, users))[:, None]
    free, stratified = bootstrap_means(values, 2_000), bootstrap_means(values, 2_000, strata=strata)
    assert free.std() == pytest.approx(values.std() / np.sqrt(users), rel=0.1)
    assert stratified.std() == pytest.approx(1 / np.sqrt(users), rel=0.15)
    assert stratified.mean() == pytest.approx(values.mean(), abs=0.02)


def test_poisson_resampling_agrees_with_drawing_users_one_by_one():
    values = np.random.default_rng(8).exponential(1, (501, 2))
    many, few = bootstrap_means(values, 4_000), bootstrap_means(values[:-1], 4_000)
    np.testing.assert_allclose(many.std(axis=0), few.std(axis=0), rtol=0.06)
    np.testing.assert_allclose(np.cov(many.T), np.cov(few.T), atol=2e-4)
    np.testing.assert_allclose(many.mean(axis=0), values.mean(axis=0), atol=5e-3)


def test_p_values_of_no_difference_are_uniform_and_of_a_difference_small():
    generator = np.random.default_rng(9)
    nothing = np.zeros(60)
    found = [paired_bootstrap(generator.normal(0, 1, 60), nothing, 400, seed=n).p_value for n in range(200)]
    assert 0.01 <= np.mean(np.array(found) < 0.05) <= 0.12
    assert 0.4 <= np.mean(np.array(found) < 0.5) <= 0.6
    better = generator.normal(0.1, 0.1, 60)
    assert paired_bootstrap(better, nothing, 999).p_value == pytest.approx(2 / 1_000)


def test_a_detectable_difference_is_found_with_the_stated_power():
    generator = np.random.default_rng(10)
    effect = float(minimum_detectable(np.float64(1 / np.sqrt(100)), 0.95))
    nothing = np.zeros(100)
    found = [
        paired_bootstrap(generator.normal(effect, 1, 100), nothing, 500, seed=n).low > 0 for n in range(300)
    ]
    assert 0.72 <= np.mean(found) <= 0.88
    one = paired_bootstrap(generator.normal(0, 1, 400), np.zeros(400))
    assert one.detectable == pytest.approx(effect / 2, rel=0.15)


def test_p_values_are_corrected_for_multiple_testing():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    np.testing.assert_allclose(holm([0.02, np.nan, 0.04]), [0.04, np.nan, 0.04])
    assert len(holm([])) == 0
