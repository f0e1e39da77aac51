"""Run the HTTP service in this process."""

import socket
from collections.abc import Callable

import sqlalchemy as sa
import uvicorn

from recsys.errors import ConfigurationError
from recsys.serving.champion import Champion
from recsys.serving.http.application import create_application
from recsys.serving.http.guard import is_loopback
from recsys.settings import Settings
from recsys.warehouse.engine import connect

CONNECTIONS = 10
"""Connections to the database; requests beyond wait for one."""
_WAIT_SECONDS = 5.0
_STATEMENT_MILLISECONDS = 5_000
_STOP_SECONDS = 10


def run(settings: Settings, *, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; answers that have begun are finished.

    Parameters
    ----------
    announce
        Called with the address once the service listens.

    Raises
    ------
    ConfigurationError
        The address is not of this machine and no key is set, the port is taken, or the login of
        `RECSYS_WAREHOUSE_URL` may not call the reading functions.
    ServiceUnavailableError
        Postgres does not answer at the start. Later its absence is answered with 503.
    """
    keys = [key.get_secret_value() for key in settings.serving.api_keys]
    if not keys and not is_loopback(host):
        raise ConfigurationError(
            f"{host} can be reached from other machines, and no key is set: set RECSYS_SERVING__API_KEYS to "
            "a JSON list of keys (make one with `openssl rand -hex 32`), or listen on 127.0.0.1"
        )
    engine = open_engine(settings.require_warehouse_url())
    # Not limited: reading a large catalogue takes longer than a list may.
    own = connect(settings.require_warehouse_url(), pool_size=1, max_overflow=1)
    try:
        listener = _listen(host, port)
        shown = f"[{host}]" if ":" in host else host
        announce(f"listening on http://{shown}:{listener.getsockname()[1]}")
        # No access log: paths hold user ids.
        configuration = uvicorn.Config(
            create_application(engine, keys=keys, champion=Champion(settings, own)),
            access_log=False,
            log_level="warning",
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
        uvicorn.Server(configuration).run(sockets=[listener])
    finally:
        own.dispose()
        engine.dispose()


def open_engine(url: str) -> sa.Engine:
    """Return a pool of connections after checking that their login may read lists."""
    engine = connect(url, pool_size=CONNECTIONS, max_overflow=0, pool_timeout=_WAIT_SECONDS)
    sa.event.listen(engine, "connect", _limit_statements)
    engine.dispose()  # connections from before the limit
    allowed = sa.text(
        "SELECT count(*) FILTER (WHERE has_schema_privilege(pronamespace, 'USAGE')"
        " AND has_function_privilege(pg_proc.oid, 'EXECUTE')) FROM pg_proc"
        " JOIN pg_namespace ON pg_namespace.oid = pronamespace"
        " WHERE nspname = 'serving' AND proname IN ('recommend', 'trending')"
    )
    with engine.connect() as connection:
        found = connection.execute(allowed).scalar_one()
    if not found:
        engine.dispose()
        raise ConfigurationError(
            "the login of RECSYS_WAREHOUSE_URL may not call the reading functions: run `recsys migrate` as "
            "the owner of the warehouse, and use a login that is a member of recsys_writer, or of "
            "recsys_reader, which cannot take feedback"
        )
    return engine


def _limit_statements(connection: object, _record: object) -> None:
    """Bound every statement, so that one that hangs does not hold its connection."""
    with connection.cursor() as cursor:  # type: ignore[attr-defined]
        cursor.execute(f"SET statement_timeout = {_STATEMENT_MILLISECONDS}")
    connection.commit()  # type: ignore[attr-defined]


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
        )
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
