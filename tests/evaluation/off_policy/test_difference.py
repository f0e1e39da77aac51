from datetime import UTC, datetime

import numpy as np
import pytest

from recsys.errors import OffPolicyError
from recsys.evaluation.off_policy.difference import estimate_difference
from recsys.evaluation.off_policy.estimators import LoggedSlates, estimate
from recsys.evaluation.off_policy.slates import Greedy, SlateDistribution
from recsys.simulation.world import WorldSettings, fit_world
from tests.simulation.conftest import made_ratings
from tests.simulation.logging_policy import PlackettLuce, show_slates

REWARDS = np.array([1.0, 0, 1, 0, 1, 0])
PROPENSITIES = np.array([0.5, 0.25, 0.25, 0.4, 0.3, 0.3])
FIRST = np.array([0.2, 0.5, 0.3, 0.2, 0.5, 0.3])
SECOND = np.array([0.5, 0.25, 0.25, 0.4, 0.3, 0.3])


def _difference(rewards, propensities, first, second, users=None, gained=None, lost=None, **options):
    shape = (len(rewards), -1)
    arrays = [np.asarray(part, dtype=float).reshape(shape) for part in (rewards, propensities, first, second)]
    users = np.arange(len(rewards)) if users is None else users
    shown = np.ones(arrays[0].shape, dtype=bool)
    pair = [LoggedSlates(arrays[0], arrays[1], target, users, shown) for target in arrays[2:]]
    half = np.full(arrays[0].shape, 0.5)
    return estimate_difference(
        *pair, half if gained is None else gained, half if lost is None else lost, **options
    )


def test_a_difference_equals_the_one_computed_by_hand():
    found = _difference(REWARDS, PROPENSITIES, FIRST, SECOND)
    weights = np.array([0.4, 2, 1.2, 0.5, 5 / 3, 1]) - 1
    baseline = (weights[0] ** 2 + weights[2] ** 2 + weights[4] ** 2) / (weights**2).sum()
    assert found.baselines == pytest.approx([baseline])
    earned = weights * (REWARDS - baseline)
    assert found.value == pytest.approx(earned.mean())
    amounts = np.abs(weights)
    assert found.effective_slates == pytest.approx(amounts.sum() ** 2 / (amounts**2).sum())
    spread = (earned - earned.mean()) ** 2
    assert found.effective_users == pytest.approx(spread.sum() ** 2 / (spread**2).sum())
    assert found.rewarded_users == 3


def test_the_baseline_leaves_less_variance_than_any_other():
    weights = np.array([0.4, 2, 1.2, 0.5, 5 / 3, 1]) - 1
    best = _difference(REWARDS, PROPENSITIES, FIRST, SECOND).baselines[0]

    def remaining(baseline):
        return ((weights * (REWARDS - baseline)) ** 2).sum()

    assert all(remaining(best) < remaining(best + step) for step in (-0.1, -0.01, 0.01, 0.1))


@pytest.fixture(scope="module")
def simulation():
    """Two models that share most of their noise; the champion's lists explore and are logged."""
    world = fit_world(made_ratings(1_500, 40, 15), WorldSettings(dim=4))
    users, generator = np.arange(world.users), np.random.default_rng(0)
    common = world.preference(users) + generator.normal(0, 0.5, (world.users, world.items))
    champion, candidate = (
        (common + generator.normal(0, 0.1, common.shape)).astype(np.float32) for _ in range(2)
    )
    logging = PlackettLuce(0.5, pool=10)
    pool = logging.distribution(champion, 3).items
    among = np.full_like(candidate, -np.inf)
    np.put_along_axis(among, pool, np.take_along_axis(candidate, pool, axis=1), axis=1)
    policies = [Greedy().distribution(scores, 3) for scores in (among, champion)]
    return world, champion, logging, policies


def _log(simulation, seed, slates, users=None):
    world, scores, logging, policies = simulation
    generator = np.random.default_rng(seed)
    users = generator.integers(0, world.users, slates) if users is None else users
    log = show_slates(
        world, users, scores[users], logging, positions=3, model_version="1",
        start=datetime(2026, 1, 1, tzinfo=UTC), generator=generator, prefix="log",
    )  # fmt: skip
    rewards, shown = log.clicks.astype(float), np.ones(log.clicks.shape, dtype=bool)
    judged = [SlateDistribution(policy.items[users], policy.probabilities[users]) for policy in policies]
    pair = [LoggedSlates(rewards, log.propensities, each.of(log.slates), users, shown) for each in judged]
    return pair, [judged[0].excess_over(judged[1]), judged[1].excess_over(judged[0])]


def _truth(simulation):
    world, _, _, policies = simulation
    users = np.arange(world.users)
    first, second = (world.expected_clicks(users, policy).mean() for policy in policies)
    return first - second


def test_intervals_cover_the_simulated_truth_as_often_as_they_say(simulation):
    truth = _truth(simulation)
    covered = 0
    for seed in range(200):
        pair, excess = _log(simulation, seed, 400)
        found = estimate_difference(*pair, *excess)
        covered += found.low <= truth <= found.high
    assert 0.90 <= covered / 200 <= 0.99


def test_the_interval_is_at_most_half_as_wide_as_those_of_both_policies_together(simulation):
    pair, excess = _log(simulation, 0, 6_000)
    found = estimate_difference(*pair, *excess)
    assert found.problem(1_000, 0.8) is None
    separate = [estimate(each) for each in pair]
    assert found.high - found.low < 0.5 * sum(each.high - each.low for each in separate)


def test_policies_that_show_the_same_differ_by_exactly_nothing():
    found = _difference(REWARDS, PROPENSITIES, FIRST, FIRST, gained=np.zeros((6, 1)), lost=np.zeros((6, 1)))
    assert (found.value, found.low, found.high, found.changed) == (0, 0, 0, 0)
    assert found.problem(1_000, 0.8) is None


def test_a_log_that_shows_nothing_of_what_differs_allows_no_conclusion():
    """Nine of ten positions are the same for both, and the log shows only what the champion shows."""
    positions = 10
    champion = np.ones((2_000, positions))
    candidate = champion.copy()
    candidate[:, -1] = 0
    changed = 1 - candidate
    rewards = (np.random.default_rng(0).random(champion.shape) < 0.3).astype(float)
    found = _difference(rewards, champion, candidate, champion, gained=changed, lost=changed)
    assert found.overlap == 0
    assert "can show 0% of what the policies show differently" in found.problem(10, 0.8)


def test_propensities_that_are_too_small_are_a_problem(simulation):
    pair, excess = _log(simulation, 0, 4_000)
    halved = [
        LoggedSlates(each.rewards, each.propensities / 2, each.targets, each.users, each.shown)
        for each in pair
    ]
    assert "not those of the policy" in estimate_difference(*halved, *excess).problem(10, 0.8)


def test_a_log_without_a_click_allows_no_conclusion(simulation):
    pair, excess = _log(simulation, 0, 4_000)
    silent = [
        LoggedSlates(np.zeros_like(each.rewards), each.propensities, each.targets, each.users, each.shown)
        for each in pair
    ]
    found = estimate_difference(*silent, *excess)
    assert found.rewarded_users == 0
    assert found.problem(10, 0.8) == "there is no reward where the policies differ"


@pytest.mark.parametrize("seed", range(5))
def test_one_user_with_half_of_all_clicks_decides_nothing(seed):
    """A bot clicks whatever only the candidate shows; everybody else likes both the same."""
    generator = np.random.default_rng(seed)
    candidate = generator.integers(0, 2, (6_000, 1)).astype(float)
    users = np.where(np.arange(6_000) < 600, 0, np.arange(6_000))
    clicks = (generator.random((6_000, 1)) < 0.05).astype(float)
    clicks[:600] = candidate[:600]
    half = np.full((6_000, 1), 0.5)
    found = _difference(clicks, half, candidate, 1 - candidate, users=users, gained=half * 2, lost=half * 2)
    assert found.value > 0.04
    assert found.low < 0
    assert found.effective_users < 5
    fair = _difference(clicks, half, candidate, 1 - candidate, gained=half * 2, lost=half * 2)
    assert fair.low > 0, "as slates of different people the same clicks are evidence"


@pytest.mark.parametrize("wrong", [0.0, np.nan])
def test_a_propensity_of_0_is_refused_with_its_place(wrong):
    with pytest.raises(OffPolicyError, match=r"propensities\[1, 0\]"):
        _difference(REWARDS, [0.5, wrong, 0.25, 0.4, 0.3, 0.3], FIRST, SECOND)


def test_too_few_users_give_a_value_without_interval():
    found = _difference(REWARDS, PROPENSITIES, FIRST, SECOND, users=np.array([0, 0, 0, 1, 1, 1]))
    assert np.isnan(found.low)
    assert "too few for an interval" in found.problem(1, 0)


def test_two_policies_are_compared_on_the_same_slates(simulation):
    (first, _), excess = _log(simulation, 0, 100)
    (_, other), _ = _log(simulation, 1, 100)
    with pytest.raises(OffPolicyError, match="same slates"):
        estimate_difference(first, other, *excess)


def test_what_a_policy_shows_more_often_is_its_excess():
    first = SlateDistribution(np.array([[1, 2]]), np.array([[[0.7, 0.3], [0.3, 0.7]]]))
    second = SlateDistribution(np.array([[2, 3, 1]]), np.array([[[0.5, 0.0], [0.3, 1.0], [0.2, 0.0]]]))
    assert first.excess_over(second) == pytest.approx(np.array([[0.5, 1.0]]))
    assert second.excess_over(first) == pytest.approx(np.array([[0.5, 1.0]]))
