"""Functions, triggers, views and partitions that the migrations create."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psycopg2
import pytest
import sqlalchemy as sa

from recsys.warehouse.migrate import upgrade_warehouse
from recsys.warehouse.windows import load_window, open_window

LEDGER_ROW = """
INSERT INTO promotion_ledger (action, model_version, champion_sequence, reason, explanation, actor)
VALUES ('promote', '1', 1, 'first', 'There was no champion.', 'test')
"""


def run(engine: sa.Engine, statement: str, **parameters: object) -> sa.CursorResult[object]:
    with engine.begin() as connection:
        return connection.execute(sa.text(statement), parameters)


def scalar(engine: sa.Engine, statement: str) -> object:
    with engine.connect() as connection:
        return connection.scalar(sa.text(statement))


@pytest.mark.parametrize(
    "statement",
    ["UPDATE promotion_ledger SET reason = 'x'", "DELETE FROM promotion_ledger", "TRUNCATE promotion_ledger"],
)
def test_the_ledger_cannot_be_rewritten(warehouse: sa.Engine, statement: str) -> None:
    run(warehouse, LEDGER_ROW)
    with pytest.raises(sa.exc.IntegrityError, match="promotion_ledger is append-only"):
        run(warehouse, statement)
    assert scalar(warehouse, "SELECT reason FROM promotion_ledger") == "first"


def test_a_champion_sequence_is_unique(warehouse: sa.Engine) -> None:
    run(warehouse, LEDGER_ROW)
    with pytest.raises(sa.exc.IntegrityError):
        run(warehouse, LEDGER_ROW)


def test_recommendations_of_one_user_are_read_through_the_index_in_rank_order(warehouse: sa.Engine) -> None:
    run(
        warehouse,
        """
        INSERT INTO items (item_id) VALUES ('a'), ('b'), ('c');
        INSERT INTO publications (run_key, model_version, scope, users, items, through_transaction_id)
        VALUES ('r', '7', 'all', 1, 3, 0);
        INSERT INTO recommendation_lists (user_id, publication_id, model_version, item_ids, scores,
            propensities, reasons)
        SELECT 'u' || n, 1, '7', '{b,a,c}', '{0.9,0.8,0.7}', '{1,1,0.5}', '["because you liked x", "popular"]'
        FROM generate_series(1, 2000) AS n;
        ANALYZE recommendation_lists
        """,
    )
    query = "SELECT * FROM recommendations WHERE user_id = 'u7' ORDER BY rank"
    rows = run(warehouse, query).all()
    assert [(row.rank, row.item_id, row.reason) for row in rows] == [
        (1, "b", "because you liked x"),
        (2, "a", "popular"),
        (3, "c", None),
    ]
    assert rows[2].propensity == pytest.approx(0.5)
    plan = "\n".join(row[0] for row in run(warehouse, f"EXPLAIN {query}"))
    assert "Index Scan using recommendation_lists_pkey" in plan


def test_an_application_inserts_with_few_columns(warehouse: sa.Engine) -> None:
    run(warehouse, "INSERT INTO feedback (user_id, item_id, event_type) VALUES ('u', 'i', 'like')")
    row = run(warehouse, "SELECT *, clock_timestamp() - occurred_at AS age FROM feedback").one()
    assert row.event_id
    assert row.age.total_seconds() < 60
    assert row.transaction_id > 0


def test_the_same_event_cannot_be_inserted_twice_even_without_a_time(warehouse: sa.Engine) -> None:
    statement = """
        INSERT INTO feedback (event_id, user_id, item_id, event_type, occurred_at)
        VALUES ('e', 'u', 'i', 'like', NULL)
    """
    run(warehouse, statement)
    with pytest.raises(sa.exc.IntegrityError, match="duplicate key"):
        run(warehouse, statement)


@pytest.mark.parametrize(
    "insert",
    [
        "feedback (user_id, item_id, event_type) VALUES ('u', 'i', 'like')",
        "impressions (impression_id, user_id, item_ids, shown_at) VALUES ('s', 'u', '{i}', now())",
    ],
)
def test_the_transaction_id_default_is_inlined_into_the_insert(warehouse: sa.Engine, insert: str) -> None:
    plan = run(warehouse, f"EXPLAIN VERBOSE INSERT INTO {insert}")
    text = "\n".join(row[0] for row in plan)
    assert "pg_current_xact_id" in text
    assert "warehouse_transaction_id" not in text


def test_updated_at_of_an_item_changes_only_with_its_values(warehouse: sa.Engine) -> None:
    run(warehouse, "INSERT INTO items (item_id, title) VALUES ('i', 'a')")
    first = scalar(warehouse, "SELECT updated_at FROM items")
    run(warehouse, "UPDATE items SET title = 'a'")
    assert scalar(warehouse, "SELECT updated_at FROM items") == first
    run(warehouse, "UPDATE items SET title = 'b'")
    assert scalar(warehouse, "SELECT updated_at FROM items") > first  # type: ignore[operator]


def test_event_types_are_seeded_with_their_ranges(warehouse: sa.Engine) -> None:
    rows = {row.event_type: row for row in run(warehouse, "SELECT * FROM event_types")}
    assert set(rows) == {
        "rating", "like", "dislike", "comment", "view", "click", "purchase", "share", "dwell",
    }  # fmt: skip
    assert (rows["rating"].min_value, rows["rating"].max_value) == (0.5, 5)
    assert (rows["dislike"].polarity, rows["dislike"].weight) == (-1, 0)


def test_every_table_and_view_has_a_comment(warehouse: sa.Engine) -> None:
    silent = run(
        warehouse,
        """
        SELECT relname FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
          AND relname <> 'alembic_version' AND obj_description(oid, 'pg_class') IS NULL
        """,
    ).all()
    assert silent == []


def test_ids_and_windows_continue_after_a_dump_is_restored_into_a_new_cluster(warehouse: sa.Engine) -> None:
    # A restored dump has rows with ids far above those of this cluster.
    run(
        warehouse,
        """
        INSERT INTO feedback (user_id, item_id, event_type, transaction_id)
        VALUES ('u', 'i', 'like', 4000000000);
        INSERT INTO impressions (impression_id, user_id, item_ids, shown_at, transaction_id)
        VALUES ('s', 'u', '{i}', now(), 5000000000);
        INSERT INTO windows (consumer, run_key, lower_transaction_id, upper_transaction_id, arrived)
        VALUES ('nightly', 'before', 0, 4000000001, 1);
        """,
    )
    assert scalar(warehouse, "SELECT warehouse_horizon()") < 5_000_000_000  # type: ignore[operator]
    with warehouse.begin() as connection:
        connection.execute(sa.text("SELECT warehouse_rebase_transaction_ids()"))
    run(warehouse, "INSERT INTO feedback (user_id, item_id, event_type) VALUES ('u', 'i', 'view')")
    window = open_window(warehouse, "nightly", "after")
    assert window.lower_transaction_id == 4_000_000_001
    assert window.upper_transaction_id > 5_000_000_001
    assert window.arrived == 1
    with warehouse.begin() as connection:
        offset = connection.scalar(sa.text("SELECT warehouse_transaction_offset()"))
        assert connection.scalar(sa.text("SELECT warehouse_rebase_transaction_ids()")) == offset
    assert load_window(warehouse, window.window_id) == window


def test_partitions_are_made_once_and_take_over_rows_of_the_default_partition(warehouse: sa.Engine) -> None:
    for day in ("1997-09-20", "1997-10-01", "1998-04-22"):
        run(
            warehouse,
            "INSERT INTO feedback (event_id, user_id, item_id, event_type, occurred_at)"
            " VALUES (:day, 'u', 'i', 'like', CAST(:day AS timestamptz))",
            day=day,
        )
    before = run(warehouse, "SELECT * FROM feedback ORDER BY feedback_id").all()
    ensure = "SELECT ensure_feedback_partitions('1997-09-20', '1997-11-01')"
    with warehouse.begin() as connection:
        assert connection.scalar(sa.text(ensure)) == 3
        assert connection.scalar(sa.text(ensure)) == 0
    places = run(
        warehouse, "SELECT tableoid::regclass::text AS place FROM feedback ORDER BY feedback_id"
    ).all()
    assert [row.place for row in places] == [
        "partitions.feedback_1997_09",
        "partitions.feedback_1997_10",
        "partitions.feedback_default",
    ]
    assert run(warehouse, "SELECT * FROM feedback ORDER BY feedback_id").all() == before
    run(
        warehouse,
        "INSERT INTO feedback (user_id, item_id, event_type, occurred_at)"
        " VALUES ('u', 'i', 'like', '1997-09-30 23:59:59.999999+00')",
    )
    latest = run(warehouse, "SELECT feedback_id FROM feedback ORDER BY feedback_id DESC").first()
    assert latest is not None
    assert latest.feedback_id > before[-1].feedback_id


def test_creating_a_partition_does_not_block_writers_of_other_months(
    warehouse: sa.Engine, warehouse_url: str
) -> None:
    maker = psycopg2.connect(sa.make_url(warehouse_url).set(drivername="postgresql").render_as_string(False))
    try:
        with maker.cursor() as cursor:
            cursor.execute("SELECT ensure_feedback_partitions('1999-01-01', '1999-01-02')")
        run(
            warehouse,
            "SET LOCAL lock_timeout = '2s';"
            "INSERT INTO feedback (user_id, item_id, event_type) VALUES ('u', 'i', 'like')",
        )
    finally:
        maker.close()


def test_processes_that_create_the_same_partitions_wait_for_each_other(warehouse: sa.Engine) -> None:
    def ensure(_: int) -> int:
        with warehouse.begin() as connection:
            made = connection.scalar(sa.text("SELECT ensure_feedback_partitions('2001-01-01', '2001-03-31')"))
            return int(made or 0)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(ensure, range(4))) == [0, 0, 0, 3]


def test_upgrading_a_current_warehouse_changes_nothing(warehouse: sa.Engine, warehouse_url: str) -> None:
    run(warehouse, LEDGER_ROW)
    upgrade_warehouse(warehouse_url)
    assert scalar(warehouse, "SELECT count(*) FROM promotion_ledger") == 1
    assert datetime.now(UTC) > scalar(warehouse, "SELECT decided_at FROM promotion_ledger")  # type: ignore[operator]
