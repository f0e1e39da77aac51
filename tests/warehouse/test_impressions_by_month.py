"""Impressions in partitions by month: the migration, writers, repeated ids, new months, old months."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count

import pytest
import sqlalchemy as sa

from recsys.local.postgres import PostgresServer
from recsys.settings import Settings
from recsys.upkeep.erasure import erase_requested, request_erasure
from recsys.warehouse.analytics import install_analytics
from recsys.warehouse.migrate import upgrade_warehouse
from recsys.warehouse.partitions import drop_old_impressions, ensure_ahead, ensure_months
from recsys.warehouse.roles import grant_roles
from recsys.warehouse.windows import open_window

INSERT = (
    "INSERT INTO impressions (impression_id, user_id, item_ids, shown_at)"
    " VALUES (:id, :user, '{i}', CAST(:at AS timestamptz))"
)
_numbers = count()


def write(engine: sa.Engine, statement: str, **values: object) -> int:
    with engine.begin() as connection:
        return int(connection.execute(sa.text(statement), values).rowcount)


def log(engine: sa.Engine, key: str, at: str, *, user: str = "ada", conflict: str = "") -> int:
    """Log a slate; return how many rows that added."""
    return write(engine, f"{INSERT} {conflict}", id=key, user=user, at=at)


def places(engine: sa.Engine) -> dict[str, str]:
    """The partition of each slate."""
    statement = "SELECT impression_id, tableoid::regclass::text FROM impressions ORDER BY 1"
    with engine.connect() as connection:
        return {
            key: place.removeprefix("partitions.impressions_")
            for key, place in connection.execute(sa.text(statement))
        }


def partitions(engine: sa.Engine) -> set[str]:
    names = sa.inspect(engine).get_table_names(schema="partitions")
    return {name.removeprefix("impressions_") for name in names if name.startswith("impressions_")}


def rows(engine: sa.Engine, statement: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


@pytest.fixture
def before(postgres: PostgresServer) -> Iterator[sa.Engine]:
    """A warehouse of the release before, with slates of three years and one of a clock that is ahead."""
    name = f"before_months_{next(_numbers)}"
    postgres.create_database(name)
    upgrade_warehouse(postgres.url(name), "0041")
    engine = sa.create_engine(postgres.url(name))
    with engine.begin() as connection:
        grant_roles(connection)
        connection.exec_driver_sql(
            """
            INSERT INTO impressions
                (impression_id, user_id, item_ids, propensities, placement, rules, shown_at)
            SELECT
                'slate' || n, 'ada', '{a,b}', '{1,0.5}', 'home', '{r,null}',
                now() - make_interval(months => n)
            FROM generate_series(0, 36) AS n;
            INSERT INTO impressions (impression_id, user_id, item_ids, shown_at)
            VALUES ('ahead', 'ada', '{a}', now() + interval '40 days'), ('never', 'ada', '{a}', 'infinity');
            CREATE ROLE chart_reader;
            GRANT SELECT (impression_id, shown_at) ON impressions TO chart_reader;
            CREATE VIEW shown_slates WITH (security_barrier = true) AS SELECT impression_id FROM impressions
            """
        )
    yield engine
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP OWNED BY chart_reader; DROP ROLE chart_reader")
    engine.dispose()


ALL = "SELECT impression_id, user_id, item_ids, propensities, placement, rules, shown_at, received_at"


def test_the_migration_keeps_rows_rights_and_views(before: sa.Engine) -> None:
    stored = rows(before, f"{ALL} FROM impressions ORDER BY 1")
    url = before.url.render_as_string(hide_password=False)
    upgrade_warehouse(url)
    assert rows(before, f"{ALL} FROM impressions ORDER BY 1") == stored
    now = datetime.now(UTC)
    old = f"before_{now.year + now.month // 12}_{now.month % 12 + 1:02d}"
    found = places(before)
    assert {found[f"slate{n}"] for n in range(37)} == {old}
    assert found["never"] == "default"
    assert found["ahead"] not in (old, "default")
    rights = "has_column_privilege('{}', 'impressions', '{}', '{}')"
    for role, column, right in (
        ("chart_reader", "shown_at", "SELECT"),
        ("recsys_writer", "rules", "INSERT"),
        ("recsys_writer", "session_id", "INSERT"),
        ("recsys_pipeline", "user_id", "UPDATE"),
    ):
        assert rows(before, f"SELECT {rights.format(role, column, right)}") == [(True,)]
    assert rows(before, f"SELECT {rights.format('chart_reader', 'user_id', 'SELECT')}") == [(False,)]
    log(before, "new", "now")
    assert rows(before, "SELECT impression_id FROM impressions WHERE transaction_id > 0") == [("new",)]
    assert ("new",) in rows(before, "SELECT impression_id FROM shown_slates")
    assert rows(before, "SELECT reloptions FROM pg_class WHERE relname = 'shown_slates'") == [
        (["security_barrier=true"],)
    ]
    assert install_analytics(before)


def test_the_migration_installs_the_views_of_slates_again(before: sa.Engine) -> None:
    write(
        before,
        "COMMENT ON SCHEMA analytics IS 'Definitions of the release before';"
        "CREATE MATERIALIZED VIEW analytics.click_through_by_model AS SELECT count(*) FROM impressions;"
        "CREATE VIEW analytics.click_through_by_slate AS"
        " SELECT user_id, count(*) FROM impressions GROUP BY impression_id",
    )
    upgrade_warehouse(before.url.render_as_string(hide_password=False))
    assert "click_through_by_model" in install_analytics(before)
    log(before, "new", "now")
    assert rows(before, "SELECT sum(slates) FROM analytics.click_through_by_slate") == [(None,)]


def test_a_view_of_somebody_else_that_would_go_blind_stops_the_migration(before: sa.Engine) -> None:
    write(before, "CREATE MATERIALIZED VIEW mine AS SELECT count(*) FROM impressions")
    with pytest.raises(sa.exc.DBAPIError, match="the materialised view mine reads impressions"):
        upgrade_warehouse(before.url.render_as_string(hide_password=False))
    assert len(places(before)) == 39


def test_writers_lose_nothing_during_the_migration(before: sa.Engine) -> None:
    stop = threading.Event()
    written: list[str] = []
    failures: list[BaseException] = []

    def keep_writing() -> None:
        try:
            for number in count():
                if stop.is_set():
                    return
                log(before, f"during {number}", "now")
                written.append(f"during {number}")
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        while len(written) < 20 and not failures:
            time.sleep(0.01)
        upgrade_warehouse(before.url.render_as_string(hide_password=False))
        done = len(written)
        while len(written) < done + 20 and not failures:
            time.sleep(0.01)
    finally:
        stop.set()
        writer.join()
    assert failures == []
    assert set(written) <= set(places(before))


def test_a_month_before_the_migration_gets_no_partition_of_its_own(before: sa.Engine) -> None:
    upgrade_warehouse(before.url.render_as_string(hide_password=False))
    known = partitions(before)
    ensure_months(before, [datetime(2020, 3, 1, tzinfo=UTC), datetime.now(UTC)], table="impressions")
    assert partitions(before) == known
    log(before, "late", "2020-03-04")
    assert places(before)["late"].startswith("before_")


def test_slates_of_before_the_migration_go_when_they_are_old(before: sa.Engine) -> None:
    upgrade_warehouse(before.url.render_as_string(hide_password=False))
    assert drop_old_impressions(before, 1) == 0  # the partition has not ended
    write(before, "UPDATE impressions SET shown_at = shown_at - interval '5 years' WHERE shown_at < now()")
    with before.begin() as connection:
        (name,) = [name for name in partitions(before) if name.startswith("before_")]
        connection.exec_driver_sql(
            f"ALTER TABLE impressions DETACH PARTITION partitions.impressions_{name};"
            f"ALTER TABLE partitions.impressions_{name} RENAME TO impressions_before_2024_01;"
            "ALTER TABLE impressions ATTACH PARTITION partitions.impressions_before_2024_01"
            " FOR VALUES FROM (MINVALUE) TO ('2024-01-01Z')"
        )
    assert drop_old_impressions(before, 1) == 37
    assert set(places(before)) == {"ahead", "never"}
    assert rows(before, "SELECT count(*), sum(rows) FROM dropped_impressions") == [(37, 37)]


def test_a_new_warehouse_has_months_from_the_start(warehouse: sa.Engine) -> None:
    now = datetime.now(UTC)
    assert f"{now:%Y_%m}" in partitions(warehouse)
    assert not any(name.startswith("before_") for name in partitions(warehouse))
    known = partitions(warehouse)
    assert ensure_ahead(warehouse, 8, table="impressions") == len(partitions(warehouse)) - len(known) > 0
    assert ensure_ahead(warehouse, 8, table="impressions") == 0


def test_a_month_takes_over_what_the_default_partition_holds(warehouse: sa.Engine) -> None:
    log(warehouse, "old", "1997-09-20")
    transaction = rows(warehouse, "SELECT transaction_id FROM impressions")
    assert places(warehouse) == {"old": "default"}
    ensure_months(warehouse, [datetime(1997, 9, 1, tzinfo=UTC)], table="impressions")
    assert places(warehouse) == {"old": "1997_09"}
    assert rows(warehouse, "SELECT transaction_id FROM impressions") == transaction


def test_a_slate_that_is_still_being_written_lies_at_or_above_the_bound_of_a_window(
    warehouse: sa.Engine,
) -> None:
    with warehouse.begin() as slow:
        slow.execute(sa.text(INSERT), {"id": "slow", "user": "ada", "at": "now"})
        log(warehouse, "fast", "now")
        upper = open_window(warehouse, "nightly", "1").upper_transaction_id
        assert (
            slow.scalar(sa.text("SELECT transaction_id FROM impressions WHERE impression_id = 'slow'"))
            >= upper
        )
    assert open_window(warehouse, "nightly", "2").upper_transaction_id > upper


@pytest.mark.parametrize(
    "again", ["2026-03-31 23:59:59Z", "2026-03-01Z", "2026-04-01 00:00:01Z", "2026-04-30Z"]
)
def test_an_impression_that_comes_again_changes_nothing(warehouse: sa.Engine, again: str) -> None:
    months = [datetime(2026, month, 1, tzinfo=UTC) for month in (3, 4)]
    ensure_months(warehouse, months, table="impressions")
    assert log(warehouse, "slate", "2026-03-31 23:59:59Z", conflict="ON CONFLICT DO NOTHING") == 1
    assert log(warehouse, "slate", again, user="bob", conflict="ON CONFLICT DO NOTHING") == 0
    assert rows(warehouse, "SELECT user_id FROM impressions") == [("ada",)]


def test_an_id_of_the_same_month_is_refused_without_on_conflict(warehouse: sa.Engine) -> None:
    log(warehouse, "slate", "now")
    with pytest.raises(sa.exc.IntegrityError, match="duplicate key"):
        log(warehouse, "slate", "now")


def test_a_session_that_fills_an_empty_month_reads_few_rows_for_each(warehouse: sa.Engine) -> None:
    with warehouse.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE) impressions")  # says that the months are empty
        connection.exec_driver_sql(
            "INSERT INTO impressions (impression_id, user_id, item_ids, shown_at)"
            " SELECT 'slate' || n, 'ada', '{i}', now() FROM generate_series(1, 1000) AS n"
        )
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
        connection.exec_driver_sql("SELECT")
        read = connection.exec_driver_sql(
            "SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE schemaname = 'partitions')"
            " + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE schemaname = 'partitions')"
        ).scalar_one()
    assert read < 10 * 1000


def test_of_two_that_send_the_same_slate_at_once_one_is_stored(warehouse: sa.Engine) -> None:
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    added: list[int] = []
    with warehouse.connect() as first:
        first.execute(sa.text(INSERT), {"id": "slate", "user": "ada", "at": "2026-03-31Z"})
        second = threading.Thread(
            target=lambda: added.append(
                log(warehouse, "slate", "2026-03-31 00:00:01Z", conflict="ON CONFLICT DO NOTHING")
            )
        )
        second.start()
        with warehouse.connect() as observer:
            while second.is_alive() and not observer.scalar(waiting):
                observer.rollback()
        first.commit()
        second.join()
    assert added == [0]
    assert len(places(warehouse)) == 1


def test_old_months_are_dropped_whole_and_counted(warehouse: sa.Engine) -> None:
    ensure_months(warehouse, [datetime(2024, month, 1, tzinfo=UTC) for month in (1, 2)], table="impressions")
    for key, at in (("a", "2024-01-01Z"), ("b", "2024-01-31 23:59Z"), ("c", "2024-02-01Z"), ("d", "now")):
        log(warehouse, key, at)
    now = datetime.now(UTC)
    months_since_february = 12 * (now.year - 2024) + now.month - 2
    assert drop_old_impressions(warehouse, months_since_february + 1) == 0
    assert drop_old_impressions(warehouse, months_since_february) == 2
    assert "2024_01" not in partitions(warehouse)
    assert "2024_02" in partitions(warehouse)
    log(warehouse, "late", "2024-01-02Z")
    ensure_months(warehouse, [datetime(2024, 1, 1, tzinfo=UTC)], table="impressions")
    assert drop_old_impressions(warehouse, months_since_february - 1) == 2
    assert set(places(warehouse)) == {"d"}
    assert rows(warehouse, "SELECT month::text, rows FROM dropped_impressions ORDER BY 1") == [
        ("2024-01-01", 3),
        ("2024-02-01", 1),
    ]


def test_a_reader_delays_a_drop_but_the_next_call_completes_it(warehouse: sa.Engine) -> None:
    ensure_months(warehouse, [datetime(2024, 1, 1, tzinfo=UTC)], table="impressions")
    log(warehouse, "a", "2024-01-01Z")
    with warehouse.connect() as reader:
        reader.execute(sa.text("SELECT count(*) FROM impressions"))
        with pytest.raises(Exception, match="another transaction held impressions"):
            drop_old_impressions(warehouse, 1, attempts=1)
    assert rows(warehouse, "SELECT count(*) FROM dropped_impressions") == [(0,)]
    assert drop_old_impressions(warehouse, 1) == 1


def test_an_erasure_finds_a_slate_that_moves_to_a_new_month(warehouse: sa.Engine, settings: Settings) -> None:
    write(warehouse, "INSERT INTO users (user_id) VALUES ('ada'), ('bob')")
    for key, at, user in (
        ("a", "1997-09-20", "ada"), ("b", "now", "ada"), ("c", "infinity", "ada"), ("d", "now", "bob"),
    ):  # fmt: skip
        log(warehouse, key, at, user=user)
    request_erasure(warehouse, "ada")
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    removed: list[int] = []
    with warehouse.connect() as maker:
        maker.execute(sa.text("SELECT ensure_impressions_partitions('1997-09-01', '1997-09-02')"))
        eraser = threading.Thread(
            target=lambda: removed.extend(
                receipt.rows_removed["impressions"]
                for receipt in erase_requested(warehouse, settings.snapshots)
            )
        )
        eraser.start()
        with warehouse.connect() as observer:
            while eraser.is_alive() and not observer.scalar(waiting):
                observer.rollback()
        maker.commit()
        eraser.join()
    assert removed == [3]
    assert set(places(warehouse)) == {"d"}
