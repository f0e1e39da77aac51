"""Keep ids and comments out of Postgres' own log, which erasure and retention do not reach."""

import logging
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from recsys.warehouse.engine import connect
from recsys.warehouse.statements import read_statement

logger = logging.getLogger(__name__)

_DEFAULTS = ("log_min_messages", "log_min_error_statement", "log_error_verbosity")
"""Settings that are changed for the database. Others, such as log_statement, are somebody's own choice."""


def quieten_log(connection: sa.Connection) -> None:
    """Keep errors and statements of this database out of the server's log, unless it has its own settings.

    Errors quote values in their message, DETAIL and CONTEXT. Only a superuser, or a role that was granted SET
    on these parameters, can do this; otherwise nothing happens.
    """
    defaults = [
        {"name": row.name, "value": row.wanted} for row in _unsafe(connection) if row.name in _DEFAULTS
    ]
    if defaults:
        connection.execute(sa.text(read_statement("warehouse/set_database_default")), defaults)


def warn_of_values_in_log(url: str) -> str | None:
    """Log a warning if the server's log would show ids or comments of this database; return the warning."""
    # A new session, because a database's settings apply from the next session on.
    engine = connect(url)
    try:
        with engine.connect() as connection:
            unsafe = _unsafe(connection)
            database = connection.scalar(sa.text("SELECT quote_ident(current_database())"))
    finally:
        engine.dispose()
    if not unsafe:
        return None
    settings = ", ".join(f"{row.name} = {row.setting}" for row in unsafe)
    remedy = "; ".join(f"ALTER DATABASE {database} SET {row.name} = {row.wanted}" for row in unsafe)
    warning = (
        f"the warehouse's Postgres can write user ids and comments into its own log ({settings}); ask an "
        f"administrator to run: {remedy}"
    )
    logger.warning(warning)
    return warning


def _unsafe(connection: sa.Connection) -> Sequence[sa.Row[Any]]:
    statement = sa.text(read_statement("warehouse/select_log_settings_that_show_values"))
    return connection.execute(statement).all()
