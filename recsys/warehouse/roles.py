"""Database roles of the warehouse and their rights."""

import logging

import sqlalchemy as sa

from recsys.warehouse.server_log import quieten_log
from recsys.warehouse.statements import read_statement

WRITER = "recsys_writer"
"""Role of applications: add feedback and slates, maintain items and users, read recommendations."""
PIPELINE = "recsys_pipeline"
"""Role of the DAGs: everything except changes of the schema."""
ANALYST = "recsys_analyst"
"""Role of people and BI tools: read the schema `analytics` and nothing else."""
PAGE = "recsys_page"
"""Role of the Recommender page: read the schema `analytics`, windows and the results of validation."""

# Tables and views of the pipeline that are newer than the function `warehouse_grant_roles`, with its rights.
_LATER_TABLES = {
    "alerts": "SELECT, INSERT, UPDATE",
    "changed_feedback": "SELECT, DELETE",
    "changed_slate_days": "SELECT, DELETE",
    "champion_comparisons": "SELECT, INSERT, UPDATE, DELETE",
    "comment_sentiment": "SELECT, INSERT, UPDATE, DELETE",
    "experiment_readouts": "SELECT, INSERT",
    "experiments": "SELECT, INSERT, UPDATE",
    "dropped_impressions": "SELECT, INSERT, UPDATE",
    "erased_users": "SELECT, INSERT, DELETE",
    "feedback_by_item": "SELECT, UPDATE, DELETE",
    "feedback_by_user": "SELECT, INSERT, UPDATE, DELETE",
    "feedback_counts_progress": "SELECT, INSERT, UPDATE",
    "feedback_lag_by_day": "SELECT, INSERT, DELETE",
    "fresh_feedback": "SELECT, UPDATE, DELETE",  # UPDATE to lock rows
    "interleaved_lists": "SELECT, INSERT, DELETE",
    "item_changes": "SELECT, DELETE",
    "item_lists": "SELECT, INSERT, UPDATE, DELETE",
    "item_phrases": "SELECT, INSERT, UPDATE, DELETE",
    "item_summaries": "SELECT, INSERT, UPDATE, DELETE",
    "judged_impressions": "SELECT, INSERT",
    "languages": "SELECT",
    "list_summaries": "SELECT, INSERT, UPDATE, DELETE",
    "model_files": "SELECT, INSERT, UPDATE, DELETE",
    "model_versions": "SELECT, INSERT, UPDATE",
    "monitored_figures": "SELECT, INSERT, UPDATE, DELETE",
    "noisy_feedback": "SELECT, INSERT, UPDATE, DELETE",
    "published_items": "SELECT, INSERT, UPDATE, DELETE",
    "quarantined_impressions": "SELECT, INSERT, UPDATE, DELETE",
    "search_trials": "SELECT, INSERT, UPDATE",
    "searches": "SELECT, INSERT, UPDATE",
    "superiority_tests": "SELECT, INSERT",
    "shared_lists": "SELECT, INSERT, DELETE",
    "reactions_to_slates": "SELECT",
    "row_violations": "SELECT, INSERT, UPDATE, DELETE",
    "slates_by_day": "SELECT, INSERT, DELETE",
    "slates_by_day_progress": "SELECT, INSERT, UPDATE",
    "user_eligibility": "SELECT",
    "valid_impressions": "SELECT",
}
_LIMITS = {
    "idle_in_transaction_session_timeout": "10min",
    "client_connection_check_interval": "10s",
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
}

logger = logging.getLogger(__name__)


def grant_roles(connection: sa.Connection) -> list[str]:
    """Create missing roles, grant each role its rights in this database, and set the database's defaults.

    Returns
    -------
    Roles that are still missing because the connected user may not create roles. The warehouse works
    without them.
    """
    missing = list(connection.scalar(sa.text("SELECT warehouse_grant_roles()")) or [])
    create_role(connection, PAGE)
    connection.exec_driver_sql(
        read_statement("warehouse/grant_page_role"), execution_options={"no_parameters": True}
    )
    if not connection.scalar(sa.text("SELECT to_regrole(:role) IS NOT NULL"), {"role": PAGE}):
        missing.append(PAGE)
    # The function is missing in a restored dump of an older release until it is migrated.
    if connection.scalar(sa.text("SELECT to_regprocedure('warehouse_grant_retired()') IS NOT NULL")):
        connection.execute(sa.text("SELECT warehouse_grant_retired()"))
    _limit_sessions(connection)
    quieten_log(connection)
    _reserve_advisory_locks(connection)
    # Default privileges cover these tables when they are created, but a restored dump contains no grants.
    both = sa.text("SELECT to_regclass(:table) IS NOT NULL AND to_regrole(:role) IS NOT NULL")
    for table, rights in _LATER_TABLES.items():
        if connection.scalar(both, {"table": table, "role": PIPELINE}):
            connection.execute(sa.text(f"GRANT {rights} ON {table} TO {PIPELINE}"))
    for grants in (
        "grant_item_meaning",
        "grant_visitors",
        "grant_placement",
        "grant_impressions",
        "grant_staging",
    ):
        connection.exec_driver_sql(read_statement(f"warehouse/{grants}"))
    if missing:
        logger.warning(
            "the roles %s are missing and this user may not create roles; ask an administrator to run %s, "
            "then run `recsys migrate` again",
            ", ".join(missing),
            "; ".join(f"CREATE ROLE {role} NOLOGIN" for role in missing),
        )
    return missing


def create_role(connection: sa.Connection, role: str) -> None:
    """Create a role unless it exists or the connected user may not create roles."""
    connection.execute(sa.text("SELECT set_config('recsys.role', :role, true)"), {"role": role})
    connection.exec_driver_sql(
        read_statement("warehouse/create_role"), execution_options={"no_parameters": True}
    )


def _limit_sessions(connection: sa.Connection) -> None:
    """Set time-outs for all sessions of the database, unless it has its own.

    A database's settings are in no dump. Settings of a role would not reach its members.
    """
    statement = sa.text(read_statement("warehouse/set_database_default"))
    connection.execute(statement, [{"name": name, "value": value} for name, value in _LIMITS.items()])


def _reserve_advisory_locks(connection: sa.Connection) -> None:
    """Let only the owner of the tables and the pipeline take advisory locks; only a superuser can do this."""
    connection.exec_driver_sql(
        read_statement("warehouse/reserve_advisory_locks"), execution_options={"no_parameters": True}
    )
