"""Connections to the feedback warehouse."""

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, OperationalError

from recsys.errors import ConfigurationError, ServiceUnavailableError

_DRIVER = "postgresql+psycopg2"
_EXAMPLE = f"{_DRIVER}://user:password@host:5432/database"
_CONNECT_TIMEOUT_SECONDS = 10
# What Postgres answers when it runs but this URL is not let in: waiting does not help.
_REFUSALS = ("authentication failed", "does not exist", "no pg_hba.conf entry", "permission denied")


def connect(url: str) -> sa.Engine:
    """Return an engine on the warehouse after one successful connection.

    Parameters
    ----------
    url
        SQLAlchemy URL; `postgres://` and `postgresql://` are taken as `postgresql+psycopg2://`.

    Raises
    ------
    ConfigurationError
        The URL cannot be parsed, is not of a Postgres, or names an unknown user or database.
    ServiceUnavailableError
        Nothing answers there now.
    """
    parsed = warehouse_url(url)
    engine = sa.create_engine(
        parsed, pool_pre_ping=True, connect_args={"connect_timeout": _CONNECT_TIMEOUT_SECONDS}
    )
    try:
        engine.connect().close()
    except OperationalError as error:
        engine.dispose()
        reason = str(error.orig).strip()
        shown = parsed.render_as_string(hide_password=True)
        if any(refusal in reason for refusal in _REFUSALS):
            raise ConfigurationError(
                f"the warehouse at {shown} refuses the connection: {reason}; check user, password and "
                "database in RECSYS_WAREHOUSE_URL"
            ) from error
        raise ServiceUnavailableError(
            f"no Postgres answers at {shown}: {reason}; start it (`recsys up` for the embedded stack) or "
            "correct RECSYS_WAREHOUSE_URL"
        ) from error
    return engine


def warehouse_url(url: str) -> sa.URL:
    """Parse a warehouse URL; raise ConfigurationError when it is not one of a Postgres."""
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError) as error:
        # The URL may carry a password, so it is not repeated here.
        raise ConfigurationError(
            f"RECSYS_WAREHOUSE_URL is not a database URL; it looks like {_EXAMPLE}"
        ) from error
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername=_DRIVER)
    if parsed.drivername != _DRIVER:
        raise ConfigurationError(
            f"the warehouse must be a Postgres reached through psycopg2, not {parsed.drivername!r}; "
            f"RECSYS_WAREHOUSE_URL looks like {_EXAMPLE}"
        )
    return parsed
