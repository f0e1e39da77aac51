"""Lets the loop go on after a dump was restored into another cluster.

Windows go by transaction ids, and those belong to a cluster: a new one counts from the start. Rows
written there would lie below the bound up to which every consumer has read, and nobody would ever train
on them. So the counting is raised above everything that the dump recorded.
"""

import logging
from dataclasses import dataclass

import sqlalchemy as sa

from recsys.warehouse.roles import grant_roles
from recsys.warehouse.statements import read_statement

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RestoreReport:
    """How the loop goes on.

    Attributes
    ----------
    offset
        What is added to the cluster's transaction ids from now on.
    first_new_id
        Ids of new rows are this or higher; every recorded window ends at or below it.
    rows_moved
        Rows that applications wrote after the restore and before this call, now in the next window.
    roles_missing
        Roles that an administrator must make.
    """

    offset: int
    first_new_id: int
    rows_moved: int
    roles_missing: list[str]


def continue_after_restore(engine: sa.Engine) -> RestoreReport:
    """Raise the counting of transactions above what the dump recorded, and grant the roles their rights.

    Call it once after a restore, before the DAGs run; calling it again changes nothing. Writers may be at
    work already: they wait for a moment, and what they have written is moved to the next window.
    """
    with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
        # Waits for open writers and openers of windows, and holds back new ones until the commit.
        connection.execute(sa.text("LOCK TABLE feedback, windows IN SHARE ROW EXCLUSIVE MODE"))
        offset = connection.scalar(sa.text("SELECT warehouse_rebase_transaction_ids()"))
        moved = connection.execute(sa.text(read_statement("upkeep/move_unread_feedback"))).rowcount
        missing = grant_roles(connection)
        first = connection.scalar(sa.text("SELECT warehouse_transaction_id()"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE"))  # a dump brings no statistics
    report = RestoreReport(int(offset or 0), int(first or 0), moved, missing)
    logger.info("the loop goes on after a restore: %s", report)
    return report
