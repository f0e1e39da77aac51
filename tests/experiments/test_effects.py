"""Differences between arms: the user is the unit, and what users did before reduces the variance."""

import numpy as np
import pytest

from recsys.experiments.effects import METRICS, VARIABLES, Effect, Moments, compare_arms

SLATES, ANSWERED, CONVERSIONS, DISLIKES = range(4)


def people(users: int, click: float, seed: int, slates: float = 20.0) -> np.ndarray:
    """Counts of users who differ in how often they look and click, now and before, [users, variables]."""
    generator = np.random.default_rng(seed)
    often = generator.gamma(2.0, slates / 2, users)
    taste = generator.beta(2.0, 6.0, users)
    values = np.zeros((users, len(VARIABLES)))
    for first, factor in ((0, click), (4, 1.0)):
        values[:, first] = generator.poisson(often)
        values[:, first + 1] = generator.binomial(values[:, first].astype(int), np.minimum(taste * factor, 1))
    return values


def moments(*parts: np.ndarray) -> Moments:
    arm = Moments()
    for part in parts:
        arm.add(part)
    return arm


def compare(control: np.ndarray, challenger: np.ndarray, metric: str = "click_through") -> Effect:
    return compare_arms(METRICS[metric], moments(control), moments(challenger))


def test_a_true_difference_is_estimated_with_an_error_that_repetitions_confirm() -> None:
    effects = [compare(people(400, 1.0, 2 * n), people(400, 1.1, 2 * n + 1)) for n in range(300)]
    assert np.mean([effect.difference for effect in effects]) == pytest.approx(0.025, abs=0.002)
    observed = np.std([effect.difference for effect in effects])
    assert observed == pytest.approx(np.mean([effect.standard_error for effect in effects]), rel=0.15)


def test_what_users_did_before_reduces_the_variance() -> None:
    assert compare(people(4_000, 1.0, 1), people(4_000, 1.0, 2)).variance_ratio < 0.6


def test_without_a_time_before_the_difference_is_that_of_the_means() -> None:
    control, challenger = people(300, 1.0, 1), people(300, 1.3, 2)
    control[:, 4:] = challenger[:, 4:] = 0
    effect = compare(control, challenger, "slates")
    assert effect.variance_ratio == 1.0
    assert effect.difference == pytest.approx(challenger[:, SLATES].mean() - control[:, SLATES].mean())
    expected = np.sqrt(control[:, SLATES].var(ddof=1) / 300 + challenger[:, SLATES].var(ddof=1) / 300)
    assert effect.standard_error == pytest.approx(expected)


def test_one_user_with_many_clicks_is_one_observation() -> None:
    """Taken slate by slate, 5,000 clicks would look like overwhelming evidence."""
    control, challenger = people(300, 1.0, 1), people(300, 1.0, 2)
    challenger[0, :2] = 5_000
    effect = compare(control, challenger)
    assert effect.challenger > 1.5 * effect.control
    assert abs(effect.z) < 1.96


def test_moments_do_not_depend_on_how_users_are_divided() -> None:
    users = people(100, 1.0, 3)
    whole, parts = moments(users), moments(users[:30], users[30:30], users[30:])
    assert (whole.users, whole.sums.tolist()) == (parts.users, parts.sums.tolist())
    assert np.allclose(whole.products, parts.products)


def test_where_all_users_are_alike_the_difference_is_known() -> None:
    """Everybody has read one newsletter."""
    alike = np.zeros((50, len(VARIABLES)))
    alike[:, SLATES] = 1
    effect = compare(alike, alike, "slates")
    assert (effect.control, effect.difference, effect.standard_error) == (1.0, 0.0, 0.0)
    assert effect.information == 100


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("users", [0, 1, 50])
def test_where_nobody_does_anything_there_is_nothing_to_compare(metric: str, users: int) -> None:
    nothing = np.zeros((users, len(VARIABLES)))
    effect = compare(nothing, nothing, metric)
    assert (effect.standard_error, effect.z, effect.information) == (0.0, 0.0, 0.0)


def test_fewer_dislikes_are_better() -> None:
    control, challenger = people(500, 1.0, 1), people(500, 1.0, 2)
    control[:, DISLIKES] = np.arange(500) % 5
    challenger[:, DISLIKES] = np.arange(500) % 3
    assert compare(control, challenger, "dislikes").z > 1.96
