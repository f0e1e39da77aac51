"""Install and refresh the schema `analytics`: documented views for questions in SQL.

Each file in `sql/analytics` defines one view, materialised view or function with its comments. The comment
on the schema holds the digest of the installed definitions: installing the same definitions again changes
nothing and blocks no reader.
"""

import logging
from hashlib import sha256
from pathlib import Path

import sqlalchemy as sa
from psycopg2.errors import DependentObjectsStillExist, InvalidTableDefinition

from recsys.errors import ConfigurationError
from recsys.warehouse.advisory_locks import lock
from recsys.warehouse.feedback_counts import update_feedback_counts
from recsys.warehouse.roles import grant_roles
from recsys.warehouse.slates_by_day import update_slates_by_day
from recsys.warehouse.statements import sql_path

logger = logging.getLogger(__name__)

SCHEMA = "analytics"
MIN_PEOPLE = 5
"""People a group needs before a view shows anything about it.

A figure over fewer people would describe one of them. A row about fewer is left out, and a figure about fewer
is null. Only views of the pipeline's own work count rows of any number. A test holds every view to it.
"""


def install_analytics(engine: sa.Engine) -> list[str]:
    """Create or replace every view of the schema in one transaction.

    Plain views are replaced in place and keep the rights granted on them. Views whose columns changed and
    all materialised views are dropped and created again. The roles of analysts and pipeline get their rights
    on every call, because a role may be new.

    Returns
    -------
    Names of the installed objects; empty if these definitions were already installed.

    Raises
    ------
    ConfigurationError
        A view must be dropped, but another object that is not part of recsys uses it.
    """
    files = sorted(sql_path(SCHEMA).glob("*.sql"))
    digest = sha256(b"\0".join(file.name.encode() + b"\0" + file.read_bytes() for file in files)).hexdigest()
    with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
        lock(connection, "install_analytics")
        connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        comment = connection.scalar(
            sa.text("SELECT obj_description(to_regnamespace(:schema)::oid, 'pg_namespace')"),
            {"schema": SCHEMA},
        )
        if comment and str(comment).endswith(digest):
            grant_roles(connection)
            return []
        update_slates_by_day(connection)
        update_feedback_counts(connection)
        for file in sorted(files, key=_is_function):  # functions read views
            _install(connection, file)
        connection.exec_driver_sql(
            f"COMMENT ON SCHEMA {SCHEMA} IS "
            f"'Documented views for analysts, without user ids and whole comments. Definitions {digest}'"
        )
        grant_roles(connection)
    logger.info("installed %d definitions in schema %s", len(files), SCHEMA)
    return [file.stem for file in files]


def refresh_analytics(engine: sa.Engine, *, anew: bool = False) -> list[str]:
    """Refresh the materialised views one after another without blocking their readers.

    Parameters
    ----------
    anew
        Count all slates and all feedback, not only what has changed.

    Returns
    -------
    Names of the refreshed views.
    """
    with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
        update_slates_by_day(connection, anew=anew)
        update_feedback_counts(connection, anew=anew)
    with engine.connect() as connection:
        names = list(
            connection.scalars(
                sa.text("SELECT matviewname FROM pg_matviews WHERE schemaname = :schema ORDER BY 1"),
                {"schema": SCHEMA},
            )
        )
    for name in names:
        with engine.begin() as connection:
            connection.exec_driver_sql(f'REFRESH MATERIALIZED VIEW CONCURRENTLY {SCHEMA}."{name}"')
    logger.info("refreshed %d materialised views in schema %s", len(names), SCHEMA)
    return names


def _is_function(file: Path) -> bool:
    return "create or replace function" in file.read_text(encoding="utf-8")


def _install(connection: sa.Connection, file: Path) -> None:
    statement = file.read_text(encoding="utf-8")
    # Send the file unchanged: a percent sign or a colon in it is not a parameter.
    connection = connection.execution_options(no_parameters=True)
    try:
        if "create materialized view" in statement:
            connection.exec_driver_sql(f"DROP MATERIALIZED VIEW IF EXISTS {SCHEMA}.{file.stem}")
            connection.exec_driver_sql(statement)
            return
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(statement)
        except sa.exc.DBAPIError as error:
            if not isinstance(error.orig, InvalidTableDefinition):
                raise  # the columns did not change, so a new view would not help
            connection.exec_driver_sql(f"DROP VIEW {SCHEMA}.{file.stem}")
            connection.exec_driver_sql(statement)
    except sa.exc.DBAPIError as error:
        if not isinstance(error.orig, DependentObjectsStillExist):
            raise
        raise ConfigurationError(
            f"the view {SCHEMA}.{file.stem} has a new definition, but other objects use the old view: "
            f"{error.orig.diag.message_detail}; drop those, run `recsys migrate`, then create them again"
        ) from error
