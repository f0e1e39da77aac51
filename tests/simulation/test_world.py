import numpy as np
import pandas as pd
import pytest

from recsys.errors import SimulationError
from recsys.evaluation.off_policy.slates import Greedy
from recsys.simulation.world import WorldSettings, fit_world


def test_preferences_match_the_ratings(world):
    preference = world.preference(np.arange(world.users))
    kind = (np.arange(world.users)[:, None] + np.arange(world.items)) % 2 == 0
    assert preference[kind].mean() > preference[~kind].mean() + 0.8


def test_randomly_shown_items_are_clicked_at_the_configured_rate(world):
    clicks = world.click_probability(world.preference(np.arange(world.users)))
    assert clicks.mean() == pytest.approx(world.settings.click_rate, abs=0.005)


def test_lower_positions_are_examined_less(world):
    examined = world.examination(5)
    assert examined[0] == 1
    assert (np.diff(examined) < 0).all()


def test_the_best_items_have_the_highest_expected_clicks(world):
    users = np.arange(world.users)
    preference = world.preference(users).astype(np.float32)
    best = world.expected_clicks(users, Greedy().distribution(preference, 5))
    worst = world.expected_clicks(users, Greedy().distribution(-preference, 5))
    assert (best > worst).all()
    top = np.sort(world.click_probability(preference), axis=1)[:, ::-1][:, :5]
    np.testing.assert_allclose(best, (top * world.examination(5)).sum(axis=1), rtol=1e-5)


def test_interests_drift_and_keep_their_variance(ratings):
    start = fit_world(ratings, WorldSettings(dim=4, drift=0.1))
    generator, later = np.random.default_rng(0), start
    distance = []
    for _ in range(20):
        later = later.next_day(generator)
        distance.append(np.abs(later.interests - start.interests).mean())
    assert distance[0] < distance[5] < distance[-1]
    assert later.interests.std() == pytest.approx(start.interests.std(), rel=0.2)


def test_without_drift_a_day_changes_nothing(world):
    assert world.next_day(np.random.default_rng(0)) is world


def test_new_items_arrive_day_by_day(ratings):
    world = fit_world(ratings, WorldSettings(dim=4, new_item_share=0.5, days=10))
    there = [int(world.available(day).sum()) for day in range(11)]
    assert there[0] == 20
    assert there[-1] == 40
    assert np.diff(there).max() <= 2


def test_the_same_seed_gives_the_same_world(ratings):
    first, again = fit_world(ratings, seed=3), fit_world(ratings, seed=3)
    np.testing.assert_array_equal(first.preference(np.arange(5)), again.preference(np.arange(5)))


def test_ratings_that_cannot_be_fitted_are_an_error(ratings):
    with pytest.raises(SimulationError, match="'value'"):
        fit_world(ratings.drop(columns="value"))
    with pytest.raises(SimulationError, match="NaN"):
        fit_world(ratings.assign(value=np.nan))
    with pytest.raises(SimulationError, match="at least 3 users"):
        fit_world(pd.DataFrame({"user_id": ["a"], "item_id": ["b"], "value": [1.0]}))


def test_a_subset_of_users_keeps_its_preferences(world):
    some = np.array([3, 40])
    np.testing.assert_array_equal(world.of_users(some).preference(np.arange(2)), world.preference(some))
    assert world.of_users(some).user_ids.tolist() == world.user_ids[some].tolist()
