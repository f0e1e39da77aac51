from datetime import UTC, datetime

import numpy as np
import pytest
import sqlalchemy as sa

from recsys.evaluation.off_policy_slates import PlackettLuce
from recsys.simulation.slates import show_slates

START = datetime(2026, 1, 1, tzinfo=UTC)


def _show(world, users, seed=0, **options):
    scores = world.preference(users).astype(np.float32)
    return show_slates(
        world, users, scores, PlackettLuce(temperature=0.5, pool=10),
        positions=4, model_version="7", start=START, generator=np.random.default_rng(seed), prefix="day0",
        **options,
    )  # fmt: skip


def test_clicks_are_as_frequent_as_the_truth_says(world):
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


def test_rows_load_into_a_warehouse_as_an_applications_would(world, warehouse, tmp_path):
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
