from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from recsys.errors import ConfigurationError, ServiceUnavailableError
from recsys.local.postgres import PostgresServer
from recsys.warehouse.engine import connect
from recsys.warehouse.migrate import revisions, upgrade_warehouse
from recsys.warehouse.tables import metadata


@pytest.fixture
def empty_url(postgres: PostgresServer, request: pytest.FixtureRequest) -> str:
    name = f"empty_{abs(hash(request.node.nodeid))}"
    postgres.create_database(name)
    return postgres.url(name)


def differences(url: str) -> list[object]:
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_server_default": True})
            return compare_metadata(context, metadata)
    finally:
        engine.dispose()


def scalar(url: str, query: str) -> object:
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            return connection.scalar(sa.text(query))
    finally:
        engine.dispose()


def execute(url: str, *statements: str) -> None:
    """Run statements, each in a transaction of its own."""
    engine = sa.create_engine(url)
    for statement in statements:
        with engine.begin() as connection:
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_migrations_from_empty_give_the_tables_that_the_code_expects(empty_url: str) -> None:
    upgrade_warehouse(empty_url)
    assert differences(empty_url) == []


def _insert(url: str, item: str) -> None:
    execute(
        url,
        f"INSERT INTO items (item_id, title) VALUES ('{item}', '三体 🎬')",
        f"INSERT INTO feedback (user_id, item_id, event_type) VALUES ('u', '{item}', 'like')",
    )


def test_every_revision_upgrades_to_the_next_and_keeps_the_rows_of_all_before(empty_url: str) -> None:
    for revision in revisions():
        upgrade_warehouse(empty_url, revision)
        assert scalar(empty_url, "SELECT version_num FROM alembic_version") == revision
        _insert(empty_url, f"of {revision}")
    assert differences(empty_url) == []
    assert scalar(empty_url, "SELECT count(*) FROM items WHERE title = '三体 🎬'") == len(revisions())
    assert scalar(empty_url, "SELECT count(*) FROM feedback") == len(revisions())


# All that follows is one transaction, which is more than the sum of its steps.
@pytest.mark.parametrize("revision", revisions()[:-1:12])
def test_an_old_revision_upgrades_at_once_and_keeps_its_rows(empty_url: str, revision: str) -> None:
    upgrade_warehouse(empty_url, revision)
    _insert(empty_url, "i")
    upgrade_warehouse(empty_url)
    assert differences(empty_url) == []
    assert scalar(empty_url, "SELECT title FROM items") == "三体 🎬"
    assert scalar(empty_url, "SELECT count(*) FROM feedback") == 1


def test_versions_that_the_ledger_knew_before_digests_were_kept_wait_for_their_first_use(
    empty_url: str,
) -> None:
    upgrade_warehouse(empty_url, "0015")
    engine = sa.create_engine(empty_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO promotion_ledger"
            " (action, model_version, champion_sequence, reason, explanation, actor)"
            " VALUES ('promote', '7', 1, 'x', 'x', 'x'), ('roll_back', '7', 2, 'x', 'x', 'x')"
        )
    upgrade_warehouse(empty_url)
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT model_version, model_id, files FROM model_files").all()
    engine.dispose()
    assert [tuple(row) for row in rows] == [("7", None, None)]


def test_revisions_are_numbered_without_gaps() -> None:
    assert revisions() == [f"{number:04d}" for number in range(1, len(revisions()) + 1)]


def test_processes_that_upgrade_at_once_wait_for_each_other(empty_url: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        for finished in [pool.submit(upgrade_warehouse, empty_url) for _ in range(3)]:
            finished.result()
    assert differences(empty_url) == []


def test_an_upgrade_that_fails_leaves_nothing_behind(empty_url: str) -> None:
    engine = sa.create_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE promotion_ledger (mine text)"))
    engine.dispose()
    with pytest.raises(sa.exc.ProgrammingError, match="promotion_ledger"):
        upgrade_warehouse(empty_url)
    assert scalar(empty_url, "SELECT to_regclass('feedback')") is None


@pytest.mark.parametrize(
    ("code", "reason", "advice"),
    [
        ("0A000", 'extension "vector" is not available', "lacks the extension pgvector; install it"),
        ("58P01", 'could not open extension control file "vector.control"', "lacks the extension pgvector"),
        ("42501", 'permission denied to create extension "vector"', "run CREATE EXTENSION vector"),
    ],
)
def test_a_server_without_pgvector_is_reported_with_what_to_do(
    empty_url: str, code: str, reason: str, advice: str
) -> None:
    engine = sa.create_engine(empty_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = '{reason}'; END $$;"
            "CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE EXTENSION')"
            " EXECUTE FUNCTION refuse()"
        )
    engine.dispose()
    with pytest.raises(ConfigurationError, match=advice):
        upgrade_warehouse(empty_url)
    assert scalar(empty_url, "SELECT to_regclass('feedback')") is None


def test_a_user_who_may_not_change_tables_is_told_to_migrate_as_the_owner(
    postgres: PostgresServer, empty_url: str
) -> None:
    engine = sa.create_engine(empty_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE ROLE no_owner LOGIN")
    engine.dispose()
    with pytest.raises(ConfigurationError, match="as the owner of the database"):
        upgrade_warehouse(empty_url.replace("postgres@", "no_owner@"))


def test_an_unknown_revision_is_named_together_with_the_known_ones(empty_url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"'9999'.*0001"):
        upgrade_warehouse(empty_url, "9999")


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://h/db", "sqlite:///x.db", "postgresql+asyncpg://h/d"]
)
def test_a_url_that_is_not_postgres_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="RECSYS_WAREHOUSE_URL"):
        connect(url)


def test_a_bad_url_is_reported_without_its_password(postgres: PostgresServer) -> None:
    url = postgres.url("nowhere").replace("postgres@", "postgres:s3cret@")
    with pytest.raises(ConfigurationError, match="nowhere") as caught:
        connect(url)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        connect("postgresql://user:s3cret@host:port/db")
    assert "s3cret" not in str(caught.value)


def test_a_missing_server_is_a_retryable_error() -> None:
    with pytest.raises(ServiceUnavailableError, match="recsys up") as caught:
        connect("postgresql://u@127.0.0.1:1/db")
    assert caught.value.retryable


def test_the_short_form_of_a_postgres_url_is_accepted(warehouse_url: str) -> None:
    connect(warehouse_url.replace("postgresql+psycopg2", "postgres")).dispose()


def test_feedback_that_no_list_has_read_is_fresh_after_the_upgrade(empty_url: str) -> None:
    upgrade_warehouse(empty_url, "0030")
    execute(
        empty_url,
        """
        INSERT INTO feedback (user_id, item_id, event_type)
        SELECT who, 'read', 'view' FROM unnest('{ada,bob,cy}'::text[]) AS who
        """,
        """
        INSERT INTO publications (run_key, model_version, scope, users, items, through_transaction_id)
        VALUES ('p', '1', 'all', 2, 1, warehouse_horizon());
        INSERT INTO recommendation_lists
            (user_id, publication_id, model_version, item_ids, scores, propensities, through_transaction_id)
        SELECT lists.user_id, publication_id, '1', '{i}', '{1}', '{1}', through
        FROM publications
        CROSS JOIN LATERAL (VALUES ('ada', through_transaction_id), ('bob', 0)) AS lists (user_id, through)
        """,
        """
        INSERT INTO feedback (user_id, item_id, event_type, occurred_at)
        SELECT who, 'unread', 'view', at
        FROM unnest('{ada,cy}'::text[]) AS who
        CROSS JOIN unnest(ARRAY[now(), now() - interval '20 days', NULL]) AS at
        """,
    )
    upgrade_warehouse(empty_url)
    found = scalar(
        empty_url, "SELECT array_agg(user_id || ' ' || item_id ORDER BY feedback_id) FROM fresh_feedback"
    )
    assert found == ["bob read", "ada unread", "cy unread"]
