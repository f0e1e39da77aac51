"""What Postgres writes into its own log, which neither erasure nor retention reaches."""

import io
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy as sa

from recsys.local.postgres import PostgresServer
from recsys.warehouse.analytics import install_analytics
from recsys.warehouse.migrate import upgrade_warehouse
from recsys.warehouse.server_log import warn_of_values_in_log
from tests.deployment.compose import load_compose_file

# What a server has that nobody has configured.
USUAL = {"log_min_messages": "warning", "log_min_error_statement": "error", "log_error_verbosity": "default"}
SECRET = "zq7f"
INSERT = "INSERT INTO feedback (event_id, user_id, item_id, event_type, comment, value, occurred_at)"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., PostgresServer]]:
    """Start a server with these settings."""
    servers: list[PostgresServer] = []

    def started(**settings: str) -> PostgresServer:
        server = PostgresServer(tmp_path / "data", {"fsync": "off", **settings}, tmp_path / "log")
        server.start()
        server.create_database("shop")
        servers.append(server)
        return server

    yield started
    for server in servers:
        server.stop()


def migrate(server: PostgresServer, user: str = "postgres") -> str | None:
    url = server.url("shop").replace("postgres@", f"{user}@")
    upgrade_warehouse(url)
    engine = sa.create_engine(url)
    install_analytics(engine)
    engine.dispose()
    return warn_of_values_in_log(url)


def do_what_applications_do_wrong(server: PostgresServer) -> None:
    """Insert, copy and wait in every way that fails; be killed in the middle of a statement."""

    def open_session() -> psycopg2.extensions.connection:
        session = psycopg2.connect(host=str(server.socket_dir), user="postgres", dbname="shop")
        session.autocommit = True
        return session

    session, other = open_session(), open_session()
    cursor = session.cursor()
    row = (f"event-{SECRET}", f"user-{SECRET}", "i", "like", f"comment-{SECRET}")
    insert = f"{INSERT} VALUES (%s, %s, %s, %s, %s, %s, now())"
    for values in ((*row[:3], None, row[4], 1), (*row, f"comment-{SECRET}")):
        with pytest.raises(psycopg2.Error):
            cursor.execute(insert, values)
    for line in (f"user-{SECRET},t\nuser-{SECRET},t\n", f"user-{SECRET},comment-{SECRET}\n"):
        with pytest.raises(psycopg2.Error):
            cursor.copy_expert("COPY users (user_id, consent) FROM STDIN (FORMAT csv)", io.StringIO(line))
    # A wait for a lock is no error, but is logged with statement and CONTEXT.
    other.autocommit = False
    other.cursor().execute("INSERT INTO users (user_id) VALUES (%s)", (f"waiting-{SECRET}",))
    cursor.execute("SET log_lock_waits = on; SET deadlock_timeout = '10ms'; SET lock_timeout = '200ms'")
    for wait in (
        lambda: cursor.execute("INSERT INTO users (user_id) VALUES (%s)", (f"waiting-{SECRET}",)),
        lambda: cursor.copy_expert("COPY users (user_id) FROM STDIN", io.StringIO(f"waiting-{SECRET}\n")),
    ):
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            wait()
    other.close()
    # The server's main process reports the statement of a process that was killed.
    victim = psycopg2.connect(host=str(server.socket_dir), user="postgres", dbname="shop", async_=True)
    _wait(victim)
    victim.cursor().execute("SELECT pg_sleep(60), %s", (f"killed-{SECRET}",))
    pid = victim.info.backend_pid
    while not _runs(cursor, pid):
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    session.close()
    while "terminated by signal 9" not in server.log_file.read_text():
        time.sleep(0.01)
    server.wait_until_ready()


def _wait(session: psycopg2.extensions.connection) -> None:
    while session.poll() != psycopg2.extensions.POLL_OK:
        time.sleep(0.01)


def _runs(cursor: psycopg2.extensions.cursor, pid: int) -> bool:
    cursor.execute("SELECT query LIKE '%%pg_sleep%%' FROM pg_stat_activity WHERE pid = %s", (pid,))
    return bool(cursor.fetchone()[0])


def test_an_unconfigured_server_would_log_ids_and_comments(start: Callable[..., PostgresServer]) -> None:
    server = start(**USUAL)
    upgrade_warehouse(server.url("shop"))
    do_what_applications_do_wrong(server)
    log = server.log_file.read_text()
    for word in ("user", "event", "comment", "waiting", "killed"):
        assert f"{word}-{SECRET}" in log


def test_the_embedded_server_logs_no_ids_and_comments(start: Callable[..., PostgresServer]) -> None:
    server = start()
    assert migrate(server) is None
    do_what_applications_do_wrong(server)
    log = server.log_file.read_text()
    assert "still waiting for" in log
    assert SECRET not in log


def test_the_compose_file_configures_the_server_like_the_embedded_one() -> None:
    _, *words = load_compose_file()["services"]["postgres"]["command"]
    settings = dict(word.split("=") for word in words if word != "-c")
    embedded = PostgresServer(Path("/nowhere")).command()
    assert settings.keys() == USUAL.keys()
    for name, value in settings.items():
        assert f"{name}={value}" in embedded


def test_a_superuser_who_migrates_keeps_errors_of_this_database_out_of_the_log(
    start: Callable[..., PostgresServer],
) -> None:
    server = start(**USUAL | {"log_error_verbosity": "terse"})
    assert migrate(server) is None
    do_what_applications_do_wrong(server)
    assert SECRET not in server.log_file.read_text()


def test_another_owner_who_migrates_is_told_what_an_administrator_must_run(
    start: Callable[..., PostgresServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = start(**USUAL, log_min_duration_statement="1000")
    root = sa.create_engine(server.url("shop"), isolation_level="AUTOCOMMIT")
    run = root.connect().exec_driver_sql
    run("CREATE EXTENSION vector")
    run("CREATE ROLE owner LOGIN")
    run("ALTER DATABASE shop OWNER TO owner")

    with caplog.at_level(logging.WARNING):
        warning = migrate(server, "owner")

    assert warning is not None
    assert warning in caplog.text
    assert "\n" not in warning
    assert "log_min_messages = warning" in warning
    for statement in warning.partition("run: ")[2].split("; "):
        run(statement)
    assert migrate(server, "owner") is None
    root.dispose()


def test_what_an_administrator_has_set_for_the_database_stays_and_is_warned_of(
    start: Callable[..., PostgresServer],
) -> None:
    server = start()
    root = sa.create_engine(server.url("shop"), isolation_level="AUTOCOMMIT")
    with root.connect() as connection:
        connection.exec_driver_sql("ALTER DATABASE shop SET log_min_messages = 'error'")
    root.dispose()
    assert "SET log_min_messages = log" in str(migrate(server))
