"""A publisher's database session: its advisory lock and its temporary staging tables.

The lock and the tables belong to the session. When a publisher is killed, Postgres drops both, so there is
nothing to clean up and readers have seen no change. Only what several processes stage for one publication
outlives a session: see `recsys.publishing.plans`.
"""

import csv
import io
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from recsys.errors import NothingToDoError
from recsys.publishing.plans import SILENCE, close_plans, open_plan
from recsys.settings import VisitorListSettings
from recsys.warehouse.copy_binary import COPY_BINARY_HEADER, COPY_BINARY_TRAILER
from recsys.warehouse.statements import read_statement

logger = logging.getLogger(__name__)

TEMPORARY_TABLES = "publishing/create_publication_staging"
SHARD_TABLES = "publishing/create_shard_session"
PLAN_VIEWS = "publishing/create_plan_views"
_LOCK = "select pg_try_advisory_lock(hashtextextended('publish recommendations', 0))"
_HOLDER = """
select pid from pg_locks
where locktype = 'advisory' and granted
    and database = (select oid from pg_database where datname = current_database())
    and (classid::bigint << 32) + objid::bigint = hashtextextended('publish recommendations', 0)
"""
_LOCK_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class ChangedItems:
    """What has changed in the catalogue since the last publication.

    Attributes
    ----------
    titles
        Number of titles that reasons may still name.
    vectors
        Number of items whose vector is missing, outdated or of a withdrawn item.
    """

    titles: int
    vectors: int


@contextmanager
def publishing_session(
    engine: sa.Engine, *, wait: bool = True, run_key: str | None = None, tables: str = TEMPORARY_TABLES
) -> Iterator[sa.Connection]:
    """Wait until no other publication runs, in one process or in shards, then yield a session for staging.

    A plan of shards is given up when its champion has been replaced or none of its shards has written for a
    long time (`recsys.publishing.plans.SILENCE`).

    Parameters
    ----------
    run_key
        The run whose own plan it does not wait for.
    tables
        As in `staging_session`.

    Raises
    ------
    NothingToDoError
        Another publication runs, and `wait` is false.
    """
    with staging_session(engine, tables) as connection:
        waiting = False
        while (holder := _other_publication(connection, run_key)) is not None:
            if not wait:
                raise NothingToDoError(
                    f"another publication is running ({holder}); the next run publishes what is left"
                )
            if not waiting:
                logger.info("waiting for another publication to finish: %s", holder)
            waiting = True
            time.sleep(_LOCK_POLL_SECONDS)
        try:
            yield connection
        finally:
            # The server notices the end of a session with a delay; unlock now for the next publisher.
            with suppress(sa.exc.SQLAlchemyError):
                connection.rollback()
                connection.exec_driver_sql("select pg_advisory_unlock_all()")


def remove_abandoned_shards(engine: sa.Engine) -> None:
    """Remove what shards have staged for a publication that will not end; a running one is left alone."""
    with suppress(NothingToDoError), publishing_session(engine, wait=False) as connection:
        close_plans(connection)


def _other_publication(connection: sa.Connection, run_key: str | None) -> str | None:
    """Take the lock of publishers; None: this session holds it now. Else return who publishes."""
    if not connection.scalar(sa.text(_LOCK)):
        holder = connection.scalar(sa.text(_HOLDER))
        connection.rollback()
        return f"process {holder} holds its lock"
    connection.commit()
    plan = open_plan(connection)
    if plan is None or (plan.run_key == run_key and not plan.is_replaced):
        return None
    if plan.is_replaced or plan.silent_for > SILENCE:
        logger.warning("giving up %s: its champion is replaced, or its shards are silent", plan)
        close_plans(connection)
        return None
    connection.exec_driver_sql("select pg_advisory_unlock_all()")
    connection.commit()
    return str(plan)


@contextmanager
def staging_session(engine: sa.Engine, tables: str = TEMPORARY_TABLES) -> Iterator[sa.Connection]:
    """Yield a session for staging, without the lock.

    Parameters
    ----------
    tables
        The statement that makes the staging tables: empty ones of the session, those of a shard
        (`SHARD_TABLES`), or all that the shards of a plan have staged (`PLAN_VIEWS`).
    """
    connection = engine.connect().execution_options(isolation_level="READ COMMITTED")
    try:
        connection.exec_driver_sql(read_statement(tables))
        connection.commit()
        yield connection
    finally:
        # End the session and with it the lock and the tables; a pooled connection would keep both.
        connection.invalidate()
        connection.close()


def empty_staging(connection: sa.Connection) -> None:
    """Empty the staging tables for another attempt in the same session."""
    connection.exec_driver_sql(
        "truncate staged_users, staged_lists, staged_pools, staged_user_vectors, staged_item_vectors,"
        " staged_similar_items, staged_items, staged_comment_sentiment, staged_catalogue,"
        " staged_changed_titles"
    )
    connection.commit()


def stage_catalogue(connection: sa.Connection, *, at: datetime) -> ChangedItems:
    """Stage the items as they are, and return what has changed since the last publication.

    Call it before the catalogue is read.

    Parameters
    ----------
    at
        Time for which it is decided what is available.
    """
    connection.execute(sa.text(read_statement("publishing/stage_catalogue")), {"at": at})
    connection.exec_driver_sql("analyze staged_catalogue")
    titles = connection.exec_driver_sql(read_statement("publishing/stage_changed_titles")).rowcount
    vectors = connection.exec_driver_sql(read_statement("publishing/count_changed_items")).scalar_one()
    connection.commit()
    return ChangedItems(titles, vectors)


def stage_users(
    connection: sa.Connection,
    *,
    everyone: bool,
    since_transaction_id: int,
    at: datetime,
    visitors: VisitorListSettings | None = None,
    only_active: bool = False,
    experiment_id: int | None = None,
) -> int:
    """Stage and number the users to score; return how many there are.

    Parameters
    ----------
    everyone
        All users instead of those that a new publication would change.
    since_transaction_id
        Feedback from it on is new.
    at
        Time for which it is decided what is available.
    visitors
        Which visitors get lists.
    only_active
        Only users with new feedback, whatever else has changed.
    experiment_id
        The experiment that chooses whose list a user gets; None: all get the champion's.
    """
    visitors = visitors or VisitorListSettings()
    result = connection.execute(
        sa.text(read_statement("publishing/stage_users")),
        {
            "everyone": everyone,
            "since_transaction_id": since_transaction_id,
            "at": at,
            "visitor_days": visitors.days,
            "visitor_min_events": visitors.min_events,
            "only_active": only_active,
            "experiment_id": experiment_id,
        },
    )
    connection.exec_driver_sql("analyze staged_users")
    connection.commit()
    return result.rowcount


def stage_user(connection: sa.Connection, user_id: str) -> int:
    """Stage one user; return 0 if the user is unknown."""
    result = connection.execute(sa.text(read_statement("publishing/stage_user")), {"user_id": user_id})
    connection.commit()
    return result.rowcount


def stage_items(connection: sa.Connection, item_ids: list[str], vectors: NDArray[np.float32]) -> None:
    """Write the items that may be shown, and their vectors [items, dim], to the staging tables."""
    text = io.StringIO()
    csv.writer(text).writerows(enumerate(item_ids))
    _copy_from(connection, "staged_items (position, item_id) from stdin (format csv)", text)
    stage_vectors(connection, "staged_item_vectors", 0, vectors)


def stage_vectors(connection: sa.Connection, table: str, first: int, vectors: NDArray[np.float32]) -> None:
    """Write vectors [rows, dim] for positions from `first` on, in Postgres' binary COPY format.

    The text format would cost about ten times as much. In binary all rows have the same size, so numpy can
    build the whole message at once.
    """
    rows, dim = vectors.shape
    record = np.zeros(
        rows,
        dtype=[
            ("fields", ">i2"),
            ("position_bytes", ">i4"),
            ("position", ">i4"),
            ("vector_bytes", ">i4"),
            ("dim", ">i2"),
            ("reserved", ">i2"),
            ("values", ">f4", (dim,)),
        ],
    )
    record["fields"] = 2
    record["position_bytes"] = 4
    record["position"] = np.arange(first, first + rows)
    record["vector_bytes"] = 4 + 4 * dim
    record["dim"] = dim
    record["values"] = vectors
    message = io.BytesIO(COPY_BINARY_HEADER + record.tobytes() + COPY_BINARY_TRAILER)
    _copy_from(connection, f"{table} (position, vector) from stdin (format binary)", message)


def _copy_from(connection: sa.Connection, target: str, message: io.StringIO | io.BytesIO) -> None:
    message.seek(0)
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor:
        cursor.copy_expert(f"copy {target}", message)
