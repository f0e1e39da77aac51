"""Refuse connection pools that give every transaction another session of the server."""

import sqlalchemy as sa

from recsys.errors import ConfigurationError

# The start tells apart sessions of two servers behind one address.
_SESSION = sa.text("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
_ATTEMPTS = 3


def require_own_session(engine: sa.Engine) -> None:
    """Check that a connection keeps its session of the server between transactions.

    Loading and publishing keep temporary tables, settings and a lock in their session. In the transaction
    mode of PgBouncer and others another client gets the session after each transaction, with all of that.

    Raises
    ------
    ConfigurationError
        Two open connections had the same session.
    """
    for _ in range(_ATTEMPTS):
        with engine.connect() as first, engine.connect() as second:
            # Not kept in the engine's pool, where it would be idle from now on.
            second.detach()
            session = first.execute(_SESSION).one()
            first.rollback()
            if second.execute(_SESSION).one() == session:
                raise ConfigurationError(
                    "RECSYS_WAREHOUSE_URL leads to a connection pool in transaction mode, where temporary "
                    "tables, settings and locks of one client reach another: let it lead to Postgres itself, "
                    "or to a pool with pool_mode = session; applications may keep using transaction mode"
                )
