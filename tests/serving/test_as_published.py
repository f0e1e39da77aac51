"""Lists that are shown as they were published: only while nothing has changed that would make them wrong."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from recsys.serving.install import install_serving
from recsys.warehouse.roles import grant_roles
from tests.serving.conftest import Shop

POOL = [f"p-{number:02}" for number in range(30)]


@pytest.fixture
def published(shop: Shop) -> Shop:
    """Ada has a pool of 30."""
    shop.add_items(*POOL)
    shop.add_user("ada")
    shop.publish("ada", *POOL)
    return shop


def test_a_new_title_is_shown_at_once_in_the_list_and_beside_it(published: Shop) -> None:
    published.execute("update items set title = 'New' where item_id in ('p-00', 'p-25')")
    titles = [row["title"] for row in published.recommend("ada", k=30)]
    assert titles[0] == titles[25] == "New"
    assert published.recommend("ada", k=1)[0]["title"] == "New"


@pytest.mark.parametrize(
    "change",
    [
        "update items set available = false where item_id = 'p-00'",
        "update items set available_from = now() + interval '1 hour' where item_id = 'p-00'",
        "update items set available_until = now() - interval '1 hour' where item_id = 'p-00'",
        "delete from items where item_id = 'p-00'",
        "update items set item_id = 'p-99' where item_id = 'p-00'",
        "update recommendation_lists set available_until = now() - interval '1 second';"
        "alter table items disable trigger user;"
        "update items set available_until = now() - interval '1 second' where item_id = 'p-00';"
        "alter table items enable trigger user",
    ],
)
def test_what_may_no_longer_be_shown_leaves_the_list_at_once(published: Shop, change: str) -> None:
    with published.engine.begin() as connection:
        connection.exec_driver_sql(change)
    assert published.shown("ada", k=2) == ["p-01", "p-02"]


def test_nothing_of_an_emptied_catalogue_is_shown(published: Shop) -> None:
    published.execute("truncate items")
    assert published.shown("ada") == []


def test_items_that_become_variants_of_each_other_are_shown_once(published: Shop) -> None:
    published.execute("update items set variant_of = 'p-00' where item_id = 'p-01'")
    assert published.shown("ada", k=2) == ["p-00", "p-02"]


def test_a_list_without_titles_or_of_unequal_length_is_no_other_list(published: Shop) -> None:
    titled = published.recommend("ada", k=20)
    published.publish("ada", *POOL, titled=False)
    assert published.recommend("ada", k=20) == titled
    assert published.recommend("ada", k=21)[:20] == titled


def test_what_was_bought_since_an_old_publication_is_not_shown(published: Shop) -> None:
    now = datetime.now(UTC)
    published.execute("update recommendation_lists set published_at = :t", {"t": now - timedelta(days=40)})
    assert published.shown("ada", k=1) == ["p-00"]
    published.react("ada", "purchase", "p-00", occurred_at=now - timedelta(days=30))
    assert published.shown("ada", k=1) == ["p-01"]
    published.react("ada", "purchase", "p-01", occurred_at=now - timedelta(days=3))
    assert published.shown("ada", k=1) == ["p-02"]


def test_what_happened_hours_ahead_or_days_ago_by_its_clock_counts_at_once(published: Shop) -> None:
    now = datetime.now(UTC)
    published.react("ada", "purchase", "p-00", occurred_at=now + timedelta(hours=20))
    assert published.shown("ada", k=1) == ["p-01"]
    published.publish("ada", *POOL)
    assert published.shown("ada", k=1) == ["p-00"]
    published.react("ada", "purchase", "p-01", occurred_at=now - timedelta(days=6))
    assert published.shown("ada", k=2) == ["p-00", "p-02"]


def test_only_changes_that_concern_lists_are_noted(published: Shop) -> None:
    published.add_items("new")
    published.execute("update items set description = 'x', attributes = '{\"price\": 3}', title = title")
    assert published.rows("select * from item_changes") == []
    published.execute("update items set title = 'x' where item_id = 'p-03'")
    assert [row["item_id"] for row in published.rows("select * from item_changes")] == ["p-03"]


def test_a_change_that_the_publication_has_read_no_longer_counts(published: Shop) -> None:
    published.publish("ada", *POOL, list_=["p-01", "p-00"], propensities=[0.5, 0.5])
    published.execute("update items set title = 'Old' where item_id = 'p-07'")
    assert [row["propensity"] for row in published.recommend("ada", k=2)] == [None, None]
    published.publish("ada", *POOL, list_=["p-01", "p-00"], propensities=[0.5, 0.5])
    assert [row["propensity"] for row in published.recommend("ada", k=2)] == [0.5, 0.5]


def test_an_application_changes_items_without_rights_on_the_notes(published: Shop) -> None:
    with published.engine.begin() as connection:
        grant_roles(connection)
    with published.engine.begin() as connection:
        connection.exec_driver_sql("set local role recsys_writer")
        connection.exec_driver_sql("update items set available = false where item_id = 'p-00'")
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), connection.begin_nested():
            connection.exec_driver_sql("delete from item_changes")
    assert published.shown("ada", k=1) == ["p-01"]


def test_functions_of_an_earlier_release_are_dropped(published: Shop) -> None:
    published.execute("create function serving.choose() returns text return 'x'")
    install_serving(published.engine)
    names = {row["proname"] for row in published.rows(
        "select proname from pg_proc where pronamespace = 'serving'::regnamespace"
    )}  # fmt: skip
    assert "choose" not in names
    assert "recommend" in names
    assert published.shown("ada", k=1) == ["p-00"]
