"""Monthly partitions of feedback."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from psycopg2.errors import LockNotAvailable

from recsys.errors import ServiceUnavailableError
from recsys.warehouse.statements import read_statement

# Months before feedback can be real get no partition of their own: such times are mistakes.
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
# Readers of feedback and writers to the default partition queue behind us while we wait for it.
_LOCK_TIMEOUT = "1s"
_PAUSE_SECONDS = 3.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Partition:
    """One partition and its approximate size."""

    name: str
    bounds: str
    rows: int
    """Postgres' estimate, -1 before the first ANALYZE."""
    bytes: int
    """With indexes."""


def ensure_ahead(engine: sa.Engine, months: int, *, attempts: int = 5) -> int:
    """Make the partitions from last month to `months` ahead; return how many were made.

    Each is a short transaction of its own. It never waits long for a reader that holds the default partition,
    since others would wait behind it; it lets them pass and tries again.

    Parameters
    ----------
    attempts
        Tries of each month, some seconds apart.

    Raises
    ------
    ServiceUnavailableError
        Somebody held the default partition all the time; feedback goes there until the next call.
    """
    return sum(_make_month(engine, ahead, attempts) for ahead in range(-1, months + 1))


def _make_month(engine: sa.Engine, ahead: int, attempts: int) -> int:
    statement = sa.text(
        "SELECT ensure_feedback_partitions(month, month)"
        " FROM (SELECT now() + make_interval(months => :ahead) AS month) AS wanted"
    )
    try:
        return int(_change(engine, statement, {"ahead": ahead}, attempts) or 0)
    except LockNotAvailable as error:
        raise ServiceUnavailableError(
            f"the partition of the month {ahead} months from now was not made: in {attempts} tries a "
            f"transaction held partitions.feedback_default for more than {_LOCK_TIMEOUT}; find it in "
            "pg_stat_activity by its xact_start, end it, and run housekeeping again. Until then such "
            "feedback goes to the default partition"
        ) from error


def _change(engine: sa.Engine, statement: sa.TextClause, parameters: dict[str, object], attempts: int) -> Any:
    """Run a change of the partitions as a short transaction; raise LockNotAvailable after the last try."""
    for attempt in range(1, attempts + 1):
        try:
            # Each statement must see what was committed before it, above all before a lock was granted.
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
    """Take the partitions that are wholly older than some months out of feedback; return how many were.

    A month goes to the schema `retired` as it is, in one transaction. It stays when a consumer's windows
    have not handled all of its rows, when some are held in quarantine, or when the champion has not trained
    on all of it; the log says so. Feedback that comes late for a retired month finds the default partition,
    or a new one.

    Raises
    ------
    ServiceUnavailableError
        Somebody held feedback all the time; the month stays until the next call.
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
                f"the month {month:%Y-%m} was not retired: in {attempts} tries a transaction held feedback "
                f"for more than {_LOCK_TIMEOUT}; find it in pg_stat_activity by its xact_start, or run "
                "housekeeping again later"
            ) from error
        if reason is None:
            retired += 1
            logger.info("feedback of %s is retired", f"{month:%Y-%m}")
        else:
            logger.info("feedback of %s stays: %s", f"{month:%Y-%m}", reason)
    return retired


def ensure_months(engine: sa.Engine, months: Iterable[datetime]) -> None:
    """Make the partitions of some months, up to the next one, if nothing stands in the way.

    When a long query holds the default partition the rows go there, which is slower but right; the
    next call moves them.
    """
    latest = datetime.now(UTC)
    for month in months:
        if not _EARLIEST <= month <= latest:
            continue
        try:
            with engine.begin() as connection:
                connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
                connection.execute(
                    sa.text("SELECT ensure_feedback_partitions(:month, :month)"), {"month": month}
                )
        except sa.exc.OperationalError as error:
            logger.warning("no partition for %s yet, the default one takes its rows: %s", month, error.orig)


def list_partitions(engine: sa.Engine) -> list[Partition]:
    """Return the partitions of feedback, oldest first, the default one last."""
    with engine.connect() as connection:
        rows = connection.execute(sa.text(read_statement("warehouse/select_feedback_partitions")))
        return [Partition(**row._mapping) for row in rows]
