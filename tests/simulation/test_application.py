import numpy as np
import pytest
import sqlalchemy as sa

from recsys.catalogues.film_text import Film
from recsys.errors import SimulationError
from recsys.simulation.application import Application
from recsys.simulation.world import WorldSettings, fit_world
from recsys.warehouse.tables import items, users


@pytest.fixture
def world(ratings):
    return fit_world(ratings, WorldSettings(dim=4, new_item_share=0.1, days=2))


@pytest.fixture
def application(world, tmp_path):
    return Application(world, [Film(world.item_ids[0], "The Known", None, ())], tmp_path)


def _titles(warehouse: sa.Engine) -> dict[str, str]:
    with warehouse.connect() as connection:
        return {row.item_id: row.title for row in connection.execute(sa.select(items))}


def test_items_are_loaded_on_the_day_they_arrive(application, world, warehouse):
    for day in range(4):
        application.add_items(warehouse, day)
        assert set(_titles(warehouse)) == set(world.item_ids[world.available(day)])
    assert _titles(warehouse)[world.item_ids[0]] == "The Known"


def test_a_visitor_without_a_list_is_an_error_that_says_what_to_do(application, world, warehouse):
    application.register_users(warehouse)
    with warehouse.connect() as connection:
        assert set(connection.scalars(sa.select(users.c.user_id))) == set(world.user_ids)
    with pytest.raises(SimulationError, match=rf"for user {world.user_ids[3]} .*use more --items"):
        application.published(warehouse, np.array([3]), 10)
