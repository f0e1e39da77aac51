"""Retention of impressions: slates that were shown long ago are deleted."""

import logging

import sqlalchemy as sa

from recsys.settings import Settings
from recsys.warehouse.partitions import drop_old_impressions
from recsys.warehouse.statements import read_statement

_TOGETHER = 10_000

logger = logging.getLogger(__name__)


def delete_old_impressions(engine: sa.Engine, settings: Settings) -> int:
    """Delete slates of months that ended `retention.impressions_months` ago; return how many.

    Partitions that have ended are dropped. What else is as old, in the default partition and in that from
    before there were months, is deleted in transactions of bounded size, the oldest first. A killed call can
    be run again, and nobody who logs slates waits for longer than a second. The table `dropped_impressions`
    counts the slates by month. Feedback that names a deleted slate stays and counts like feedback whose slate
    was never logged.

    Raises
    ------
    ServiceUnavailableError
        Another transaction held impressions in every attempt to drop a partition.
    """
    months = settings.retention.impressions_months
    if months is None:
        return 0
    deleted = drop_old_impressions(engine, months)
    statement = sa.text(read_statement("upkeep/delete_old_impressions"))
    while True:
        with engine.begin() as connection:
            together = int(connection.execute(statement, {"months": months, "limit": _TOGETHER}).scalar_one())
        deleted += together
        if together < _TOGETHER:
            break
    if deleted:
        logger.info("deleted %d impressions that were shown more than %d months ago", deleted, months)
    return deleted


def forget_deleted_impressions(engine: sa.Engine) -> None:
    """Forget why slates were quarantined that are deleted by now."""
    with engine.begin() as connection:
        connection.exec_driver_sql(read_statement("upkeep/delete_orphaned_quarantined_impressions"))
