"""Connect to the feedback warehouse."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, OperationalError

from recsys.errors import ConfigurationError, ServiceUnavailableError
from recsys.warehouse.pooling import require_own_session
from recsys.warehouse.private_errors import PrivateConnection

_DRIVER = "postgresql+psycopg2"
_EXAMPLE = f"{_DRIVER}://user:password@host:5432/database"
_CONNECT_TIMEOUT_SECONDS = 10
# Postgres runs but rejects this URL: a retry does not help.
_REFUSALS = ("authentication failed", "does not exist", "no pg_hba.conf entry", "permission denied")
# libpq options that asyncpg accepts in a URL under the same name.
_SHARED_OPTIONS = {
    *("passfile", "service", "target_session_attrs", "krbsrvname", "gsslib", "sslmode", "sslcert", "sslkey"),
    *("sslrootcert", "sslcrl", "sslpassword", "sslnegotiation"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version"),
}
_SERVER_OPTIONS = {"application_name", "options"}
# libpq options that asyncpg lacks and that change neither the data nor the security of a connection.
_DISPENSABLE_OPTIONS = {
    *("client_encoding", "fallback_application_name", "tcp_user_timeout"),
    *("keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval"),
}


def create_engine(
    url: str | sa.URL, *, connect_args: Mapping[str, Any] | None = None, **options: Any
) -> sa.Engine:
    """Return an engine whose errors show neither the parameters of a statement nor the values of a row.

    Every engine on the warehouse is made here: error messages end in task logs, and ids and comments must
    not. Parameters and options are those of `sqlalchemy.create_engine`.
    """
    arguments = {**(connect_args or {}), "connection_factory": PrivateConnection}
    return sa.create_engine(url, connect_args=arguments, hide_parameters=True, **options)


def connect(url: str, **options: Any) -> sa.Engine:
    """Return an engine for the warehouse after one successful connection.

    Parameters
    ----------
    url
        SQLAlchemy URL; `postgres://` and `postgresql://` mean `postgresql+psycopg2://`.
    options
        Options of `sqlalchemy.create_engine`, such as the size of the pool.

    Raises
    ------
    ConfigurationError
        The URL cannot be parsed or is not a Postgres URL, Postgres rejects its user or database, or a
        connection pool in transaction mode is between.
    ServiceUnavailableError
        Postgres does not answer now.
    """
    parsed = warehouse_url(url)
    engine = create_engine(
        parsed, pool_pre_ping=True, connect_args={"connect_timeout": _CONNECT_TIMEOUT_SECONDS}, **options
    )
    sa.event.listen(engine, "connect", _exempt_from_idle_limit)
    try:
        require_own_session(engine)
    except ConfigurationError:
        engine.dispose()
        raise
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


def _exempt_from_idle_limit(connection: Any, _record: object) -> None:
    """Let a transaction wait for MLflow, for example; `recsys migrate` limits all other sessions."""
    with connection.cursor() as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = 0")
    connection.commit()


def warehouse_url(url: str) -> sa.URL:
    """Parse a warehouse URL; raise ConfigurationError if it is not a Postgres URL."""
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError) as error:
        # The URL may contain a password, so the message does not repeat it.
        raise ConfigurationError(
            f"RECSYS_WAREHOUSE_URL is not a database URL; write it like {_EXAMPLE}"
        ) from error
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername=_DRIVER)
    if parsed.drivername != _DRIVER:
        raise ConfigurationError(
            f"RECSYS_WAREHOUSE_URL has the driver {parsed.drivername!r}, but the warehouse must be Postgres "
            f"through psycopg2; write it like {_EXAMPLE}"
        )
    return parsed


def asyncpg_arguments(url: sa.URL) -> dict[str, Any]:
    """Return arguments for `asyncpg.connect` that make the connection psycopg2 makes with this URL.

    asyncpg reads snapshots; everything else goes through psycopg2 (docs/performance.md has the figures).

    Raises
    ------
    ConfigurationError
        The URL has an option that asyncpg does not support.
    """
    options = url.get_dialect()().create_connect_args(url)[1]
    arguments: dict[str, Any] = {"timeout": float(options.pop("connect_timeout", _CONNECT_TIMEOUT_SECONDS))}
    for name, ours in (("host", "host"), ("port", "port"), ("user", "user"), ("dbname", "database")):
        if name in options:
            arguments[ours] = options.pop(name)
    if "password" in options:
        arguments["password"] = options.pop("password")
    for name in ("host", "port"):
        if "," in str(arguments.get(name, "")):
            arguments[name] = arguments[name].split(",")
    if isinstance(arguments.get("port"), list):
        arguments["port"] = [int(port) for port in arguments["port"]]
    shared = {name: options.pop(name) for name in _SHARED_OPTIONS & options.keys()}
    settings = {name: options.pop(name) for name in _SERVER_OPTIONS & options.keys()}
    if unknown := sorted(options.keys() - _DISPENSABLE_OPTIONS):
        raise ConfigurationError(
            f"RECSYS_WAREHOUSE_URL has the option {unknown[0]!r}; asyncpg, which reads snapshots, does not "
            "support it: remove it"
        )
    return {**arguments, "dsn": f"postgresql://?{urlencode(shared)}", "server_settings": settings}
