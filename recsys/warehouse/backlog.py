"""Feedback that has arrived but that no window may take yet, and the transaction it waits for."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from recsys.warehouse.statements import read_statement
from recsys.warehouse.windows import Window


@dataclass(frozen=True)
class HorizonHolder:
    """The oldest open transaction that has written: windows end before it.

    Attributes
    ----------
    pid
        Its process; None: it is a prepared transaction.
    minutes
        How long it has been open, or, if this role may not see that, how long feedback has waited for it.
    """

    pid: int | None
    prepared_as: str | None
    minutes: float

    def __str__(self) -> str:
        end = (
            f"process {self.pid}: end it with SELECT pg_terminate_backend({self.pid})"
            if self.pid is not None
            else f"prepared as {self.prepared_as!r}: COMMIT or ROLLBACK PREPARED it"
        )
        return f"a writing transaction that has been open for {self.minutes:.0f} minutes ({end})"


@dataclass(frozen=True)
class Backlog:
    """Rows that wait for a later window, at most 100,000, and the transaction they wait for."""

    rows: int
    holder: HorizonHolder | None

    def __str__(self) -> str:
        many = "100,000 rows or more" if self.rows >= 100_000 else f"{self.rows:,} rows"
        return f"{many} of feedback have arrived and wait for " + (
            str(self.holder) if self.holder else "a writing transaction that has just ended"
        )


def warehouse_clock(engine: sa.Engine) -> datetime:
    """Return the time of the warehouse's clock."""
    with engine.connect() as connection:
        return connection.execute(sa.text("SELECT clock_timestamp()")).scalar_one()  # type: ignore[no-any-return]


def find_horizon_holder(engine: sa.Engine) -> HorizonHolder | None:
    """Return the oldest open transaction that has written, if there is one."""
    with engine.connect() as connection:
        row = connection.execute(sa.text(read_statement("warehouse/select_horizon_holder"))).first()
    return None if row is None else HorizonHolder(row.pid, row.prepared_as, row.minutes or 0.0)


def find_backlog(engine: sa.Engine, window: Window) -> Backlog | None:
    """Return what had arrived when the window was opened but is not in it; None: nothing."""
    before = min(window.opened_at, window.interval_end or window.opened_at)
    with engine.connect() as connection:
        rows = connection.scalar(
            sa.text(read_statement("warehouse/count_waiting_feedback")),
            {"upper": window.upper_transaction_id, "before": before},
        )
    return Backlog(int(rows), find_horizon_holder(engine)) if rows else None
