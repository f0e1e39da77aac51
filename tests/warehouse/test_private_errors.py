"""Errors of the warehouse, as task logs show them: with causes, but without ids and comments."""

import io
import traceback
from collections.abc import Callable, Iterator

import psycopg2.errors
import pytest
import sqlalchemy as sa

from recsys.errors import ServiceUnavailableError
from recsys.snapshot.copy_stream import stream_copy
from recsys.warehouse.engine import asyncpg_arguments, connect

USER, COMMENT = "user-zq7f", "comment-zq7f"
INSERT = "INSERT INTO feedback (event_id, user_id, item_id, event_type, comment, value, occurred_at)"
ROW = {"user": USER, "comment": COMMENT}
UNKNOWN_TYPE = sa.text(f"{INSERT} VALUES ('e', :user, 'i', NULL, :comment, 1, now())")
NO_NUMBER = sa.text(f"{INSERT} VALUES ('e', :user, 'i', 'like', 'c', :comment, now())")
TWICE = sa.text("INSERT INTO users (user_id) VALUES (:user), (:user)")


def _copy(connection: sa.Connection, line: str) -> None:
    with connection.connection.cursor() as cursor:  # type: ignore[attr-defined]
        cursor.copy_expert("COPY users (user_id, consent) FROM STDIN (FORMAT csv)", io.StringIO(line))


def _fetch(connection: sa.Connection) -> None:
    query = sa.text("SELECT CAST(:comment AS text)::int / (n % 2) FROM generate_series(1, 9) AS n")
    connection.execution_options(stream_results=True).execute(query, ROW).all()


def _commit(connection: sa.Connection) -> None:
    connection.exec_driver_sql("CREATE TABLE late (user_id text UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    connection.execute(sa.text("INSERT INTO late VALUES (:user), (:user)"), ROW)
    connection.commit()


FAILURES: dict[str, tuple[Callable[[sa.Connection], object], str]] = {
    "a null": (lambda connection: connection.execute(UNKNOWN_TYPE, ROW), 'null value in column "event_type"'),
    "many rows": (lambda connection: connection.execute(UNKNOWN_TYPE, [ROW, ROW]), "null value in column"),
    "no number": (
        lambda connection: connection.execute(NO_NUMBER, ROW),
        "invalid input syntax for type double",
    ),
    "a duplicate": (lambda connection: connection.execute(TWICE, ROW), "duplicate key value violates"),
    "JSON": (
        lambda connection: connection.execute(sa.text("SELECT CAST(:comment AS json)"), ROW),
        "invalid input syntax for type json",
    ),
    "COPY of a duplicate": (lambda connection: _copy(connection, f"{USER},t\n{USER},t\n"), "duplicate key"),
    "COPY of no boolean": (lambda connection: _copy(connection, f"u,{COMMENT}\n"), "type boolean"),
    "fetching": (_fetch, "invalid input syntax for type integer"),
    "committing": (_commit, "duplicate key value violates"),
}


@pytest.fixture
def engine(warehouse_url: str) -> Iterator[sa.Engine]:
    engine = connect(warehouse_url)
    try:
        yield engine
    finally:
        engine.dispose()


@pytest.mark.parametrize("failure", FAILURES)
def test_an_error_says_what_is_wrong_without_the_values(engine: sa.Engine, failure: str) -> None:
    fail, reason = FAILURES[failure]
    with engine.connect() as connection, pytest.raises((sa.exc.DBAPIError, psycopg2.Error)) as caught:
        fail(connection)
    logged = "".join(traceback.format_exception(caught.value))
    assert reason in logged
    assert "zq7f" not in logged


def test_a_deadlock_still_names_the_processes(engine: sa.Engine) -> None:
    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError, match="process 1 waits"):
        connection.exec_driver_sql(
            "DO $$ BEGIN RAISE EXCEPTION 'deadlock detected'"
            " USING ERRCODE = 'deadlock_detected', DETAIL = 'process 1 waits'; END $$"
        )


def test_code_can_still_read_the_whole_error(engine: sa.Engine) -> None:
    with engine.connect() as connection, pytest.raises(sa.exc.IntegrityError) as caught:
        connection.execute(TWICE, ROW)
    assert isinstance(caught.value.orig, psycopg2.errors.UniqueViolation)
    assert USER in str(caught.value.orig.diag.message_detail)


def test_a_snapshot_that_cannot_be_extracted_says_why_without_the_values(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        snapshot = connection.scalar(sa.text("SELECT pg_export_snapshot()"))
        query = f"SELECT CAST('{COMMENT}' || n AS integer) FROM generate_series(1, 2) AS n"
        chunks = stream_copy(asyncpg_arguments(engine.url), snapshot, query, "csv")
        with pytest.raises(ServiceUnavailableError, match="invalid input syntax for type integer") as caught:
            list(chunks)
    assert "zq7f" not in "".join(traceback.format_exception(caught.value))
