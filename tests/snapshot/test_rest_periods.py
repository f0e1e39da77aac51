"""The rest period of an item: its own, or the shortest one of its attributes."""

import pytest
import sqlalchemy as sa

from recsys.publishing.histories import read_catalogue
from recsys.warehouse.roles import PIPELINE, WRITER, grant_roles


def test_the_rest_of_an_item_is_its_own_or_the_shortest_of_its_attributes(warehouse: sa.Engine) -> None:
    with warehouse.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO items (item_id, attributes, rest_days) VALUES"
            """ ('1', '{"aisle": "milk"}', 9), ('2', '{"aisle": ["milk", "cheap"]}', NULL),"""
            """ ('3', '{"aisle": "tools", "year": 1999}', NULL), ('4', '{}', NULL)"""
        )
        connection.exec_driver_sql(
            "INSERT INTO rest_periods VALUES"
            " ('aisle', 'milk', 5), ('aisle', 'cheap', 2), ('year', '1999', 70)"
        )
        grant_roles(connection)
        for role in (WRITER, PIPELINE):
            columns = "SELECT has_column_privilege(%s, 'items', 'rest_days', 'UPDATE')"
            assert connection.exec_driver_sql(columns, (role,)).scalar()
    with warehouse.connect() as connection:
        assert read_catalogue(connection).rest_days.tolist()[:3] == [9, 2, 70]
        assert str(read_catalogue(connection).rest_days[3]) == "nan"


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO rest_periods VALUES ('aisle', 'milk', -1)",
        "INSERT INTO items (item_id, rest_days) VALUES ('1', 'NaN')",
        "UPDATE event_types SET hide_days = -1 WHERE event_type = 'view'",
        "UPDATE event_types SET role = 'wish' WHERE event_type = 'view'",
        "UPDATE event_types SET typical_amount = 10 WHERE event_type = 'purchase'",
        "UPDATE event_types SET value_is_amount = true WHERE event_type = 'rating'",
    ],
)
def test_a_rest_or_an_amount_that_means_nothing_is_refused(warehouse: sa.Engine, statement: str) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="check"), warehouse.begin() as connection:
        connection.exec_driver_sql(statement)
