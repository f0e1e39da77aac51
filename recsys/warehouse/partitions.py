"""Create monthly partitions of feedback and impressions, and take old ones out."""

import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from psycopg2.errors import LockNotAvailable

from recsys.errors import ServiceUnavailableError
from recsys.warehouse.statements import read_statement

# Earlier times are mistakes (see sql/rules/malformed_time.sql): they stay in the default partition.
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
# While we wait for the lock, readers of the table and writers to the default partition queue behind us.
_LOCK_TIMEOUT = "1s"
_PAUSE_SECONDS = 3.0

logger = logging.getLogger(__name__)


def ensure_ahead(engine: sa.Engine, months: int, *, table: str = "feedback", attempts: int = 5) -> int:
    """Create a table's partitions from last month to `months` months ahead; return how many are new.

    Each partition is created in its own short transaction. If a reader holds the default partition, the
    transaction gives up after a second, so that nobody queues behind it for long, and is tried again.

    Parameters
    ----------
    table
        feedback or impressions.
    attempts
        Attempts for each month, a few seconds apart.

    Raises
    ------
    ServiceUnavailableError
        Another transaction held the default partition in every attempt. Until the next call, rows of that
        month go to the default partition.
    """
    return sum(_make_month(engine, table, ahead, attempts) for ahead in range(-1, months + 1))


def _make_month(engine: sa.Engine, table: str, ahead: int, attempts: int) -> int:
    statement = sa.text(
        f"SELECT ensure_{table}_partitions(month, month)"  # noqa: S608
        " FROM (SELECT now() + make_interval(months => :ahead) AS month) AS wanted"
    )
    try:
        return int(_change(engine, statement, {"ahead": ahead}, attempts) or 0)
    except LockNotAvailable as error:
        raise ServiceUnavailableError(
            f"the partition of {table} for the month {ahead} months from now was not created: in {attempts} "
            f"attempts another transaction held partitions.{table}_default for more than {_LOCK_TIMEOUT}. "
            "Find it in pg_stat_activity by its xact_start, end it, and run housekeeping again. Until then "
            "rows of that month go to the default partition"
        ) from error


def _change(engine: sa.Engine, statement: sa.TextClause, parameters: dict[str, object], attempts: int) -> Any:
    """Change partitions in a short transaction; raise LockNotAvailable after the last attempt."""
    for attempt in range(1, attempts + 1):
        try:
            # Each statement must see everything committed before it, in particular before a lock was granted.
            with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
                connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
                return connection.scalar(statement, parameters)
        except sa.exc.OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
            if attempt == attempts:
                raise error.orig from error
            time.sleep(_PAUSE_SECONDS)
    return None


def retire_months(engine: sa.Engine, months: int, *, attempts: int = 5) -> int:
    """Move months of feedback that ended more than `months` months ago to the schema `retired`.

    Each month's partition moves unchanged, in one transaction. A month stays if a consumer's windows have
    not handled all of its rows, if some of its rows are held in quarantine, or if the champion has not
    trained on all of it; the log gives the reason. Later feedback for a retired month goes to the default
    partition or to a new one.

    Returns
    -------
    Number of months that were retired.

    Raises
    ------
    ServiceUnavailableError
        Another transaction held feedback in every attempt. The month stays until the next call.
    """
    with engine.connect() as connection:
        old = connection.scalars(
            sa.text(read_statement("warehouse/select_months_to_retire")), {"months": months}
        ).all()
    retired = 0
    for month in old:
        try:
            reason = _change(
                engine, sa.text("SELECT retire_feedback_month(:month)"), {"month": month}, attempts
            )
        except LockNotAvailable as error:
            raise ServiceUnavailableError(
                f"the month {month:%Y-%m} was not retired: in {attempts} attempts another transaction held "
                f"feedback for more than {_LOCK_TIMEOUT}. Find it in pg_stat_activity by its xact_start and "
                "end it, or run housekeeping again later"
            ) from error
        if reason is None:
            retired += 1
            logger.info("retired the feedback of %s", f"{month:%Y-%m}")
        else:
            logger.info("did not retire the feedback of %s: %s", f"{month:%Y-%m}", reason)
    return retired


def drop_old_impressions(engine: sa.Engine, months: int, *, attempts: int = 5) -> int:
    """Drop partitions of impressions that ended more than `months` months ago; return how many rows went.

    Each partition is dropped in a short transaction that notes its rows in the table dropped_impressions.

    Raises
    ------
    ServiceUnavailableError
        Another transaction held impressions in every attempt. The partition stays until the next call.
    """
    dropped = 0
    while True:
        try:
            rows = _change(
                engine, sa.text("SELECT drop_old_impressions(:months)"), {"months": months}, attempts
            )
        except LockNotAvailable as error:
            raise ServiceUnavailableError(
                f"old impressions were not dropped: in {attempts} attempts another transaction held "
                f"impressions for more than {_LOCK_TIMEOUT}. Find it in pg_stat_activity by its xact_start "
                "and end it, or run housekeeping again later"
            ) from error
        if rows is None:
            return dropped
        dropped += rows


def ensure_months(engine: sa.Engine, months: Iterable[datetime], *, table: str = "feedback") -> None:
    """Create a table's partitions for these months, except those before 1990 or in the future.

    If a long query holds the default partition, rows go there, which is slower but correct. The next call
    moves them.
    """
    latest = datetime.now(UTC)
    for month in months:
        if not _EARLIEST <= month <= latest:
            continue
        try:
            with engine.begin() as connection:
                connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
                connection.execute(
                    sa.text(f"SELECT ensure_{table}_partitions(:month, :month)"), {"month": month}
                )
        except sa.exc.OperationalError as error:
            logger.warning(
                "no partition of %s for %s yet; its rows go to the default partition: %s",
                table,
                month,
                error.orig,
            )
