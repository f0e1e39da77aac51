"""The roles of the warehouse: who may do what in this database."""

import logging

import sqlalchemy as sa

WRITER = "recsys_writer"
"""Applications: add feedback and slates, keep items and users, read recommendations."""
PIPELINE = "recsys_pipeline"
"""The DAGs: everything but the schema itself."""
ANALYST = "recsys_analyst"
"""People and BI tools: the schema `analytics` and nothing else."""

logger = logging.getLogger(__name__)


def grant_roles(connection: sa.Connection) -> list[str]:
    """Make the roles that are missing and grant each its rights in this database.

    Returns
    -------
    Roles that are missing still, because the connected user may not create roles. The warehouse works
    without them.
    """
    missing = list(connection.scalar(sa.text("SELECT warehouse_grant_roles()")) or [])
    # A dump of an older release, restored but not migrated yet, lacks it.
    if connection.scalar(sa.text("SELECT to_regprocedure('warehouse_grant_retired()') IS NOT NULL")):
        connection.execute(sa.text("SELECT warehouse_grant_retired()"))
    if missing:
        logger.warning(
            "the roles %s are missing and this user may not create roles: let an administrator run %s, then "
            "run `recsys migrate` again",
            ", ".join(missing),
            "; ".join(f"CREATE ROLE {role} NOLOGIN" for role in missing),
        )
    return missing
