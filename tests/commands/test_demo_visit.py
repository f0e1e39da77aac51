"""A visit in the demo's report: real lists and clicks that leave nothing behind."""

import pytest
import sqlalchemy as sa

from recsys.commands.demo_visit import Visit, try_visit
from recsys.serving.install import install_serving


@pytest.fixture
def catalogue(warehouse: sa.Engine) -> sa.Engine:
    """Ten items of two kinds, of which the popular ones alternate."""
    install_serving(warehouse)
    with warehouse.begin() as connection:
        connection.exec_driver_sql(
            "insert into items (item_id, title) select name, initcap(name)"
            " from generate_series(1, 5) as n, unnest(array['lamp ' || n, 'chair ' || n]) as name;"
            " insert into shared_lists (kind, item_ids, scores) values ('popular',"
            " array['lamp 1', 'chair 1', 'lamp 2', 'chair 2', 'lamp 3', 'chair 3', 'lamp 4', 'lamp 5'],"
            " array[8, 7, 6, 5, 4, 3, 2, 1]);"
            " insert into item_vectors (item_id, model_version, vector) select item_id, '1',"
            " (case when item_id like 'lamp%%' then '[1, 0.' else '[0, 1.' end || right(item_id, 1) || ']')"
            "::vector from items"
        )
    return warehouse


def test_three_clicks_change_what_a_visitor_sees_and_leave_nothing(catalogue: sa.Engine) -> None:
    visit = try_visit(catalogue)
    assert visit.before == ["Lamp 1", "Chair 1", "Lamp 2", "Chair 2", "Lamp 3"]
    assert visit.clicked == ["Lamp 1", "Lamp 2", "Lamp 3"]
    assert set(visit.after[:2]) == {"Lamp 4", "Lamp 5"}
    with catalogue.connect() as connection:
        assert connection.exec_driver_sql("select count(*) from feedback").scalar_one() == 0
    assert try_visit(catalogue) == visit


def test_without_items_there_is_no_visit(warehouse: sa.Engine) -> None:
    install_serving(warehouse)
    assert try_visit(warehouse) == Visit()
