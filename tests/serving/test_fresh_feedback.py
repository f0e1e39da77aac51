"""The small table of feedback that no list has read: always the same as feedback itself says."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.warehouse.roles import grant_roles
from recsys.warehouse.statements import read_statement
from tests.serving.conftest import Shop

POOL = [f"p-{number:02}" for number in range(30)]


@pytest.fixture
def published(shop: Shop) -> Shop:
    """Ada has a pool of 30."""
    shop.add_items(*POOL)
    shop.add_user("ada")
    shop.publish("ada", *POOL)
    return shop


def fresh(shop: Shop) -> list[tuple[str, str]]:
    return [
        (row["user_id"], row["item_id"])
        for row in shop.rows("select user_id, item_id from fresh_feedback order by feedback_id")
    ]


def test_old_history_that_is_loaded_does_not_fill_it(published: Shop) -> None:
    published.execute(
        "insert into feedback (user_id, item_id, event_type, occurred_at)"
        " select 'ada', 'p-' || n, 'view', now() - interval '16 days' from generate_series(1, 1000) as n"
    )
    published.react("ada", "view", "undated", occurred_at=None)
    published.react("ada", "view", "p-03")
    assert fresh(published) == [("ada", "p-03")]


def test_a_batch_and_a_file_are_noted_whole_and_what_is_refused_is_not(published: Shop) -> None:
    insert = (
        "insert into feedback (event_id, user_id, item_id, event_type, occurred_at)"
        " select 'e-' || n, 'ada', 'p-' || n, 'view', date_trunc('day', now())"
        " from generate_series(1, 300) as n on conflict do nothing"
    )
    published.execute(insert)
    published.execute(insert)
    assert len(fresh(published)) == 300


def test_what_leaves_feedback_no_longer_counts_and_what_comes_back_does(published: Shop) -> None:
    published.react("ada", "purchase", "p-00", "p-01")
    published.react("bob", "purchase", "p-00")
    published.execute("delete from feedback where user_id = 'ada' and item_id = 'p-00'")
    assert fresh(published) == [("ada", "p-01"), ("bob", "p-00")]
    assert published.shown("ada", k=2) == ["p-00", "p-02"]
    published.react("ada", "purchase", "p-00")
    assert published.shown("ada", k=2) == ["p-02", "p-03"]
    published.execute("truncate feedback")
    assert published.shown("ada", k=2) == ["p-00", "p-01"]


def test_after_a_login_the_user_has_what_the_visitor_did(published: Shop) -> None:
    published.react(None, "purchase", "p-00", session_id="s")
    with published.engine.connect() as writer:
        writer.execute(
            sa.text("insert into feedback (session_id, item_id, event_type) values ('s', 'p-01', 'purchase')")
        )
        published.execute("select join_session('s', 'ada')")  # does not wait for the writer
        writer.commit()
    assert fresh(published) == [("ada", "p-00"), ("visitor:s", "p-01")]
    assert published.shown("ada", k=1) == ["p-01"]
    published.execute(
        read_statement("warehouse/give_rows_to_users"),
        {"lower_transaction_id": 0, "upper_transaction_id": 2**62},
    )
    assert fresh(published) == [("ada", "p-00"), ("ada", "p-01")]
    assert published.shown("ada", k=1) == ["p-02"]


def test_a_login_gives_no_reaction_that_the_users_list_has_read(published: Shop) -> None:
    published.react(None, "view", "p-00", session_id="s")
    published.publish("ada", *POOL)
    published.execute("select join_session('s', 'ada')")
    assert published.recommend("ada")[0]["source"] == "personal"
    assert published.shown("ada", k=1) == ["p-00"]


def test_a_row_that_gets_another_transaction_id_counts_under_it(published: Shop) -> None:
    published.react("ada", "purchase", "p-00")
    published.publish("ada", *POOL)
    assert published.shown("ada", k=1) == ["p-00"]
    published.execute("update feedback set transaction_id = warehouse_transaction_id()")
    assert published.shown("ada", k=1) == ["p-01"]


def test_rows_that_move_to_another_partition_are_noted_once(published: Shop) -> None:
    ahead = datetime.now(UTC) + timedelta(days=200)
    published.react("ada", "view", "p-00", occurred_at=ahead)
    published.execute("select ensure_feedback_partitions(:at, :at)", {"at": ahead})
    assert fresh(published) == [("ada", "p-00")]


def test_writers_of_one_user_neither_wait_for_each_other_nor_lose_a_row(published: Shop) -> None:
    insert = sa.text("insert into feedback (user_id, item_id, event_type) values ('ada', :i, 'purchase')")
    with published.engine.connect() as one, published.engine.connect() as other:
        for connection in (one, other):
            connection.exec_driver_sql("set lock_timeout = '2s'")
        one.execute(insert, {"i": "p-00"})
        other.execute(insert, {"i": "p-01"})
        one.execute(insert, {"i": "p-02"})
        assert published.shown("ada", k=1) == ["p-00"]
        other.commit()
        one.commit()
    assert published.shown("ada", k=1) == ["p-03"]

    def write(number: int) -> None:
        published.react("ada", "view", *(f"p-{number}-{n}" for n in range(20)))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    assert len(set(fresh(published))) == 163


def test_applications_write_feedback_without_rights_on_the_notes(published: Shop) -> None:
    with published.engine.begin() as connection:
        grant_roles(connection)
    with published.engine.begin() as connection:
        connection.exec_driver_sql("set local role recsys_writer")
        connection.exec_driver_sql(
            "insert into feedback (user_id, item_id, event_type) values ('ada', 'p-00', 'purchase')"
        )
        for statement in (
            "select * from fresh_feedback",
            "insert into fresh_feedback values ('ada', 1, 1, 'p-09', 'purchase', null, now())",
            "delete from fresh_feedback",
            "select note_fresh_feedback()",
        ):
            with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), connection.begin_nested():
                connection.exec_driver_sql(statement)
    assert published.shown("ada", k=1) == ["p-01"]


def test_it_says_the_same_as_feedback_itself(published: Shop) -> None:
    published.execute(
        "insert into feedback (user_id, item_id, event_type, value, occurred_at)"
        " select 'ada', 'p-' || lpad((n % 30)::text, 2, '0'),"
        " (array['view', 'rating', 'purchase', 'dislike', 'unknown', 'dwell', 'comment'])[1 + n % 7],"
        " case n % 7 when 1 then n % 5 + 1 when 5 then n end, now() - make_interval(mins => n * n % 97)"
        " from generate_series(1, 80) as n"
    )
    [small] = published.rows("select * from serving.fresh_events('ada', 0, 50)")
    [all_] = published.rows("select * from serving.reactions_since('ada', 0, '-infinity', 50)")
    assert small == all_
    assert small["events"] == 50
    assert len(small["items"]) > 20


def test_a_reader_looks_at_no_partition_of_feedback(published: Shop) -> None:
    """Who reads a list waits for nobody who changes partitions."""
    published.react("ada", "purchase", "p-00")
    with published.engine.connect() as other:
        other.exec_driver_sql("lock table feedback in access exclusive mode")
        published.add_user("bob")
        published.publish("bob", *POOL)
        with published.engine.begin() as connection:
            connection.exec_driver_sql("set local lock_timeout = '2s'")
            rows: Any = connection.exec_driver_sql("select item_id from serving.recommend('bob', k => 1)")
            assert rows.scalars().all() == ["p-00"]
        other.rollback()


def test_housekeeping_forgets_what_is_too_old_to_count(published: Shop) -> None:
    published.react("ada", "purchase", "p-00", "p-01")
    published.execute(
        "update fresh_feedback set occurred_at = now() - interval '16 days' where item_id = 'p-00'"
    )
    published.execute(read_statement("upkeep/delete_old_fresh_feedback"))
    assert fresh(published) == [("ada", "p-01")]
