"""Where rows go that break a rule, and how a person lets them out again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from recsys.errors import WarehouseError
from recsys.settings import ValidationSettings
from recsys.validation.rules import Rule
from recsys.validation.violations import bounds, forget_violations, judge_window, planned_for
from recsys.warehouse.locks import MOVES_OF_FEEDBACK, hold_partitions, take_turns
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import quarantine
from recsys.warehouse.windows import Window

Status = Literal["held", "released", "discarded"]


@dataclass(frozen=True)
class QuarantinedRow:
    """One row in quarantine. `feedback` is the row as it arrived: it names a person."""

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
    """Judge a window and move the rows that break a rule into quarantine, with all their reasons.

    In the caller's transaction; calling it again moves nothing more.

    Returns
    -------
    int
        Number of rows moved.
    """
    judge_window(connection, window, rules, settings)
    return settle_window(connection, window)


def settle_window(connection: sa.Connection, window: Window) -> int:
    """Move rows whose violations are noted into quarantine; remember noise that stays, to weigh it less.

    One set-based statement for each in the caller's transaction: a row is in one table or the other.

    Returns
    -------
    int
        Number of rows moved.
    """
    # Windows of different consumers overlap; in turns, neither waits for rows that the other holds.
    take_turns(connection, MOVES_OF_FEEDBACK)
    hold_partitions(connection)
    with planned_for(connection, window):
        moved = connection.execute(sa.text(read_statement("validation/quarantine_feedback")), bounds(window))
        connection.execute(sa.text(read_statement("validation/insert_noisy_feedback")), bounds(window))
    forget_violations(connection, window)
    return int(moved.rowcount)


def list_quarantined(
    engine: sa.Engine, *, status: Status | None = "held", reason: str | None = None, limit: int = 50
) -> list[QuarantinedRow]:
    """Return rows in quarantine, latest first.

    Parameters
    ----------
    status
        Only rows of this status; None: all.
    reason
        Only rows that broke this rule.
    """
    query = sa.select(quarantine).order_by(quarantine.c.quarantine_id.desc()).limit(limit)
    if status is not None:
        query = query.where(quarantine.c.status == status)
    if reason is not None:
        query = query.where(sa.literal(reason) == sa.any_(quarantine.c.reasons))
    with engine.connect() as connection:
        return [_row(row) for row in connection.execute(query)]


def show_quarantined(engine: sa.Engine, quarantine_id: int) -> QuarantinedRow:
    """Return one row in quarantine; raise WarehouseError when there is none of this id."""
    query = sa.select(quarantine).where(quarantine.c.quarantine_id == quarantine_id)
    with engine.connect() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        raise WarehouseError(f"there is no row {quarantine_id} in quarantine; see `recsys quarantine list`")
    return _row(row)


def release(engine: sa.Engine, quarantine_id: int, settled_by: str = "unknown") -> int:
    """Let a row back into the feedback; return its new feedback_id.

    It arrives anew, so it is in the next window of every consumer, once, and no rule judges it again.

    Raises
    ------
    WarehouseError
        There is no such row, it is settled already, or its event id and time have come in again.
    """
    try:
        with engine.begin() as connection:
            take_turns(connection, MOVES_OF_FEEDBACK)
            feedback_id = connection.scalar(
                sa.text(read_statement("validation/release_quarantined")),
                {"quarantine_id": quarantine_id, "settled_by": settled_by},
            )
    except IntegrityError as error:
        raise WarehouseError(
            f"row {quarantine_id} cannot be released: its event id and time are in the feedback again; "
            f"`recsys quarantine discard {quarantine_id}` settles it"
        ) from error
    if feedback_id is None:
        raise _not_held(engine, quarantine_id)
    return int(feedback_id)


def discard(engine: sa.Engine, quarantine_id: int, settled_by: str = "unknown") -> None:
    """Settle a row as never to be used; it stays in quarantine for the record.

    Raises
    ------
    WarehouseError
        There is no such row or it is settled already.
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
        f"row {quarantine_id} was {row.status} by {row.settled_by} at {row.settled_at}; "
        "only held rows can be settled"
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
