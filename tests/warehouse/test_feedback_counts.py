"""Counts of feedback by person, item and day of arrival: who is counted, and what an erasure leaves."""

import threading

import pytest
import sqlalchemy as sa

from recsys.settings import Settings
from recsys.upkeep.erasure import erase_requested, request_erasure
from recsys.warehouse.analytics import refresh_analytics
from recsys.warehouse.feedback_counts import update_feedback_counts

SIX = [f"u{number}" for number in range(6)]


def write(engine: sa.Engine, statement: str, **values: object) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(statement), values)


def react(engine: sa.Engine, *people: str, item: str = "dune", value: float | None = None) -> None:
    write(
        engine,
        "INSERT INTO feedback (user_id, item_id, event_type, value)"
        " SELECT unnest(CAST(:people AS text[])), :item, 'rating', :value",
        people=list(people),
        item=item,
        value=value,
    )


def update(engine: sa.Engine, *, anew: bool = False) -> int:
    with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
        return update_feedback_counts(connection, anew=anew)


def item(engine: sa.Engine, name: str = "dune") -> tuple[object, ...] | None:
    with engine.connect() as connection:
        row = connection.execute(
            sa.text(
                "SELECT events, people, ratings, sum_of_ratings FROM feedback_by_item"
                " WHERE item_id = :name AND month IS NULL"
            ),
            {"name": name},
        ).one_or_none()
        return None if row is None else tuple(row)


def named(engine: sa.Engine, person: str) -> int:
    """In how many rows of the counts and their notes a person is named."""
    query = (
        "SELECT (SELECT count(*) FROM feedback_by_user WHERE user_id = :person)"
        " + (SELECT count(*) FROM changed_feedback WHERE user_id = :person)"
    )
    with engine.connect() as connection:
        return int(connection.execute(sa.text(query), {"person": person}).scalar_one())


@pytest.fixture
def shop(warehouse: sa.Engine) -> sa.Engine:
    """Six people have rated an item."""
    write(warehouse, "INSERT INTO items (item_id, title) VALUES ('dune', 'Dune'), ('emma', 'Emma')")
    write(warehouse, "INSERT INTO users (user_id) SELECT unnest(CAST(:people AS text[]))", people=SIX)
    react(warehouse, *SIX, value=4)
    assert update(warehouse) == 6
    return warehouse


def test_a_refresh_counts_people_with_new_or_changed_feedback_and_no_others(shop: sa.Engine) -> None:
    assert update(shop) == 0
    react(shop, "u1", "stranger")
    assert update(shop) == 2
    assert item(shop) == (8, 7, 6, 24)
    write(shop, "DELETE FROM feedback WHERE user_id IN ('u2', 'stranger')")
    assert update(shop) == 2
    assert item(shop) == (6, 5, 5, 20)
    assert named(shop, "stranger") == 0


def test_an_item_is_forgotten_with_its_last_event(shop: sa.Engine) -> None:
    react(shop, "u1", item="emma")
    update(shop)
    assert item(shop, "emma") == (1, 1, 0, 0)
    write(shop, "DELETE FROM feedback WHERE item_id = 'emma'")
    update(shop)
    assert item(shop, "emma") is None


def test_a_value_without_end_does_not_stay_in_the_sum(shop: sa.Engine) -> None:
    react(shop, "u1", value=float("inf"))
    react(shop, "u2", value=float("nan"))
    update(shop)
    write(shop, "DELETE FROM feedback WHERE value NOT BETWEEN 0 AND 5")
    update(shop)
    assert item(shop) == (6, 6, 6, 24)


def test_feedback_that_commits_after_the_refresh_is_counted_by_the_next(shop: sa.Engine) -> None:
    with shop.begin() as slow:
        slow.exec_driver_sql(
            "INSERT INTO feedback (user_id, item_id, event_type) VALUES ('u1', 'dune', 'view')"
        )
        react(shop, "u2", value=1)
        assert update(shop) == 1
        assert item(shop) == (7, 6, 7, 25)
    # The rows of u2 are as new as those of u1, by their transaction ids.
    assert update(shop) == 2
    assert item(shop) == (8, 6, 7, 25)


def test_of_two_refreshes_at_once_one_waits_and_both_are_right(shop: sa.Engine) -> None:
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    second = threading.Thread(target=lambda: update(shop))
    with shop.connect().execution_options(isolation_level="READ COMMITTED") as first:
        react(shop, "u1")
        update_feedback_counts(first)
        react(shop, "u1", "u2")
        second.start()
        with shop.connect() as observer:
            while second.is_alive() and not observer.scalar(waiting):
                observer.rollback()
        first.commit()
    second.join()
    assert item(shop) == (9, 6, 6, 24)


def test_a_refresh_that_is_killed_half_way_has_changed_nothing(shop: sa.Engine) -> None:
    react(shop, "u1", "u1", value=1)
    write(shop, "DELETE FROM feedback WHERE user_id = 'u2'")
    write(shop, "ALTER TABLE feedback_lag_by_day ADD CONSTRAINT power_cut CHECK (events < 7)")
    with pytest.raises(sa.exc.IntegrityError, match="power_cut"):
        update(shop)
    assert item(shop) == (6, 6, 6, 24)
    write(shop, "ALTER TABLE feedback_lag_by_day DROP CONSTRAINT power_cut")
    assert update(shop) == 2
    assert item(shop) == (7, 5, 7, 22)


def test_an_erasure_leaves_neither_counts_nor_notes_of_the_person(
    shop: sa.Engine, settings: Settings
) -> None:
    react(shop, "u1", item="emma")
    write(shop, "UPDATE feedback SET value = 3 WHERE user_id IN ('u1', 'u2')")
    assert named(shop, "u1") > 1
    request_erasure(shop, "u1")
    erase_requested(shop, settings.snapshots)
    assert named(shop, "u1") == 0
    assert item(shop) == (5, 5, 5, 20)
    assert update(shop) == 1
    assert item(shop) == (5, 5, 5, 19)


def test_everything_is_counted_anew_on_demand(shop: sa.Engine) -> None:
    write(shop, "UPDATE feedback_by_item SET events = 7")
    write(shop, "UPDATE feedback_by_user SET events = 7, item_events = '{7}' WHERE user_id = 'u1'")
    refresh_analytics(shop)
    assert item(shop) == (13, 6, 6, 24)
    refresh_analytics(shop, anew=True)
    assert item(shop) == (6, 6, 6, 24)
