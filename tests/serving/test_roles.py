"""What an application that only shows lists may do: call some functions, and nothing else."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from recsys.serving.install import READER, install_serving
from recsys.warehouse.roles import ANALYST, PIPELINE, WRITER
from tests.serving.conftest import Shop

READING = {
    "answer_request", "item_phrases", "item_summary", "recommend", "rerank", "similar_items", "summary",
    "trending",
}  # fmt: skip


@pytest.fixture
def reader(shop: Shop) -> Iterator[sa.Engine]:
    """A login with the rights of a reader."""
    shop.add_items("a", "b")
    shop.add_user("ada")
    shop.publish("ada", "b", "a")
    name = f"reader_of_{shop.engine.url.database}"
    shop.execute(f"create role {name} login in role {READER}")
    engine = sa.create_engine(shop.engine.url.set(username=name))
    yield engine
    engine.dispose()
    shop.execute(f"drop role {name}")


def refused(engine: sa.Engine, statement: str) -> bool:
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(statement)
    except sa.exc.DBAPIError as error:
        return error.orig is not None and error.orig.pgcode == "42501"  # type: ignore[attr-defined]
    return False


def test_a_reader_calls_the_reading_functions(reader: sa.Engine) -> None:
    with reader.connect() as connection:
        rows = connection.exec_driver_sql("select item_id from serving.recommend('ada')").scalars().all()
        assert rows == ["b", "a"]
        assert connection.exec_driver_sql("select * from serving.trending()").all() == []


def test_a_reader_reads_no_table_and_calls_nothing_else_of_ours(reader: sa.Engine, shop: Shop) -> None:
    tables = shop.rows(
        "select pg_class.oid::regclass::text as name from pg_class join pg_namespace on pg_namespace.oid ="
        " relnamespace where nspname not in ('pg_catalog', 'information_schema', 'pg_toast')"
        " and relkind in ('r', 'p', 'v', 'm', 'S')"
    )
    assert len(tables) > 30
    readable = [row["name"] for row in tables if not refused(reader, f"select * from {row['name']} limit 1")]
    assert readable == []
    with reader.connect() as connection:
        callable_ = connection.exec_driver_sql(
            "select proname from pg_proc where pronamespace = 'serving'::regnamespace"
            " and has_function_privilege(oid, 'EXECUTE')"
        )
        assert set(callable_.scalars()) == READING


@pytest.mark.parametrize(
    "statement",
    [
        "select * from serving.reactions_since('ada', 0, '-infinity', 10)",
        "insert into feedback (user_id, item_id, event_type) values ('ada', 'a', 'like')",
        "insert into erasure_requests (user_id) values ('ada')",
        "update items set available = false",
        "create function serving.mine() returns int return 1",
        "create table mine (x int)",
        "set role recsys_writer",
        "alter function serving.recommend(text, text, integer, jsonb, text[], jsonb, text) reset all",
    ],
)
def test_a_reader_cannot(reader: sa.Engine, statement: str) -> None:
    assert refused(reader, statement)


def test_a_reader_cannot_put_a_table_of_their_own_in_the_way(reader: sa.Engine, shop: Shop) -> None:
    shop.execute(f"grant temporary on database {shop.engine.url.database} to {READER}")
    with reader.begin() as connection:
        connection.exec_driver_sql("create temporary table placements (placement text) on commit drop")
        connection.exec_driver_sql("set search_path = pg_temp, public")
        rows = connection.exec_driver_sql("select item_id from serving.recommend('ada')").scalars().all()
    assert rows == ["b", "a"]


def test_functions_that_run_as_their_owner_pin_their_search_path(shop: Shop) -> None:
    found = shop.rows(
        "select proname, proconfig from pg_proc where pronamespace = 'serving'::regnamespace and prosecdef"
    )
    assert {row["proname"] for row in found} == READING
    assert all("search_path=pg_catalog, public, pg_temp" in row["proconfig"] for row in found)


def test_every_function_says_what_it_does(shop: Shop) -> None:
    silent = shop.rows(
        "select proname from pg_proc where pronamespace = 'serving'::regnamespace"
        " and obj_description(oid, 'pg_proc') is null"
    )
    assert silent == []


def test_writers_read_too_and_other_roles_do_not(shop: Shop) -> None:
    allowed = {
        role: shop.rows(
            "select has_function_privilege(:role, oid, 'EXECUTE') as yes from pg_proc"
            " where pronamespace = 'serving'::regnamespace and proname = 'recommend'",
            role=role,
        )[0]["yes"]
        for role in (READER, WRITER, PIPELINE, ANALYST)
    }
    assert allowed == {READER: True, WRITER: True, PIPELINE: False, ANALYST: False}


def test_installing_again_keeps_the_functions_and_what_was_granted(shop: Shop, reader: sa.Engine) -> None:
    before = shop.rows("select oid from pg_proc where pronamespace = 'serving'::regnamespace order by oid")
    with reader.connect() as connection:
        connection.exec_driver_sql("select * from serving.recommend('ada')")
        connection.rollback()
        install_serving(shop.engine)
        assert len(connection.exec_driver_sql("select * from serving.recommend('ada')").all()) == 2
    assert before == shop.rows(
        "select oid from pg_proc where pronamespace = 'serving'::regnamespace order by oid"
    )
