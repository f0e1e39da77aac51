from datetime import UTC, datetime

import numpy as np
import pytest
import sqlalchemy as sa

from recsys.evaluation.off_policy.slates import Greedy
from recsys.model.ranking import NO_ITEM
from recsys.simulation.reactions import Luck, simulate_reactions
from tests.simulation.logging_policy import PlackettLuce, show_slates

START = datetime(2026, 1, 1, tzinfo=UTC)


def _show(world, users, seed=0, **options):
    scores = world.preference(users).astype(np.float32)
    return show_slates(
        world, users, scores, PlackettLuce(temperature=0.5, pool=10),
        positions=4, model_version="7", start=START, generator=np.random.default_rng(seed), prefix="day0",
        **options,
    )  # fmt: skip


def test_the_click_rate_matches_the_true_expected_clicks(world):
    users = np.random.default_rng(1).integers(0, world.users, 4_000)
    log = _show(world, users)
    policy = PlackettLuce(0.5, 10).distribution(world.preference(users).astype(np.float32), 4)
    truth = world.expected_clicks(users, policy)
    clicks = log.clicks.sum(axis=1)
    assert clicks.mean() == pytest.approx(truth.mean(), abs=4 * clicks.std() / np.sqrt(len(users)))


def test_the_same_seed_gives_the_same_log(world):
    users = np.arange(50)
    first, again, other = _show(world, users), _show(world, users), _show(world, users, seed=1)
    assert first.impressions().equals(again.impressions())
    assert first.feedback().equals(again.feedback())
    assert not first.impressions().equals(other.impressions())


def test_only_clicked_items_are_rated_within_the_range_of_ratings(world):
    log = _show(world, np.repeat(np.arange(world.users), 3))
    rated = np.isfinite(log.ratings)
    assert rated.any()
    assert (log.clicks | ~rated).all()
    assert log.ratings[rated].min() >= 0.5
    assert log.ratings[rated].max() <= 5


def test_rows_load_into_a_warehouse(world, warehouse, tmp_path):
    with warehouse.begin() as connection:
        for table, column, ids in (
            ("users", "user_id", world.user_ids),
            ("items", "item_id", world.item_ids),
        ):
            rows = [{column: name} for name in ids]
            connection.execute(sa.text(f"INSERT INTO {table} ({column}) VALUES (:{column})"), rows)
    log = _show(world, np.arange(100))
    log.load(warehouse, tmp_path)
    with warehouse.connect() as connection:
        shown = connection.execute(
            sa.text("SELECT count(*), min(shown_at), count(DISTINCT model_version) FROM impressions")
        ).one()
        assert shown == (100, START, 1)
        clicks = connection.execute(
            sa.text(
                "SELECT count(*) FROM feedback JOIN impressions USING (impression_id)"
                " WHERE event_type = 'click' AND item_id = ANY (item_ids)"
                " AND feedback.user_id = impressions.user_id"
            )
        ).scalar_one()
    assert clicks == log.clicks.sum() > 0


def _react(world, users, slates, luck, **options):
    return simulate_reactions(
        world, users, np.asarray(slates, dtype=np.int32), np.ones(np.shape(slates)), luck,
        start=START, prefix="day1", **{"model_version": "7", **options},
    )  # fmt: skip


def test_click_probabilities_sum_to_the_policys_expected_clicks(world):
    users = np.arange(50)
    policy = Greedy().distribution(world.preference(users).astype(np.float32), 3)
    log = _react(world, users, policy.items, Luck.draw((50, 3), np.random.default_rng(0)))
    np.testing.assert_allclose(log.click_probabilities.sum(axis=1), world.expected_clicks(users, policy))


def test_an_item_has_the_same_luck_at_any_position(world):
    luck = Luck.draw((2, world.items), np.random.default_rng(0))
    here, there = luck.at(np.array([[4, 9], [1, NO_ITEM]])), luck.at(np.array([[9, 4], [0, 1]]))
    for part in ("click", "rate", "noise"):
        first, second = getattr(here, part), getattr(there, part)
        assert first[0].tolist() == second[0, ::-1].tolist()
        assert first[1, 0] == second[1, 1]


def test_a_log_can_hold_slates_of_several_versions(world):
    luck = Luck.draw((3, 1), np.random.default_rng(0))
    versions = np.array(["1", "2", "1"], dtype=object)
    rows = _react(world, np.arange(3), [[0], [1], [2]], luck, model_version=versions).impressions()
    assert rows["model_version"].to_pylist() == ["1", "2", "1"]


def test_an_empty_position_is_not_logged_and_not_clicked(world):
    luck = Luck(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((1, 2)))
    log = _react(world, np.array([0]), [[2, NO_ITEM]], luck)
    assert log.clicks.tolist() == [[True, False]]
    assert log.impressions()["item_ids"].to_pylist() == [[world.item_ids[2]]]
