"""Quarantine: move rows that break a rule out of feedback; list, release or discard them."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from recsys.errors import WarehouseError
from recsys.settings import ValidationSettings
from recsys.validation.rules import Rule
from recsys.validation.violations import (
    bounds,
    delete_violations,
    earliest_violation,
    judge_window,
    planned_for,
)
from recsys.warehouse.advisory_locks import FEEDBACK_MOVES, block_partition_moves, lock
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import quarantine
from recsys.warehouse.windows import Window

UNKNOWN_REASONS = ("unknown_user", "unknown_item", "unknown_event_type")
"""Rules that a row stops breaking when its user, item or type is added."""
_RELEASED_TOGETHER = 50_000

Status = Literal["held", "released", "discarded"]


@dataclass(frozen=True)
class QuarantinedRow:
    """One row in quarantine. `feedback` is the row as it arrived and holds personal data."""

    quarantine_id: int
    window_id: int
    reasons: tuple[str, ...]
    status: Status
    quarantined_at: datetime
    settled_at: datetime | None
    settled_by: str | None
    feedback: dict[str, Any]


def quarantine_window(
    connection: sa.Connection, window: Window, rules: Sequence[Rule], settings: ValidationSettings
) -> int:
    """Evaluate the rules on a window and move rows that break one to quarantine, with all reasons.

    It runs in the caller's transaction. A second call moves nothing more.

    Returns
    -------
    int
        Number of rows moved.
    """
    judge_window(connection, window, rules, settings)
    return settle_window(connection, window)


def settle_window(connection: sa.Connection, window: Window) -> int:
    """Move rows with recorded violations to quarantine, and record the noisy rows that stay in feedback.

    It runs in the caller's transaction, one statement each, so a row is always in exactly one of the tables.

    Returns
    -------
    int
        Number of rows moved.
    """
    # Windows of different consumers overlap: without this lock, two could deadlock over rows they share.
    lock(connection, FEEDBACK_MOVES)
    block_partition_moves(connection)
    reached = bounds(window) | {"lower_transaction_id": earliest_violation(connection, window)}
    with planned_for(connection, window):
        moved = connection.execute(sa.text(read_statement("validation/quarantine_feedback")), reached)
        connection.execute(sa.text(read_statement("validation/insert_noisy_feedback")), reached)
    delete_violations(connection, window)
    return int(moved.rowcount)


def list_quarantined(
    engine: sa.Engine, *, status: Status | None = "held", reason: str | None = None, limit: int = 50
) -> list[QuarantinedRow]:
    """Return rows in quarantine, newest first.

    Parameters
    ----------
    status
        Only rows with this status; None: all rows.
    reason
        Only rows that broke the rule of this name.
    """
    query = sa.select(quarantine).order_by(quarantine.c.quarantine_id.desc()).limit(limit)
    if status is not None:
        query = query.where(quarantine.c.status == status)
    if reason is not None:
        query = query.where(sa.literal(reason) == sa.any_(quarantine.c.reasons))
    with engine.connect() as connection:
        return [_row(row) for row in connection.execute(query)]


def show_quarantined(engine: sa.Engine, quarantine_id: int) -> QuarantinedRow:
    """Return one row in quarantine; raise WarehouseError if the id does not exist."""
    query = sa.select(quarantine).where(quarantine.c.quarantine_id == quarantine_id)
    with engine.connect() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        raise WarehouseError(
            f"quarantine has no row {quarantine_id}; `recsys quarantine list` shows the rows"
        )
    return _row(row)


def release(engine: sa.Engine, quarantine_id: int, settled_by: str = "unknown") -> int:
    """Move a row back to feedback; return its new feedback_id.

    The row arrives again, so it is in the next window of every consumer, once. No rule judges it again.

    Raises
    ------
    WarehouseError
        The row does not exist or is already settled, or feedback has another row with its event id and time.
    """
    try:
        with engine.begin() as connection:
            lock(connection, FEEDBACK_MOVES)
            feedback_id = connection.scalar(
                sa.text(read_statement("validation/release_quarantined")),
                {"quarantine_id": quarantine_id, "settled_by": settled_by},
            )
    except IntegrityError as error:
        raise WarehouseError(
            f"row {quarantine_id} cannot be released: feedback already has a row with its event id and time. "
            f"Run `recsys quarantine discard {quarantine_id}` to settle it"
        ) from error
    if feedback_id is None:
        raise _not_held(engine, quarantine_id)
    return int(feedback_id)


def release_known(engine: sa.Engine, *, reason: str | None = None, settled_by: str = "unknown") -> int:
    """Move rows back to feedback whose user, item and type are known by now; return how many.

    They arrive again, and the rules judge them again. Rows that broke another rule stay. The rows move in
    transactions of bounded size, so a killed call can be run again.

    Parameters
    ----------
    reason
        Only rows with this reason, one of `UNKNOWN_REASONS`. None: all.
    """
    statement = sa.text(read_statement("validation/release_known"))
    parameters = {"reason": reason, "limit": _RELEASED_TOGETHER, "settled_by": settled_by}
    released = 0
    while True:
        with engine.begin() as connection:
            lock(connection, FEEDBACK_MOVES)
            moved = connection.execute(statement, parameters).rowcount
        released += moved
        if moved < _RELEASED_TOGETHER:
            return released


def release_by_reason(engine: sa.Engine, reason: str, settled_by: str = "unknown") -> tuple[int, int]:
    """Release the held rows of one reason; return how many were released and how many with it stay held.

    Rows whose user, item or type was unknown are released if it is known now, see `release_known`. Rows of
    another reason are released as they are if it is their only one.
    """
    if reason in UNKNOWN_REASONS:
        released = release_known(engine, reason=reason, settled_by=settled_by)
    else:
        alone = sa.select(quarantine.c.quarantine_id).where(
            quarantine.c.status == "held", quarantine.c.reasons == [reason]
        )
        with engine.connect() as connection:
            ids = connection.scalars(alone.order_by(quarantine.c.quarantine_id)).all()
        released = 0
        for quarantine_id in ids:
            with suppress(WarehouseError):  # feedback has the event, or somebody else settled the row
                release(engine, quarantine_id, settled_by)
                released += 1
    held = sa.select(sa.func.count()).where(
        quarantine.c.status == "held", sa.literal(reason) == sa.any_(quarantine.c.reasons)
    )
    with engine.connect() as connection:
        return released, int(connection.scalar(held) or 0)


def discard(engine: sa.Engine, quarantine_id: int, settled_by: str = "unknown") -> None:
    """Mark a row as discarded: it is never used and stays in quarantine for the record.

    Raises
    ------
    WarehouseError
        The row does not exist or is already settled.
    """
    with engine.begin() as connection:
        settled = connection.execute(
            sa.text(read_statement("validation/discard_quarantined")),
            {"quarantine_id": quarantine_id, "settled_by": settled_by},
        )
    if settled.rowcount == 0:
        raise _not_held(engine, quarantine_id)


def _not_held(engine: sa.Engine, quarantine_id: int) -> WarehouseError:
    row = show_quarantined(engine, quarantine_id)
    return WarehouseError(
        f"row {quarantine_id} was already {row.status} by {row.settled_by} at {row.settled_at}; "
        "only rows with status 'held' can be released or discarded"
    )


def _row(row: sa.Row[Any]) -> QuarantinedRow:
    return QuarantinedRow(
        quarantine_id=row.quarantine_id,
        window_id=row.window_id,
        reasons=tuple(row.reasons),
        status=row.status,
        quarantined_at=row.quarantined_at,
        settled_at=row.settled_at,
        settled_by=row.settled_by,
        feedback=row.feedback,
    )
