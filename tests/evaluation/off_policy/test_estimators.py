from datetime import UTC, datetime

import numpy as np
import pytest

from recsys.errors import OffPolicyError
from recsys.evaluation.off_policy.diagnostics import diagnose
from recsys.evaluation.off_policy.estimators import (
    LoggedSlates,
    estimate,
    importance_weights,
)
from recsys.evaluation.off_policy.rewards import predict_rewards
from recsys.evaluation.off_policy.slates import Greedy, SlateDistribution
from recsys.simulation.world import WorldSettings, fit_world
from tests.simulation.conftest import made_ratings
from tests.simulation.logging_policy import PlackettLuce, show_slates

REWARDS = np.array([1.0, 0, 1, 0, 1, 0])
PROPENSITIES = np.array([0.5, 0.25, 0.25, 0.4, 0.3, 0.3])
TARGETS = np.array([0.2, 0.5, 0.3, 0.2, 0.5, 0.3])
PREDICTED = np.array([0.3, 0.1, 0.6, 0.3, 0.1, 0.6])
PREDICTED_TARGET = np.full(6, 0.2 * 0.3 + 0.5 * 0.1 + 0.3 * 0.6)


def _logged(positions=1, **changes):
    """Return six logged items, as six slates of one item or two slates of three."""
    parts = {
        "rewards": REWARDS, "propensities": PROPENSITIES, "targets": TARGETS,
        "predicted": PREDICTED, "predicted_target": PREDICTED_TARGET, "shown": np.ones(6, dtype=bool),
    } | changes  # fmt: skip
    shaped = {name: np.asarray(part).reshape(-1, positions) for name, part in parts.items()}
    return LoggedSlates(users=np.arange(6 // positions), **shaped)


# Recorded from obp 0.4.1 on these numbers, loaded as benchmarks/off_policy.py does: estimate_policy_value of
# InverseProbabilityWeighting, SelfNormalizedInverseProbabilityWeighting, DirectMethod, DoublyRobust and
# SelfNormalizedDoublyRobust, with three actions of probability .2, .5, .3 and predictions .3, .1, .6.
@pytest.mark.parametrize(
    ("method", "recorded"),
    [
        ("ips", 0.5444444444444444),
        ("snips", 0.4827586206896552),
        ("direct", 0.29),
        ("doubly_robust", 0.5083333333333333),
        ("self_normalised_doubly_robust", 0.4835960591133004),
    ],
)
def test_estimates_agree_with_those_of_another_package(method, recorded):
    assert estimate(_logged(), method).value == pytest.approx(recorded, abs=1e-12)


# SlateIndependentIPS of obp 0.4.1, two slates of three.
def test_the_estimate_for_whole_slates_agrees_with_that_of_another_package():
    assert estimate(_logged(3), "ips").value == pytest.approx(1.6333333333333333, abs=1e-12)


def test_an_estimate_equals_the_one_computed_by_hand():
    # Weights .4, 2, 1.2, .5, 5/3, 1: the rewarded ones are .4, 1.2 and 5/3.
    assert importance_weights(_logged())[:, 0] == pytest.approx([0.4, 2, 1.2, 0.5, 5 / 3, 1])
    assert estimate(_logged(), "ips").value == pytest.approx((0.4 + 1.2 + 5 / 3) / 6)
    assert estimate(_logged(), "ips", clip=1.0).value == pytest.approx((0.4 + 1 + 1) / 6)
    assert diagnose(_logged(), clip=1.0).clipped_share == pytest.approx(3 / 6)
    weights = np.array([0.4, 2, 1.2, 0.5, 5 / 3, 1])
    assert diagnose(_logged()).effective_slates == pytest.approx(weights.sum() ** 2 / (weights**2).sum())


def test_positions_without_an_item_do_not_count():
    shown = np.array([1, 1, 0, 1, 1, 0], dtype=bool)
    holes = {"propensities": np.where(shown, PROPENSITIES, np.nan), "rewards": np.where(shown, REWARDS, 9.0)}
    for method in ("ips", "snips", "doubly_robust", "self_normalised_doubly_robust"):
        short = _logged(3, shown=shown, **holes)
        part = LoggedSlates(
            users=np.arange(2),
            **{name: getattr(_logged(3), name)[:, :2] for name in (
                "rewards", "propensities", "targets", "predicted", "predicted_target", "shown"
            )},
        )  # fmt: skip
        assert estimate(short, method).value == pytest.approx(estimate(part, method).value)


def test_the_logging_policy_itself_is_worth_the_logged_rewards():
    same = _logged(targets=PROPENSITIES)
    assert estimate(same, "ips").value == pytest.approx(REWARDS.mean())
    assert diagnose(same).effective_slates == pytest.approx(6)


@pytest.mark.parametrize("wrong", [0.0, -0.1, 1.5, np.nan, np.inf])
def test_a_value_that_is_no_probability_is_refused_with_its_place(wrong):
    with pytest.raises(OffPolicyError, match=r"propensities\[2, 0\] is .* \(1 such values\)"):
        _logged(propensities=[0.5, 0.25, wrong, 0.4, 0.3, 0.3])


def test_shapes_unknown_names_and_missing_predictions_are_refused():
    with pytest.raises(OffPolicyError, match="at least one slate"):
        LoggedSlates(*[np.zeros((0, 3))] * 3, np.zeros(0, dtype=int), np.zeros((0, 3), dtype=bool))
    with pytest.raises(OffPolicyError, match="targets are"):
        LoggedSlates(np.zeros((2, 3)), np.ones((2, 3)), np.ones((2, 2)), np.arange(2), np.ones((2, 3), bool))
    with pytest.raises(OffPolicyError, match="no estimator 'magic'"):
        estimate(_logged(), "magic")
    with pytest.raises(OffPolicyError, match="above 0, not -1"):
        estimate(_logged(), clip=-1)
    bare = LoggedSlates(*[_logged().propensities] * 3, np.arange(6), np.ones((6, 1), dtype=bool))
    with pytest.raises(OffPolicyError, match="predicted rewards"):
        estimate(bare, "doubly_robust")


def test_slates_of_one_user_widen_the_interval():
    generator = np.random.default_rng(0)
    rewards = np.repeat(generator.random((50, 1)) < 0.5, 20, axis=0).astype(float)
    ones = np.ones_like(rewards)
    alone = LoggedSlates(rewards, ones, ones, np.arange(1_000), ones.astype(bool))
    grouped = LoggedSlates(rewards, ones, ones, np.repeat(np.arange(50), 20), ones.astype(bool))
    widths = [estimate(each).high - estimate(each).low for each in (alone, grouped)]
    assert widths[1] > 4 * widths[0]


def test_one_user_gives_a_value_without_interval():
    one = estimate(LoggedSlates(*[np.ones((3, 1))] * 3, np.zeros(3, dtype=int), np.ones((3, 1), dtype=bool)))
    assert one.value == 1
    assert np.isnan(one.low)


def test_a_deterministic_log_does_not_support_another_policy():
    ones = np.ones((500, 2))
    agrees = np.random.default_rng(0).random((500, 2)) < 0.4
    found = diagnose(LoggedSlates(ones, ones, agrees.astype(float), np.arange(500), ones.astype(bool)))
    assert found.support == pytest.approx(0.4, abs=0.1)
    assert found.deterministic_share == 1
    assert "explores nothing" in found.problem(min_effective_slates=10)


def test_propensities_that_are_too_small_are_a_problem():
    generator = np.random.default_rng(1)
    truth = np.full((2_000, 1), 0.5)
    logged = LoggedSlates(truth, truth / 2, truth, generator.permutation(2_000), np.ones((2_000, 1), bool))
    assert "not those of the policy" in diagnose(logged).problem(min_effective_slates=10)


def test_few_effective_slates_are_a_problem_by_themselves():
    assert "is needed" in diagnose(_logged()).problem(min_effective_slates=100)
    assert diagnose(_logged()).problem(min_effective_slates=2) is None


@pytest.fixture(scope="module")
def simulation():
    """A softmax over noisy scores logs; the targets are a sharper softmax over better scores, and greedy."""
    world = fit_world(made_ratings(1_500, 40, 15), WorldSettings(dim=4))
    users, generator = np.arange(world.users), np.random.default_rng(0)
    preference = world.preference(users)
    logged_by = (preference + generator.normal(0, 1, preference.shape)).astype(np.float32)
    better = (preference + generator.normal(0, 0.5, preference.shape)).astype(np.float32)
    logging = PlackettLuce(1.0, pool=6)
    pool = logging.distribution(logged_by, 3).items
    supported = np.full_like(better, -np.inf)
    np.put_along_axis(supported, pool, np.take_along_axis(better, pool, axis=1), axis=1)
    policies = {
        "softmax": PlackettLuce(0.5, pool=6).distribution(supported, 3),
        "greedy": Greedy().distribution(supported, 3),
    }
    return world, logged_by, logging, policies


def _log(simulation, seed, policies, slates=400):
    world, scores, logging, _ = simulation
    generator = np.random.default_rng(seed)
    users = generator.integers(0, world.users, slates)
    log = show_slates(
        world, users, scores[users], logging, positions=3, model_version="1",
        start=datetime(2026, 1, 1, tzinfo=UTC), generator=generator, prefix="log",
    )  # fmt: skip
    rewards, result = log.clicks.astype(float), []
    for policy in policies:
        judged = SlateDistribution(policy.items[users], policy.probabilities[users])
        predicted, target = predict_rewards(log.slates, rewards, users, judged, world.items)
        result.append(
            LoggedSlates(
                rewards, log.propensities, judged.of(log.slates), users, np.ones(rewards.shape, dtype=bool),
                predicted, target,
            )
        )  # fmt: skip
    return result


def test_intervals_cover_the_simulated_truth_as_often_as_they_say(simulation):
    world, _, _, policies = simulation
    users = np.arange(world.users)
    truth = {name: world.expected_clicks(users, policy).mean() for name, policy in policies.items()}
    methods = ("ips", "snips", "doubly_robust", "self_normalised_doubly_robust")
    covered = dict.fromkeys(((name, method) for name in policies for method in methods), 0)
    for seed in range(200):
        for name, logged in zip(policies, _log(simulation, seed, policies.values()), strict=True):
            for method in methods:
                found = estimate(logged, method)
                covered[name, method] += found.low <= truth[name] <= found.high
    shares = {key: count / 200 for key, count in covered.items()}
    assert all(0.90 <= share <= 0.99 for share in shares.values()), shares


def test_a_reward_model_and_clipping_both_narrow_the_interval(simulation):
    *_, policies = simulation
    [greedy] = _log(simulation, 0, [policies["greedy"]], slates=6_000)

    def width(method, clip=None):
        found = estimate(greedy, method, clip=clip)
        return found.high - found.low

    assert width("doubly_robust") < width("ips")
    assert width("ips", clip=5) < width("ips")
