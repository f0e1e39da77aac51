"""If Postgres stops or is killed between writers and windows, no row is lost or read twice."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import psutil
import pytest
import sqlalchemy as sa

from recsys.local.postgres import PostgresServer
from recsys.warehouse.engine import connect
from recsys.warehouse.migrate import upgrade_warehouse
from recsys.warehouse.windows import Window, load_window, open_window, reconcile_window

INSERT = sa.text(
    "INSERT INTO feedback (event_id, user_id, item_id, event_type) VALUES (:event_id, 'u', 'i', 'view')"
)
Restart = Callable[[PostgresServer, sa.Connection], None]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A separate server that the tests stop and kill."""
    server = PostgresServer(
        tmp_path_factory.mktemp("restarted") / "data",
        settings={
            "autovacuum": "off",
            "max_prepared_transactions": "5",
            # Asynchronous commits stay in memory for long, and are lost when the server is killed.
            "wal_writer_delay": "10s",
            # Only a crash of the whole machine would need fsync.
            "fsync": "off",
        },
    )
    server.start()
    server.create_database("template")
    upgrade_warehouse(server.url("template"))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def engine(server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    name = f"warehouse_{abs(hash(request.node.nodeid))}"
    server.create_database(name, template="template")
    engine = connect(server.url(name))
    yield engine
    engine.dispose()


@pytest.fixture
def open_transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    connection = engine.connect()
    yield connection
    connection.invalidate()
    connection.close()


def stop(server: PostgresServer, _: sa.Connection) -> None:
    server.stop()


def kill_postmaster(server: PostgresServer, _: sa.Connection) -> None:
    assert server.process is not None
    # Until its backends notice, they answer as usual.
    backends = psutil.Process(server.process.pid).children(recursive=True)
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    _, alive = psutil.wait_procs(backends, timeout=60)
    assert alive == []


def kill_backend(server: PostgresServer, victim: sa.Connection) -> None:
    """Kill one server process, so that the postmaster ends all others and recovers."""
    assert server.process is not None
    others = psutil.Process(server.process.pid).children(recursive=True)
    os.kill(backend_pid(victim), signal.SIGKILL)
    with contextlib.suppress(sa.exc.DBAPIError):
        victim.scalar(sa.text("SELECT 1"))
    # On a busy machine the postmaster notices late, and until then still accepts connections.
    _, alive = psutil.wait_procs(others, timeout=60)
    assert alive == []
    server.wait_until_ready()


RESTARTS = pytest.mark.parametrize("end", [stop, kill_postmaster, kill_backend])


def backend_pid(connection: sa.Connection) -> int:
    dbapi_connection = connection.connection.dbapi_connection
    assert dbapi_connection is not None
    return int(dbapi_connection.info.backend_pid)


def write(engine: sa.Engine, *event_ids: str) -> None:
    with engine.begin() as connection:
        for event_id in event_ids:
            connection.execute(INSERT, {"event_id": event_id})


def read(engine: sa.Engine, window: Window) -> list[str]:
    query = sa.text(
        "SELECT event_id FROM feedback WHERE transaction_id >= :lower AND transaction_id < :upper ORDER BY 1"
    )
    bounds = {"lower": window.lower_transaction_id, "upper": window.upper_transaction_id}
    with engine.connect() as connection:
        return list(connection.scalars(query, bounds))


@RESTARTS
def test_windows_continue_after_a_restart(
    server: PostgresServer, engine: sa.Engine, open_transaction: sa.Connection, end: Restart
) -> None:
    write(engine, "a", "b")
    first = open_window(engine, "nightly", "1")
    write(engine, "c")
    open_transaction.execute(INSERT, {"event_id": "never committed"})
    write(engine, "d")
    second = open_window(engine, "nightly", "2")
    assert [read(engine, window) for window in (first, second)] == [["a", "b"], ["c"]]
    end(server, open_transaction)
    server.start()
    write(engine, "e")
    assert open_window(engine, "nightly", "2") == second
    third = open_window(engine, "nightly", "3")
    assert [read(engine, window) for window in (first, second, third)] == [["a", "b"], ["c"], ["d", "e"]]
    assert (third.lower_transaction_id, third.arrived) == (second.upper_transaction_id, 2)
    assert read(engine, open_window(engine, "hourly", "1")) == ["a", "b", "c", "d", "e"]
    for window in (first, second, third):
        assert reconcile_window(engine, window.window_id).balanced


@pytest.mark.parametrize("moment", ["warehouse_horizon", "INSERT INTO windows", "COMMIT"])
@pytest.mark.parametrize("end", [stop, kill_postmaster])
def test_a_window_that_was_being_opened_is_opened_by_the_retry(
    server: PostgresServer, engine: sa.Engine, end: Restart, moment: str
) -> None:
    write(engine, "a")
    dying = sa.create_engine(engine.url)

    @sa.event.listens_for(dying, "before_cursor_execute")
    def before_statement(connection: sa.Connection, cursor: object, statement: str, *_: object) -> None:
        if moment in statement:
            end(server, connection)

    @sa.event.listens_for(dying, "commit")
    def before_commit(connection: sa.Connection) -> None:
        if moment == "COMMIT":
            end(server, connection)

    with pytest.raises(sa.exc.DBAPIError):
        open_window(dying, "nightly", "1")
    dying.dispose()
    server.start()
    write(engine, "b")
    assert read(engine, open_window(engine, "nightly", "1")) == ["a", "b"]


def test_a_window_survives_a_crash_where_applications_commit_asynchronously(
    server: PostgresServer, engine: sa.Engine, open_transaction: sa.Connection
) -> None:
    database = sa.make_url(str(engine.url)).database
    open_transaction.execute(sa.text(f'ALTER DATABASE "{database}" SET synchronous_commit = off'))
    open_transaction.commit()
    engine.dispose()
    write(engine, "a")
    window = open_window(engine, "nightly", "1")
    write(engine, "lost by the application's choice")
    kill_postmaster(server, open_transaction)
    server.start()
    assert load_window(engine, window.window_id) == window
    assert read(engine, window) == ["a"]
    write(engine, "b")
    assert read(engine, open_window(engine, "nightly", "2")) == ["b"]


@RESTARTS
def test_a_prepared_transaction_outlives_the_restart_and_is_in_the_window_after_its_commit(
    server: PostgresServer, engine: sa.Engine, open_transaction: sa.Connection, end: Restart
) -> None:
    open_transaction.execute(INSERT, {"event_id": "prepared"})
    open_transaction.execute(sa.text("PREPARE TRANSACTION 'one'"))
    write(engine, "a")
    first = open_window(engine, "nightly", "1")
    end(server, open_transaction)
    server.start()
    second = open_window(engine, "nightly", "2")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("COMMIT PREPARED 'one'"))
    third = open_window(engine, "nightly", "3")
    assert [read(engine, window) for window in (first, second, third)] == [[], [], ["a", "prepared"]]
