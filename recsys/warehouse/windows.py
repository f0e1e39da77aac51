"""Windows: record which feedback a run handles, by order of commit.

Each row carries the id of the transaction that wrote it. If the oldest open transaction has id `h`, every
row with a smaller id is already visible or will never be. So a window that ends at `h` misses nothing: rows
of a transaction that is still open have ids of at least `h` and belong to the next window, however early
their clock times are.
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from recsys.errors import ConfigurationError, WarehouseError
from recsys.warehouse.advisory_locks import block_partition_moves, lock
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
    """Counts of where the rows of a window are now.

    Attributes
    ----------
    late
        Rows whose event happened before the consumer's previous window closed, by a moment or by days.
    out_of_order
        Rows whose event happened before that of a row that arrived earlier in the window.
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
        """Whether the counts add up to the rows that arrived."""
        return self.arrived == self.valid + self.quarantined + self.duplicates + self.erased


def open_window(
    engine: sa.Engine,
    consumer: str,
    run_key: str,
    interval: tuple[datetime, datetime] | None = None,
    *,
    first_lower: int = 0,
) -> Window:
    """Record the consumer's next window, or return the one that this run already opened.

    Writers are never blocked. Two runs of one consumer wait for each other.

    Parameters
    ----------
    consumer
        The DAG that reads the windows. Each window starts where the consumer's last one ended.
    run_key
        The run. A call with the same key returns the same window.
    interval
        Start and end of the run's data interval. If the end lies in the past, rows received at or after it
        are left to later windows, so that a late run sees what was known then. The window is empty if
        earlier windows already went past the end.
    first_lower
        Transaction id at which the consumer's first window starts.

    Raises
    ------
    ConfigurationError
        The interval has no time zone or ends before it starts.
    WarehouseError
        Recorded transaction ids are above those of this cluster, so new rows would be in no window.
    """
    start, end = _check_interval(interval)
    # Each statement must see everything committed before it, in particular before the lock was granted.
    reading_committed = engine.execution_options(isolation_level="READ COMMITTED")
    with reading_committed.begin() as connection:
        # If a crash could undo a window, its bounds and transaction ids would be handed out twice.
        connection.execute(
            sa.text(
                "SELECT set_config('synchronous_commit', 'on', true)"
                " WHERE current_setting('synchronous_commit') = 'off'"
            )
        )
        lock(connection, f"window of {consumer}")
        recorded = connection.execute(
            sa.select(windows).where(windows.c.consumer == consumer, windows.c.run_key == run_key)
        ).one_or_none()
        if recorded is None:
            _check_transaction_ids(connection)
            block_partition_moves(connection)
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
    """Return a recorded window; raise WarehouseError if the id does not exist."""
    with engine.connect() as connection:
        recorded = connection.execute(
            sa.select(windows).where(windows.c.window_id == window_id)
        ).one_or_none()
    if recorded is None:
        raise WarehouseError(f"window {window_id} does not exist; `recsys reconcile` lists the windows")
    return _window(recorded)


def latest_windows(engine: sa.Engine, consumer: str | None = None, limit: int = 20) -> list[Window]:
    """Return the latest windows, newest first, of one consumer or of all."""
    query = sa.select(windows).order_by(windows.c.window_id.desc()).limit(limit)
    if consumer is not None:
        query = query.where(windows.c.consumer == consumer)
    with engine.connect() as connection:
        return [_window(row) for row in connection.execute(query)]


def reconcile_window(engine: sa.Engine, window_id: int) -> Reconciliation:
    """Count where the window's rows are now, store the counts with the window and return them.

    Late and out-of-order rows are counted only the first time.
    """
    window = load_window(engine, window_id)
    parameters = {
        "window_id": window_id,
        "lower": window.lower_transaction_id,
        "upper": window.upper_transaction_id,
    }
    with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
        block_partition_moves(connection)
        counted = connection.execute(sa.text(read_statement("warehouse/reconcile_window")), parameters).one()
        if counted.late is None:
            counted = connection.execute(
                sa.text(read_statement("warehouse/count_late_feedback")), parameters
            ).one()
    return Reconciliation(**counted._mapping)


def _check_transaction_ids(connection: sa.Connection) -> None:
    """Raise WarehouseError if ids come from another cluster: rows would lie below bounds already read."""
    found = connection.execute(sa.text(read_statement("warehouse/select_future_id"))).first()
    if found is not None:
        raise WarehouseError(
            f"the warehouse has recorded transaction ids up to {found.recorded}, but this Postgres cluster "
            f"continues at {found.next}, as after a restore, a logical replication or an upgrade by "
            "replication; new feedback would be in no window. Run `recsys after-restore` as the owner of the "
            "tables, then clear the task"
        )


def _check_interval(interval: tuple[datetime, datetime] | None) -> tuple[datetime | None, datetime | None]:
    if interval is None:
        return None, None
    start, end = interval
    if start.tzinfo is None or end.tzinfo is None:
        raise ConfigurationError(
            f"the interval {start} to {end} has no time zone; add one, such as UTC, to both ends"
        )
    if end < start:
        raise ConfigurationError(f"the interval {start} to {end} ends before it starts; swap its ends")
    return start, end


def _window(row: sa.Row[tuple[object, ...]]) -> Window:
    return Window(**{name: row._mapping[name] for name in Window.__dataclass_fields__})


def learned_windows(engine: sa.Engine, window_id: int, since_transaction_id: int) -> list[int]:
    """Return ids of the same consumer's windows, up to this one, with feedback from a transaction id on."""
    statement = sa.text(read_statement("warehouse/select_learned_windows"))
    with engine.connect() as connection:
        return list(
            connection.scalars(
                statement, {"window_id": window_id, "since_transaction_id": since_transaction_id}
            )
        )
