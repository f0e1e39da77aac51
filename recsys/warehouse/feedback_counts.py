"""Counts of feedback by person, item and day of arrival, which views of the schema `analytics` add up.

A refresh counts anew, each from all of their rows, the people with new or changed feedback and the days on
which such feedback arrived. What has changed about the people is added to the items. So a person who is
counted twice, or whose rows change meanwhile, is right all the same. New rows are found by their transaction
ids, from the oldest transaction on that was open at the last refresh. Triggers note the people and days of
rows that change or are deleted.
"""

import logging

import sqlalchemy as sa

from recsys.warehouse.advisory_locks import SLATES_BY_DAY, block_partition_moves, lock
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import (
    changed_feedback,
    feedback_by_item,
    feedback_by_user,
    feedback_counts_progress,
    feedback_lag_by_day,
)

logger = logging.getLogger(__name__)


def update_feedback_counts(connection: sa.Connection, *, anew: bool = False) -> int:
    """Bring the counts of feedback up to date in the caller's transaction.

    Its isolation level must be READ COMMITTED: after a wait for another refresh, it must see what that wrote.

    Parameters
    ----------
    anew
        Count everybody's feedback, as the first call does.

    Returns
    -------
    Number of people whose feedback was counted.
    """
    lock(connection, SLATES_BY_DAY)
    block_partition_moves(connection)
    lower = connection.scalar(sa.select(feedback_counts_progress.c.through_transaction_id))
    # After a restore the cluster may count from the start again.
    upper = connection.scalar(
        sa.text("SELECT greatest(CAST(:lower AS bigint), warehouse_horizon())"), {"lower": lower}
    )
    _run(connection, "create_changed_feedback")
    of_anybody = changed_feedback.c.user_id.is_(None) & changed_feedback.c.arrival_day.is_(None)
    everything_noted = connection.execute(sa.delete(changed_feedback).where(of_anybody)).rowcount > 0
    if anew or lower is None or everything_noted:
        # The items' rows lose what the people's rows lose, and go last.
        for table in (changed_feedback, feedback_lag_by_day, feedback_by_user, feedback_by_item):
            connection.execute(sa.delete(table))
        lower = 0
    _run(connection, "insert_changed_people", lower=lower)
    _run(connection, "insert_first_reads")
    _run(connection, "insert_changed_arrival_days", lower=lower)
    connection.exec_driver_sql("ANALYZE changed_people, changed_arrival_days, first_reads")
    _run(connection, "merge_feedback_by_user")
    _run(connection, "delete_people_without_feedback")
    _run(connection, "finish_feedback_by_item")
    _run(connection, "delete_feedback_lag_by_day")
    _run(connection, "insert_feedback_lag_by_day")
    _run(connection, "merge_feedback_counts_progress", upper=upper)
    people: int = connection.scalar(sa.text("SELECT count(*) FROM changed_people"))
    connection.exec_driver_sql("DROP TABLE changed_people, changed_arrival_days, first_reads")
    logger.info("counted the feedback of %d people", people)
    return people


def _run(connection: sa.Connection, name: str, **parameters: object) -> None:
    connection.execute(sa.text(read_statement(f"warehouse/{name}")), parameters)
