"""What simulated users have had follows the definition that the real lists follow."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from recsys.simulation.off_lists import OffLists, read_event_types
from recsys.simulation.reactions import Luck, simulate_reactions
from recsys.warehouse.recipes import apply_recipe

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def _visit(world, off_lists, users, slates, start=START, every=HOUR, rate=False):
    """Let users click everything that is on their lists, and rate it if wanted."""
    shape = np.shape(slates)
    luck = Luck(np.zeros(shape), np.full(shape, 0.0 if rate else 1.0), np.zeros(shape))
    return simulate_reactions(
        world, np.asarray(users), np.asarray(slates, dtype=np.int32), np.ones(shape), luck,
        model_version="7", start=start, prefix="visit", every=every, off_lists=off_lists,
    )  # fmt: skip


def _service(warehouse, world, recipe=None, **hide_days):
    if recipe is not None:
        apply_recipe(warehouse, recipe)
    with warehouse.begin() as connection:
        for event_type, days in hide_days.items():
            connection.execute(
                sa.text("UPDATE event_types SET hide_days = :days WHERE event_type = :event_type"),
                {"days": days, "event_type": event_type},
            )
    return OffLists.of_nobody(read_event_types(warehouse), world.users, world.items)


def test_a_film_is_not_chosen_twice_in_a_visit_nor_a_year_later(world, warehouse):
    off_lists = _service(warehouse, world)
    log = _visit(world, off_lists, [0, 1, 0], [[3, 5], [3, 5], [3, 6]])
    assert log.clicks.tolist() == [[True, True], [True, True], [False, True]]
    assert log.click_probabilities[2, 0] == 0
    later = _visit(world, off_lists, [0, 2], [[3, 7], [3, 7]], START + timedelta(days=365))
    assert later.clicks.tolist() == [[False, True], [True, True]]


def test_a_music_service_may_have_a_track_chosen_again(world, warehouse):
    off_lists = _service(warehouse, world, "music")
    assert _visit(world, off_lists, [0, 0, 0], [[3], [3], [3]]).clicks.all()


def test_a_track_that_rests_is_chosen_again_after_its_rest(world, warehouse):
    off_lists = _service(warehouse, world, "music", click=1.5 / 24)
    log = _visit(world, off_lists, [0] * 5, [[3]] * 5)  # one an hour
    assert log.clicks[:, 0].tolist() == [True, False, True, False, True]


def test_a_rating_hides_for_longer_than_the_click_before_it(world, warehouse):
    off_lists = _service(warehouse, world, "video")
    assert _visit(world, off_lists, [0, 0], [[3], [3]]).clicks.all()
    _visit(world, off_lists, [0], [[4]], rate=True)
    assert not _visit(world, off_lists, [0], [[4]], START + timedelta(days=365)).clicks.any()


def test_policies_do_not_share_what_their_users_have_had(world, warehouse):
    original = _service(warehouse, world)
    copy = original.copy()
    _visit(world, copy, [0], [[3]])
    assert _visit(world, original, [0], [[3]]).clicks.all()


@pytest.mark.parametrize("users", [[], [4]])
def test_hours_without_a_second_visit(world, warehouse, users):
    off_lists = _service(warehouse, world)
    assert len(_visit(world, off_lists, np.array(users, dtype=np.int64), np.full((len(users), 2), 3))) == len(
        users
    )
