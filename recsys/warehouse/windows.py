"""Windows: which feedback a run handles, decided by order of commit and recorded.

A row carries the id of the transaction that wrote it. When the oldest transaction still open has id
`h`, every row with a smaller id is already visible or will never be. A window that ends at `h`
therefore misses nothing: the rows of a transaction that is still open have ids of `h` or more and
belong to the next window, however early their clock times are.
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from recsys.errors import ConfigurationError, WarehouseError
from recsys.warehouse.locks import hold_partitions, take_turns
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import windows


@dataclass(frozen=True)
class Window:
    """A recorded half-open range `[lower, upper)` of transaction ids."""

    window_id: int
    consumer: str
    run_key: str
    lower_transaction_id: int
    upper_transaction_id: int
    interval_start: datetime | None
    interval_end: datetime | None
    opened_at: datetime
    arrived: int


@dataclass(frozen=True)
class Reconciliation:
    """Where the rows that arrived in a window are now, and how they came.

    Attributes
    ----------
    late
        Rows that happened before the consumer's previous window was closed: days, or a moment, ago.
    out_of_order
        Rows that happened before another one that had arrived earlier in the window.
    """

    window_id: int
    arrived: int
    valid: int
    quarantined: int
    duplicates: int
    erased: int
    late: int
    out_of_order: int

    @property
    def balanced(self) -> bool:
        """Whether every row that arrived is accounted for, and no other."""
        return self.arrived == self.valid + self.quarantined + self.duplicates + self.erased


def open_window(
    engine: sa.Engine,
    consumer: str,
    run_key: str,
    interval: tuple[datetime, datetime] | None = None,
    *,
    first_lower: int = 0,
) -> Window:
    """Record the consumer's next window, or return the one this run has already opened.

    Writers are never blocked; two runs of one consumer take turns.

    Parameters
    ----------
    consumer
        Who reads the windows, each of which starts where the consumer's last one ended: the DAG.
    run_key
        The run; calling again with the same key returns the same window.
    interval
        Start and end of the run's data interval. Rows received at or after an end that lies in the
        past are left to later windows, so that a late run sees what was known then. When earlier
        windows have already gone past the end, the window is empty.
    first_lower
        Transaction id at which the consumer's first window starts.

    Raises
    ------
    ConfigurationError
        The interval has no time zone or ends before it starts.
    """
    start, end = _checked(interval)
    # Each statement must see what was committed before it, above all before the lock was granted.
    reading_committed = engine.execution_options(isolation_level="READ COMMITTED")
    with reading_committed.begin() as connection:
        # A window that a crash could take back would give its bounds, and ids of transactions, twice.
        connection.execute(
            sa.text(
                "SELECT set_config('synchronous_commit', 'on', true)"
                " WHERE current_setting('synchronous_commit') = 'off'"
            )
        )
        take_turns(connection, f"window of {consumer}")
        recorded = connection.execute(
            sa.select(windows).where(windows.c.consumer == consumer, windows.c.run_key == run_key)
        ).one_or_none()
        if recorded is None:
            hold_partitions(connection)
            last_upper = connection.scalar(
                sa.select(sa.func.max(windows.c.upper_transaction_id)).where(windows.c.consumer == consumer)
            )
            lower = first_lower if last_upper is None else last_upper
            upper = connection.scalar(
                sa.text(read_statement("warehouse/compute_window_upper")),
                {"lower": lower, "interval_end": end},
            )
            recorded = connection.execute(
                sa.text(read_statement("warehouse/insert_window")),
                {
                    "consumer": consumer,
                    "run_key": run_key,
                    "lower": lower,
                    "upper": upper,
                    "interval_start": start,
                    "interval_end": end,
                },
            ).one()
    return _window(recorded)


def load_window(engine: sa.Engine, window_id: int) -> Window:
    """Return a recorded window; raise WarehouseError when there is none."""
    with engine.connect() as connection:
        recorded = connection.execute(
            sa.select(windows).where(windows.c.window_id == window_id)
        ).one_or_none()
    if recorded is None:
        raise WarehouseError(f"window {window_id} is not recorded; the table windows lists those that are")
    return _window(recorded)


def latest_windows(engine: sa.Engine, consumer: str | None = None, limit: int = 20) -> list[Window]:
    """Return the windows opened last, newest first, of one consumer or of all."""
    query = sa.select(windows).order_by(windows.c.window_id.desc()).limit(limit)
    if consumer is not None:
        query = query.where(windows.c.consumer == consumer)
    with engine.connect() as connection:
        return [_window(row) for row in connection.execute(query)]


def reconcile_window(engine: sa.Engine, window_id: int) -> Reconciliation:
    """Count where the window's rows are, store the counts with the window and return them.

    How many came late or out of order is counted the first time and then stays.
    """
    window = load_window(engine, window_id)
    parameters = {
        "window_id": window_id,
        "lower": window.lower_transaction_id,
        "upper": window.upper_transaction_id,
    }
    with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
        hold_partitions(connection)
        counted = connection.execute(sa.text(read_statement("warehouse/reconcile_window")), parameters).one()
        if counted.late is None:
            counted = connection.execute(
                sa.text(read_statement("warehouse/count_late_feedback")), parameters
            ).one()
    return Reconciliation(**counted._mapping)


def _checked(interval: tuple[datetime, datetime] | None) -> tuple[datetime | None, datetime | None]:
    if interval is None:
        return None, None
    start, end = interval
    if start.tzinfo is None or end.tzinfo is None:
        raise ConfigurationError(
            f"the interval {start} to {end} has no time zone: give both ends one, such as UTC"
        )
    if end < start:
        raise ConfigurationError(f"the interval {start} to {end} ends before it starts")
    return start, end


def _window(row: sa.Row[tuple[object, ...]]) -> Window:
    return Window(**{name: row._mapping[name] for name in Window.__dataclass_fields__})


def learned_windows(engine: sa.Engine, window_id: int, since_transaction_id: int) -> list[int]:
    """Return the windows of the same consumer, up to this one, with feedback from a transaction on."""
    statement = sa.text(read_statement("warehouse/select_learned_windows"))
    with engine.connect() as connection:
        return list(
            connection.scalars(
                statement, {"window_id": window_id, "since_transaction_id": since_transaction_id}
            )
        )
