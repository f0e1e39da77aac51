"""Counts of slates by day, which views of the schema `analytics` add up.

A refresh counts the days anew that have new slates, new reactions or noted changes, each from all of its
rows. So a day that is counted twice, or that changes meanwhile, is right all the same. New rows are found by
their transaction ids, from the oldest transaction on that was open at the last refresh. Triggers note the
days of rows that change or are deleted.
"""

import logging

import sqlalchemy as sa

from recsys.warehouse.advisory_locks import SLATES_BY_DAY, block_partition_moves, lock
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import changed_slate_days, slates_by_day_progress

logger = logging.getLogger(__name__)

_ALL_DAYS = ("-infinity", "infinity")


def update_slates_by_day(connection: sa.Connection, *, anew: bool = False) -> list[tuple[str, str]]:
    """Bring the table `slates_by_day` up to date in the caller's transaction.

    Its isolation level must be READ COMMITTED: after a wait for another refresh, it must see what that wrote.

    Parameters
    ----------
    anew
        Count all days, as the first call does.

    Returns
    -------
    Ranges of UTC days that were counted, both ends included.
    """
    lock(connection, SLATES_BY_DAY)
    block_partition_moves(connection)
    lower = connection.scalar(sa.select(slates_by_day_progress.c.through_transaction_id))
    # After a restore the cluster may count from the start again.
    upper = connection.scalar(
        sa.text("SELECT greatest(CAST(:lower AS bigint), warehouse_horizon())"), {"lower": lower}
    )
    day = sa.cast(changed_slate_days.c.day, sa.Text)
    noted = connection.scalars(sa.delete(changed_slate_days).returning(day)).all()
    if anew or lower is None or None in noted:
        ranges = [_ALL_DAYS]
    else:
        changed = connection.execute(
            sa.text(read_statement("warehouse/select_changed_slate_days")),
            {"lower": lower, "noted": sorted(set(noted))},
        )
        ranges = [(row.first_day, row.last_day) for row in changed]
    for first_day, last_day in ranges:
        between = {"first_day": first_day, "last_day": last_day}
        connection.execute(sa.text(read_statement("warehouse/delete_slates_by_day")), between)
        connection.execute(sa.text(read_statement("warehouse/insert_slates_by_day")), between)
    connection.execute(sa.text(read_statement("warehouse/merge_slates_by_day_progress")), {"upper": upper})
    logger.info("counted the slates of %d ranges of days", len(ranges))
    return ranges
