"""Locks of the data path; all of them end with the transaction, and none holds up applications."""

import sqlalchemy as sa

MOVES_OF_FEEDBACK = "moves of feedback"
"""Turn of whoever takes rows out of feedback or puts them back: quarantine, release, erasure, retirement."""


def take_turns(connection: sa.Connection, name: str) -> None:
    """Wait until no other transaction has the turn of this name, then have it until the transaction ends."""
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})


def hold_partitions(connection: sa.Connection) -> None:
    """Keep rows of feedback in their partitions until the transaction ends; writers go on.

    A statement that waits while `ensure_feedback_partitions` or `retire_feedback_month` moves rows was
    planned before the move: it looks for them where they were and overlooks them. So whoever must not
    overlook any calls this first, in a read-committed transaction. Repeatable-read transactions see the rows
    where they were.
    """
    connection.execute(sa.text("LOCK TABLE feedback IN ACCESS SHARE MODE"))
