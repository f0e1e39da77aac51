"""Rights of each role, tested with real logins: what it can do and, above all, what it cannot."""

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.local.postgres import PostgresServer
from recsys.settings import Settings
from recsys.upkeep.erasure import erase_requested, request_erasure
from recsys.warehouse.analytics import install_analytics, refresh_analytics
from recsys.warehouse.engine import connect
from recsys.warehouse.ingest import ingest_file
from recsys.warehouse.migrate import upgrade_warehouse
from recsys.warehouse.partitions import ensure_ahead
from recsys.warehouse.roles import ANALYST, PIPELINE, WRITER, grant_roles
from recsys.warehouse.windows import open_window, reconcile_window

_logins = count()
PRIVATE = [
    "feedback",
    "feedback_by_user",
    "changed_feedback",
    "users",
    "impressions",
    "quarantine",
    "recommendation_lists",
    "recommendations",
    "user_vectors",
    "erasure_requests",
    "windows",
    "promotion_ledger",
]


def log_in(warehouse: sa.Engine, role: str, options: str = "") -> sa.Engine:
    """Return an engine with a new login that is a member of this role only."""
    name = f"login_{next(_logins)}"
    with warehouse.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN {options}")
        if role:
            connection.exec_driver_sql(f"GRANT {role} TO {name}")
    return sa.create_engine(warehouse.url.set(username=name))


def run(engine: sa.Engine, statement: str) -> sa.CursorResult[object]:
    with engine.begin() as connection:
        return connection.exec_driver_sql(statement)


def refused(engine: sa.Engine, statement: str) -> bool:
    try:
        run(engine, statement)
    except sa.exc.DBAPIError as error:
        return error.orig is not None and error.orig.pgcode == "42501"  # insufficient_privilege
    return False


def analytics_views(engine: sa.Engine) -> list[str]:
    found = run(
        engine,
        "SELECT relname FROM pg_class"
        " WHERE relnamespace = 'analytics'::regnamespace AND relkind IN ('v', 'm')",
    )
    return [row[0] for row in found]


def fill(engine: sa.Engine) -> sa.Engine:
    """Add rows to every private table."""
    run(
        engine,
        """
        INSERT INTO items (item_id, title) VALUES ('i', 'Dune'), ('j', 'Emma');
        INSERT INTO users (user_id) VALUES ('ada');
        INSERT INTO feedback (user_id, item_id, event_type, comment) VALUES ('ada', 'i', 'comment', 'secret');
        INSERT INTO publications (run_key, model_version, scope, users, items, through_transaction_id)
        VALUES ('p', '1', 'all', 1, 1, 0);
        INSERT INTO recommendation_lists
            (user_id, publication_id, model_version, item_ids, scores, propensities)
        SELECT 'ada', publication_id, '1', '{j}', '{1}', '{1}' FROM publications;
        """,
    )
    install_analytics(engine)
    return engine


@pytest.fixture
def shop(warehouse: sa.Engine) -> sa.Engine:
    """The owner's engine for the warehouse of one test."""
    return fill(warehouse)


@pytest.fixture(scope="module")
def roles(postgres: PostgresServer, warehouse_template: str) -> Iterator[dict[str, sa.Engine]]:
    """A login of each role on a shared warehouse. Tests only read there or are refused."""
    postgres.create_database("roles", template=warehouse_template)
    owner = fill(sa.create_engine(postgres.url("roles")))
    engines = {role: log_in(owner, role) for role in (WRITER, PIPELINE, ANALYST)}
    yield engines
    for engine in (owner, *engines.values()):
        engine.dispose()


def test_a_writer_adds_feedback_once_per_event_id(shop: sa.Engine) -> None:
    writer = log_in(shop, WRITER)
    event = """
        INSERT INTO feedback (event_id, user_id, item_id, event_type, occurred_at)
        VALUES ('order-1', 'ada', 'i', 'purchase', '2026-03-01T00:00Z') ON CONFLICT DO NOTHING
    """
    assert run(writer, event).rowcount == 1
    assert run(writer, event).rowcount == 0
    run(writer, "INSERT INTO feedback (user_id, item_id, event_type) VALUES ('ada', 'i', 'like')")
    rows = run(shop, "SELECT * FROM feedback ORDER BY feedback_id").all()
    assert [row.event_type for row in rows] == ["comment", "purchase", "like"]
    assert all(row.transaction_id > 0 and row.received_at and row.released_from is None for row in rows)


def test_a_writer_maintains_items_and_users_and_logs_slates(shop: sa.Engine) -> None:
    writer = log_in(shop, WRITER)
    run(
        writer,
        """
        INSERT INTO items (item_id, title) VALUES ('k', 'Ulysses') ON CONFLICT (item_id) DO UPDATE
            SET title = excluded.title;
        UPDATE items SET available = false WHERE item_id = 'i';
        INSERT INTO users (user_id, consent) VALUES ('bob', true) ON CONFLICT DO NOTHING;
        UPDATE users SET consent = false WHERE user_id = 'bob';
        INSERT INTO impressions (impression_id, user_id, item_ids, propensities, model_version, shown_at)
        VALUES ('s-1', 'bob', '{i,k}', '{1,1}', '1', now()) ON CONFLICT DO NOTHING;
        INSERT INTO erasure_requests (user_id) VALUES ('bob');
        """,
    )
    assert run(shop, "SELECT consent FROM users WHERE user_id = 'bob'").scalar() is False
    assert run(shop, "SELECT updated_at > created_at FROM items WHERE item_id = 'i'").scalar()
    assert run(shop, "SELECT count(*) FROM erasure_requests").scalar() == 1


def test_a_writer_reads_what_it_shows(roles: dict[str, sa.Engine]) -> None:
    writer = roles[WRITER]
    rows = run(writer, "SELECT item_id, title FROM recommendations JOIN items USING (item_id)").all()
    assert [tuple(row) for row in rows] == [("j", "Emma")]
    run(writer, "SELECT * FROM item_vectors")
    run(writer, "SELECT * FROM event_types")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM feedback",
        "SELECT comment FROM feedback",
        "UPDATE feedback SET value = 5",
        "DELETE FROM feedback",
        "TRUNCATE feedback",
        "SELECT * FROM partitions.feedback_default",
        "INSERT INTO partitions.feedback_default (user_id, item_id, event_type) VALUES ('u', 'i', 'like')",
        *(
            f"INSERT INTO feedback (user_id, item_id, event_type, {column}) {overriding}"
            f" VALUES ('ada', 'i', 'like', {value})"
            for column, value, overriding in [
                ("feedback_id", "7", "OVERRIDING SYSTEM VALUE"),
                ("transaction_id", "7", ""),
                ("received_at", "now()", ""),
                ("released_from", "7", ""),
            ]
        ),
        "SELECT * FROM impressions",
        "INSERT INTO impressions (impression_id, user_id, item_ids, shown_at, transaction_id)"
        " VALUES ('s', 'ada', '{i}', now(), 7)",
        "UPDATE impressions SET model_version = '2'",
        "SELECT user_key FROM users",
        "UPDATE users SET user_key = 'x'",
        "UPDATE users SET user_id = 'eve'",
        "DELETE FROM users",
        "DELETE FROM items",
        "UPDATE items SET item_id = 'x'",
        "SELECT * FROM erasure_requests",
        "SELECT * FROM quarantine",
        "SELECT * FROM user_vectors",
        "UPDATE recommendation_lists SET item_ids = '{x}'",
        "UPDATE event_types SET weight = 9",
        "SELECT * FROM windows",
        "INSERT INTO promotion_ledger (action, model_version, champion_sequence, reason, explanation, actor)"
        " VALUES ('promote', '9', 9, 'x', 'x', 'x')",
        "SELECT * FROM analytics.feedback_by_day",
        "SELECT warehouse_rebase_transaction_ids()",
        "SELECT ensure_feedback_partitions(now(), now())",
        "SELECT ensure_impressions_partitions(now(), now())",
        "SELECT drop_old_impressions(1)",
        "SELECT warehouse_grant_roles()",
        "CREATE TABLE mine (x int)",
        "CREATE FUNCTION public.warehouse_transaction_id(x int) RETURNS int RETURN 1",
        "CREATE SCHEMA mine",
        "CREATE ROLE friend",
        "SET ROLE recsys_pipeline",
    ],
)
def test_a_writer_cannot(roles: dict[str, sa.Engine], statement: str) -> None:
    assert refused(roles[WRITER], statement)


def test_an_analyst_reads_every_view_and_calls_every_function(shop: sa.Engine) -> None:
    analyst = log_in(shop, ANALYST)
    views = analytics_views(shop)
    assert len(views) >= 20
    for view in views:
        run(analyst, f"SELECT * FROM analytics.{view}")
    assert run(analyst, "SELECT analytics.champion_at(now())").scalar() is None
    assert run(analyst, "SELECT count(*) FROM analytics.cold_items").scalar() == 2


def test_an_analyst_reads_nothing_else(roles: dict[str, sa.Engine]) -> None:
    readable = run(
        roles[ANALYST],
        """
        SELECT pg_class.oid::regclass::text FROM pg_class
        WHERE relnamespace::regnamespace::text
            NOT IN ('pg_catalog', 'information_schema', 'analytics', 'pg_toast')
          AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
          AND CASE WHEN relkind = 'S' THEN has_sequence_privilege(oid, 'SELECT, USAGE, UPDATE')
              ELSE has_table_privilege(oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
                  OR has_any_column_privilege(oid, 'SELECT, INSERT, UPDATE, REFERENCES') END
        """,
    ).all()
    assert readable == []


@pytest.mark.parametrize(
    "statement",
    [
        *(f"SELECT * FROM {table}" for table in PRIVATE),
        "SELECT feedback FROM quarantine",
        "SELECT comment FROM partitions.feedback_default",
        "INSERT INTO feedback (user_id, item_id, event_type) VALUES ('ada', 'i', 'like')",
        "REFRESH MATERIALIZED VIEW analytics.item_popularity",
        "CREATE VIEW analytics.mine AS SELECT 1",
        "CREATE TABLE mine (x int)",
        "DROP VIEW analytics.feedback_by_day",
        "SELECT warehouse_rebase_transaction_ids()",
        "SELECT ensure_feedback_partitions(now(), now())",
        "SELECT ensure_impressions_partitions(now(), now())",
        "SELECT drop_old_impressions(1)",
        "COPY (SELECT 1) TO PROGRAM 'cat'",
        "SET ROLE recsys_writer",
    ],
)
def test_an_analyst_cannot(roles: dict[str, sa.Engine], statement: str) -> None:
    assert refused(roles[ANALYST], statement)


def test_no_view_shows_an_analyst_user_ids_or_comments(shop: sa.Engine) -> None:
    analyst = log_in(shop, ANALYST)
    run(
        shop,
        """
        INSERT INTO windows (consumer, run_key, lower_transaction_id, upper_transaction_id, arrived)
        VALUES ('nightly', 'a', 0, 10, 1);
        INSERT INTO quarantine (feedback_id, window_id, reasons, user_id, transaction_id, feedback)
        SELECT 99, window_id, '{unknown_item}', 'ada', 1, '{"user_id": "ada", "comment": "secret"}'
        FROM windows;
        INSERT INTO impressions (impression_id, user_id, query, item_ids, shown_at)
        VALUES ('of-ada', 'ada', 'secret', '{i}', now());
        """,
    )
    refresh_analytics(shop)
    for view in analytics_views(shop):
        text = str(run(analyst, f"SELECT * FROM analytics.{view}").all())
        assert "'ada'" not in text
        assert "of-ada" not in text
        assert "secret" not in text


def test_views_that_are_added_later_are_readable_immediately(shop: sa.Engine) -> None:
    analyst = log_in(shop, ANALYST)
    run(shop, "CREATE VIEW analytics.later AS SELECT 1 AS x; COMMENT ON SCHEMA analytics IS 'stale'")
    assert run(analyst, "SELECT x FROM analytics.later").scalar() == 1
    assert install_analytics(shop)  # creates the materialised views again
    run(analyst, "SELECT * FROM analytics.item_popularity")


def test_the_pipeline_does_its_work_without_owning_anything(
    shop: sa.Engine, settings: Settings, tmp_path: Path
) -> None:
    from recsys.snapshot.full import take_full_snapshot
    from recsys.validation.validate import validate_window

    pipeline, writer = log_in(shop, PIPELINE), log_in(shop, WRITER)
    file = tmp_path / "feedback.csv"
    file.write_text(
        "event_id,user_id,item_id,event_type,value,occurred_at\n"
        + "".join(
            f"e{n},user {n % 5},{'i' if n % 2 else 'j'},rating,{1 + n % 5},2026-03-01T10:{n:02}:00Z\n"
            for n in range(40)
        )
        + "bad,user 1,nothing,rating,3,2026-03-01T11:00:00Z\n"
    )
    assert ingest_file(pipeline, "feedback", file).inserted == 41
    window = open_window(pipeline, "nightly", "1")
    assert window.arrived == 42
    settings = settings.model_copy(update={"warehouse_url": None})
    report = validate_window(pipeline, window, settings, tmp_path / "docs")
    assert report.quarantined == 1
    assert reconcile_window(pipeline, window.window_id).balanced
    assert take_full_snapshot(pipeline, window, settings).rows == 41
    request_erasure(pipeline, "user 1")
    [receipt] = erase_requested(pipeline, settings.snapshots)
    assert receipt.rows_removed["feedback"] > 0
    assert ensure_ahead(pipeline, 9) > 0
    run(writer, "INSERT INTO feedback (user_id, item_id, event_type) VALUES ('ada', 'i', 'like')")
    with pipeline.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE feedback, users, items, quarantine")
    if int(run(pipeline, "SHOW server_version_num").scalar()) >= 170000:  # type: ignore[call-overload]
        assert refresh_analytics(pipeline)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE promotion_ledger SET reason = 'x'",
        "DELETE FROM promotion_ledger",
        "DELETE FROM publications",
        "DELETE FROM windows",
        "DELETE FROM erasure_requests",
        "DELETE FROM erased_feedback",
        "UPDATE event_types SET weight = 9",
        "TRUNCATE feedback",
        "DROP TABLE feedback",
        "ALTER TABLE feedback ADD COLUMN x int",
        "ALTER TABLE promotion_ledger DISABLE TRIGGER ALL",
        "SELECT warehouse_rebase_transaction_ids()",
        "SELECT warehouse_grant_roles()",
        "CREATE TABLE mine (x int)",
    ],
)
def test_the_pipeline_cannot(roles: dict[str, sa.Engine], statement: str) -> None:
    assert refused(roles[PIPELINE], statement)


def test_a_fake_table_of_the_caller_does_not_fool_a_security_definer_function(shop: sa.Engine) -> None:
    pipeline = log_in(shop, PIPELINE)
    with pipeline.begin() as connection:
        connection.exec_driver_sql("CREATE TEMPORARY TABLE feedback (x int)")
        connection.exec_driver_sql("SET search_path = pg_temp, public")
        made = connection.exec_driver_sql("SELECT ensure_feedback_partitions('1980-05-01', '1980-05-02')")
        assert made.scalar() == 1
    parent = run(
        shop,
        "SELECT inhparent::regclass::text FROM pg_inherits"
        " WHERE inhrelid = 'partitions.feedback_1980_05'::regclass",
    )
    assert parent.scalar() == "feedback"


def test_databases_of_one_cluster_migrate_at_once(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "data", settings={"fsync": "off"})
    server.start()
    migrate = (
        "import sys; from recsys.warehouse.migrate import upgrade_warehouse; upgrade_warehouse(sys.argv[1])"
    )
    try:
        for name in "ab":
            server.create_database(name)
        processes = [
            subprocess.Popen([sys.executable, "-c", migrate, server.url(name)], stderr=subprocess.PIPE)
            for name in "ab"
        ]
        for process in processes:
            _, errors = process.communicate()
            assert process.returncode == 0, errors.decode()
        for name in "ab":
            engine = sa.create_engine(server.url(name))
            with engine.begin() as connection:
                assert grant_roles(connection) == []
            engine.dispose()
    finally:
        server.stop()


def test_migration_waits_for_a_role_that_another_database_is_creating(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "data", settings={"fsync": "off"})
    server.start()
    try:
        server.create_database("a")
        upgrade_warehouse(server.url("a"))
        engine = sa.create_engine(server.url("a"))
        run(engine, f"DROP OWNED BY {WRITER}; DROP ROLE {WRITER}")
        elsewhere = sa.create_engine(server.url("postgres"))
        with ThreadPoolExecutor(1) as pool, elsewhere.connect() as other:
            other.exec_driver_sql(f"CREATE ROLE {WRITER} NOLOGIN")
            granting = pool.submit(install_analytics, engine)
            with pytest.raises(TimeoutError):
                granting.result(timeout=0.5)
            other.commit()
            granting.result(timeout=30)
        assert run(engine, f"SELECT has_table_privilege('{WRITER}', 'recommendations', 'SELECT')").scalar()
        elsewhere.dispose()
        engine.dispose()
    finally:
        server.stop()


def test_an_owner_who_may_not_create_roles_can_migrate_and_sees_which_are_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = PostgresServer(tmp_path / "data", settings={"fsync": "off"})
    server.start()
    try:
        root = sa.create_engine(server.url("postgres"), isolation_level="AUTOCOMMIT")
        run(root, "CREATE ROLE owner LOGIN")
        with root.connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE shop OWNER owner")
        extension = sa.create_engine(server.url("shop"))
        run(extension, "CREATE EXTENSION vector")
        owner = sa.create_engine(sa.make_url(server.url("shop")).set(username="owner"))
        upgrade_warehouse(owner.url.render_as_string(hide_password=False))
        install_analytics(owner)
        assert "recsys_writer, recsys_pipeline, recsys_analyst, recsys_page" in caplog.text
        assert "CREATE ROLE recsys_writer NOLOGIN" in caplog.text
        assert run(owner, "SELECT version_num FROM alembic_version").scalar()
        # An administrator creates one of them; the next `recsys migrate` grants its rights.
        run(root, f"CREATE ROLE {ANALYST} NOLOGIN")
        install_analytics(owner)
        analyst = log_in(extension, ANALYST)
        run(analyst, "SELECT * FROM analytics.user_activity")
        assert refused(analyst, "SELECT * FROM feedback")
        for engine in (root, extension, owner, analyst):
            engine.dispose()
    finally:
        server.stop()


LOCKS = ("pg_advisory_lock(1)", "pg_advisory_xact_lock(1)", "pg_try_advisory_lock(1, 2)")


@pytest.mark.parametrize("take", LOCKS)
def test_only_the_pipeline_takes_advisory_locks(shop: sa.Engine, take: str) -> None:
    for role in (ANALYST, WRITER, ""):
        assert refused(log_in(shop, role), f"SELECT {take}")
    assert not refused(log_in(shop, PIPELINE), f"SELECT {take}")


def test_sessions_that_idle_in_a_transaction_end_but_not_those_of_the_pipeline(shop: sa.Engine) -> None:
    show = "SHOW idle_in_transaction_session_timeout"
    for role in (ANALYST, WRITER, ""):
        assert run(log_in(shop, role), show).scalar() == "10min"
    pipeline = connect(log_in(shop, PIPELINE).url.render_as_string(hide_password=False))
    assert run(pipeline, show).scalar() == "0"
    pipeline.dispose()


def test_a_time_out_that_the_administrator_set_stays(shop: sa.Engine) -> None:
    limit = "idle_in_transaction_session_timeout"
    run(shop, f"ALTER DATABASE {shop.url.database} SET {limit} = '1h'")
    with shop.begin() as connection:
        grant_roles(connection)
    assert run(log_in(shop, ANALYST), f"SHOW {limit}").scalar() == "1h"


def test_the_pipeline_may_remember_who_was_erased_after_a_restore_and_nobody_else_may(
    shop: sa.Engine,
) -> None:
    run(shop, "REVOKE ALL ON erased_users FROM recsys_pipeline")  # a dump contains no grants
    with shop.begin() as connection:
        grant_roles(connection)
    pipeline = log_in(shop, PIPELINE)
    run(pipeline, "INSERT INTO erased_users VALUES ('t', 'k')")
    run(pipeline, "DELETE FROM erased_users")
    for role in (WRITER, ANALYST):
        assert refused(log_in(shop, role), "SELECT * FROM erased_users")


def test_the_documented_statement_limits_analysts_and_nobody_else(shop: sa.Engine) -> None:
    documented = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    (query,) = [
        block for block in re.findall(r"```sql\n(.*?)```", documented, re.DOTALL) if "\\gexec" in block
    ]
    analyst, pipeline = log_in(shop, ANALYST), log_in(shop, PIPELINE)
    with shop.begin() as connection:
        no_parameters = connection.execution_options(no_parameters=True)
        for statement in no_parameters.exec_driver_sql(query.replace("\\gexec", "")).scalars().all():
            no_parameters.exec_driver_sql(statement)
    assert run(analyst, "SHOW statement_timeout").scalar() == "15min"
    for other in (pipeline, shop):
        assert run(other, "SHOW statement_timeout").scalar() == "0"


def test_only_the_pipeline_records_the_digests_of_models_also_after_a_restore(shop: sa.Engine) -> None:
    run(shop, "REVOKE ALL ON model_files FROM recsys_pipeline")
    with shop.begin() as connection:
        grant_roles(connection)
    pipeline = log_in(shop, PIPELINE)
    run(pipeline, "INSERT INTO model_files (model_id, files) VALUES ('m', '{}')")
    run(pipeline, "UPDATE model_files SET model_version = '1' WHERE model_id = 'm'")
    for role in (WRITER, ANALYST):
        assert refused(log_in(shop, role), "UPDATE model_files SET files = NULL")
