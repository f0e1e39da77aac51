"""Continue the loop after a dump was restored into another Postgres cluster.

Windows are ranges of transaction ids, and each cluster counts its own from the start. Without correction,
new rows would get ids below the bound up to which every consumer has read, and no model would ever train
on them. So an offset raises new ids above all ids recorded in the dump.
"""

import logging
from dataclasses import dataclass

import sqlalchemy as sa

from recsys.warehouse.roles import grant_roles
from recsys.warehouse.statements import read_statement

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RestoreReport:
    """The result of `continue_after_restore`.

    Attributes
    ----------
    offset
        Added to the cluster's transaction ids from now on.
    first_new_id
        Lowest transaction id of new rows; every recorded window ends at or below it.
    rows_moved
        Feedback written after the restore and before this call; it is now in the next window, and so are
        slates.
    roles_missing
        Roles that an administrator must create.
    """

    offset: int
    first_new_id: int
    rows_moved: int
    roles_missing: list[str]


def continue_after_restore(engine: sa.Engine) -> RestoreReport:
    """Raise transaction ids above those in the dump, and grant the roles their privileges.

    Call it once after a restore, before the DAGs run. Calling it again changes nothing. Applications may
    already be writing: they wait for a moment, and rows they have written move to the next window.
    """
    with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
        # Waits for open transactions that write to these tables; blocks new ones until commit.
        connection.execute(sa.text("LOCK TABLE feedback, impressions, windows IN SHARE ROW EXCLUSIVE MODE"))
        offset = connection.scalar(sa.text("SELECT warehouse_rebase_transaction_ids()"))
        moved = connection.execute(sa.text(read_statement("upkeep/move_unread_feedback"))).rowcount
        connection.exec_driver_sql(
            read_statement("upkeep/move_unread_impressions"), execution_options={"no_parameters": True}
        )
        missing = grant_roles(connection)
        first = connection.scalar(sa.text("SELECT warehouse_transaction_id()"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE"))  # a dump contains no statistics
    report = RestoreReport(int(offset or 0), int(first or 0), moved, missing)
    logger.info("continued after a restore: %s", report)
    return report
