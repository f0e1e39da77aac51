import itertools

import numpy as np
import pytest

from recsys.evaluation.off_policy.slates import Greedy, position_probabilities
from recsys.model.ranking import NO_ITEM
from tests.simulation.logging_policy import PlackettLuce


def _enumerated(rates, positions):
    """Return the probabilities by enumerating every slate."""
    result = np.zeros((*rates.shape, positions))
    for context, row in enumerate(rates):
        live = np.flatnonzero(row > 0)
        for slate in itertools.permutations(live, min(positions, len(live))):
            left = row.sum() - np.concatenate([[0], np.cumsum(row[list(slate)])[:-1]])
            chance = np.prod(row[list(slate)] / left)
            result[context, slate, np.arange(len(slate))] += chance
    return result


def test_position_probabilities_are_exact():
    rates = np.exp(np.random.default_rng(0).normal(0, 3, (5, 6)))
    rates[3, 4:] = 0
    np.testing.assert_allclose(position_probabilities(rates, 4), _enumerated(rates, 4), atol=1e-10)


def test_a_slate_as_long_as_the_pool_holds_every_item_once():
    rates = np.exp(np.random.default_rng(1).normal(0, 2, (3, 4)))
    np.testing.assert_allclose(position_probabilities(rates, 4), _enumerated(rates, 4), atol=1e-10)
    assert position_probabilities(rates, 4).sum(axis=2) == pytest.approx(np.ones((3, 4)))


def test_drawn_slates_are_as_frequent_as_their_propensities_say():
    policy = PlackettLuce(temperature=0.7, pool=5)
    scores = np.tile(np.float32([1.0, 0.5, 0.0, -0.5, 2.0, -np.inf]), (40_000, 1))
    slates, propensities = policy.draw(scores, 3, np.random.default_rng(2))
    for position in range(3):
        for item in range(5):
            here = slates[:, position] == item
            [expected] = np.unique(propensities[here, position])
            assert here.mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / 40_000))
    np.testing.assert_allclose(policy.distribution(scores[:9], 3).of(slates[:9]), propensities[:9])
    assert (slates != 5).all()


def test_fewer_items_than_positions_leave_empty_positions():
    slates, propensities = PlackettLuce(1.0, 5).draw(
        np.float32([[1, 2, -np.inf]]), 3, np.random.default_rng(0)
    )
    assert slates[0, 2] == NO_ITEM
    assert np.isnan(propensities[0, 2])


def test_a_greedy_policy_shows_each_rank_with_probability_1():
    policy = Greedy().distribution(np.float32([[0.1, 0.9, 0.5]]), 2)
    np.testing.assert_array_equal(policy.of(np.int32([[1, 2]])), [[1, 1]])
    np.testing.assert_array_equal(policy.of(np.int32([[2, 1]])), [[0, 0]])
    np.testing.assert_array_equal(policy.of(np.int32([[NO_ITEM, 2]])), [[0, 1]])


def test_the_mean_over_a_policy_is_the_mean_over_its_draws():
    scores = np.tile(np.float32([1, 0, 2, 0.5]), (20_000, 1))
    policy, values = PlackettLuce(1.0, 4), np.float64([[1, 10], [2, 20], [3, 30], [4, 40]])
    slates, _ = policy.draw(scores, 2, np.random.default_rng(3))
    drawn = np.stack([values[slates[:, 0], 0], values[slates[:, 1], 1]], axis=1).mean(axis=0)
    np.testing.assert_allclose(policy.distribution(scores[:1], 2).expected(values)[0], drawn, rtol=0.03)
