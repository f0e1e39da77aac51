"""Locks for transactions that must not overlap. None of them blocks applications that write feedback."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from recsys.errors import ServiceUnavailableError

FEEDBACK_MOVES = "moves of feedback"
"""Held while rows leave feedback or come back: quarantine, release, erasure, retirement of a month."""
MODEL_REGISTRY = "model registry"
"""Held while the registry and the ledger change together: promotion, rollback, alias repair, pruning.

A version that is being promoted is not pruned, and the alias is not moved to a champion that has just been
replaced. The ledger stays correct without this lock.
"""
SNAPSHOT_FILES = "files of snapshots"
"""Held while files of finished snapshots are replaced or removed: erasure, retention, key rotation."""
SLATES_BY_DAY = "slates by day"
"""Held while counts of slates and feedback change: refresh, erasure. `FEEDBACK_MOVES` is taken before it."""


def lock(connection: sa.Connection, name: str) -> None:
    """Wait for the advisory lock of this name and hold it until the connection's transaction ends."""
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})


@contextmanager
def hold_lock(engine: sa.Engine, name: str) -> Iterator[sa.Connection]:
    """Hold an advisory lock for the length of a `with` block; it ends with the process at the latest.

    Yields the connection that holds it, for `confirm_lock`.
    """
    with engine.begin() as connection:
        # The transaction writes nothing and so has no id: windows of feedback do not wait for it.
        lock(connection, name)
        yield connection


def confirm_lock(connection: sa.Connection) -> None:
    """Raise ServiceUnavailableError if the connection that holds a lock broke, and with it the lock."""
    try:
        connection.exec_driver_sql("SELECT")
    except sa.exc.DBAPIError as error:
        raise ServiceUnavailableError(
            "the connection to Postgres that held a lock broke; run again"
        ) from error


def block_partition_moves(connection: sa.Connection) -> None:
    """Keep rows of feedback and impressions in their partitions until the transaction ends.

    Writers are not blocked. New partitions take over rows, and `retire_feedback_month` moves them. A
    statement that waits for such a move was planned before it, looks for the rows in their old partition and
    misses them. A read-committed transaction that must not miss a row calls this first. Repeatable-read
    transactions do not need it: they see the rows where they were.
    """
    connection.execute(sa.text("LOCK TABLE feedback, impressions IN ACCESS SHARE MODE"))
