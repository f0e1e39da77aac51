"""Monthly partitions of feedback."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from recsys.warehouse.statements import read_statement

# Months before feedback can be real get no partition of their own: such times are mistakes.
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
_LOCK_TIMEOUT = "5s"

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


def ensure_ahead(engine: sa.Engine, months: int) -> int:
    """Make the partitions from last month to `months` ahead; return how many were made."""
    with engine.begin() as connection:
        made = connection.scalar(
            sa.text(
                "SELECT ensure_feedback_partitions("
                "now() - interval '1 month', now() + make_interval(months => :months))"
            ),
            {"months": months},
        )
    return int(made or 0)


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
        rows = connection.execute(sa.text(read_statement("select_feedback_partitions")))
        return [Partition(**row._mapping) for row in rows]
