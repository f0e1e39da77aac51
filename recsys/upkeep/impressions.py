"""Retention of impressions: slates that were shown long ago are deleted."""

import logging

import sqlalchemy as sa

from recsys.settings import Settings
from recsys.warehouse.statements import read_statement

_TOGETHER = 10_000

logger = logging.getLogger(__name__)


def delete_old_impressions(engine: sa.Engine, settings: Settings) -> int:
    """Delete slates that were shown more than `retention.impressions_months` ago; return how many.

    They are deleted in transactions of bounded size, the oldest first, so a killed call can be run again and
    nobody who logs slates waits. Feedback that names a deleted slate stays and counts like feedback whose
    slate was never logged.
    """
    months = settings.retention.impressions_months
    if months is None:
        return 0
    statement = sa.text(read_statement("upkeep/delete_old_impressions"))
    deleted = 0
    while True:
        with engine.begin() as connection:
            together = connection.execute(statement, {"months": months, "limit": _TOGETHER}).rowcount
        deleted += together
        if together < _TOGETHER:
            break
    if deleted:
        logger.info("deleted %d impressions that were shown more than %d months ago", deleted, months)
    return deleted
