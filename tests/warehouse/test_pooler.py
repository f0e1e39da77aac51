"""PgBouncer before the warehouse: what works in its two modes, and what it says where it cannot."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.errors import ConfigurationError
from recsys.local.ports import LOOPBACK, any_free_port
from recsys.local.postgres import PostgresServer
from recsys.local.unprivileged import give_to, prefix_for_account, private_id
from recsys.publishing.staging import publishing_session
from recsys.settings import Settings
from recsys.snapshot.full import take_full_snapshot
from recsys.validation.validate import validate_window
from recsys.warehouse.analytics import install_analytics
from recsys.warehouse.engine import connect
from recsys.warehouse.ingest import ingest_file
from recsys.warehouse.migrate import upgrade_warehouse
from recsys.warehouse.roles import ANALYST, WRITER
from recsys.warehouse.windows import open_window, reconcile_window

pytestmark = pytest.mark.slow

_START_SECONDS = 60.0
Pool = Callable[[sa.URL, str], sa.URL]


@pytest.fixture
def pool(postgres: PostgresServer, tmp_path: Path) -> Iterator[Pool]:
    """Start a PgBouncer in a mode before a database; return the URL that leads through it."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if program is None:
        missing = "pgbouncer is not installed, the connection pool of this test: apt-get install pgbouncer"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    started: list[subprocess.Popen[bytes]] = []

    def start(url: sa.URL, mode: str) -> sa.URL:
        port = any_free_port()
        folder = tmp_path / f"pgbouncer-{port}"
        folder.mkdir()
        (folder / "users.txt").write_text(f'"{url.username}" ""\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n{url.database} = host={postgres.socket_dir}\n"
            f"[pgbouncer]\nlisten_addr = {LOOPBACK}\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {folder / 'users.txt'}\npool_mode = {mode}\n"
        )
        user_id = private_id(postgres.data_dir)
        give_to(folder, user_id)
        with (folder / "log").open("wb") as log:
            prefix = prefix_for_account(Path(program), [folder, postgres.socket_dir], user_id)
            started.append(
                subprocess.Popen([*prefix, program, str(folder / "pgbouncer.ini")], stdout=log, stderr=log)
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((LOOPBACK, port)) == 0:
                    break
            words = (folder / "log").read_text()
            assert started[-1].poll() is None and time.monotonic() < deadline, words  # noqa: PT018
            time.sleep(0.05)
        return sa.URL.create(
            "postgresql+psycopg2", url.username, host=LOOPBACK, port=port, database=url.database
        )

    yield start
    for process in started:
        process.terminate()
        process.wait()


def test_the_pipeline_refuses_transaction_mode_and_says_what_to_do(
    postgres: PostgresServer, pool: Pool
) -> None:
    postgres.create_database("pooled")
    url = pool(sa.make_url(postgres.url("pooled")), "transaction").render_as_string(hide_password=False)
    for act in (upgrade_warehouse, connect):
        with pytest.raises(ConfigurationError, match="pool_mode = session"):
            act(url)
    direct = sa.create_engine(postgres.url("pooled"))
    assert sa.inspect(direct).get_table_names() == []
    direct.dispose()


def test_the_pipeline_works_through_session_mode(
    postgres: PostgresServer, pool: Pool, settings: Settings, tmp_path: Path
) -> None:
    postgres.create_database("pooled_sessions")
    url = pool(sa.make_url(postgres.url("pooled_sessions")), "session")
    upgrade_warehouse(url.render_as_string(hide_password=False))
    engine = connect(url.render_as_string(hide_password=False))
    install_analytics(engine)
    file = tmp_path / "feedback.csv"
    file.write_text(
        "event_id,user_id,item_id,event_type,occurred_at\n"
        + "".join(f"e{n},user {n % 5},i,like,2026-03-01T10:{n:02}:00Z\n" for n in range(40))
    )
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO items (item_id, title) VALUES ('i', 'Dune')")
    assert ingest_file(engine, "feedback", file).inserted == 40
    window = open_window(engine, "nightly", "1")
    validate_window(engine, window, settings, tmp_path / "docs")
    assert reconcile_window(engine, window.window_id).balanced
    assert take_full_snapshot(engine, window, settings).rows == 40
    with publishing_session(engine) as connection:
        connection.exec_driver_sql("SELECT count(*) FROM staged_users")
    engine.dispose()


def test_applications_and_analysts_work_through_transaction_mode(
    warehouse: sa.Engine, postgres: PostgresServer, pool: Pool
) -> None:
    install_analytics(warehouse)
    urls = {}
    with warehouse.begin() as connection:
        connection.exec_driver_sql("INSERT INTO items (item_id, title) VALUES ('i', 'Dune')")
        for role in (WRITER, ANALYST):
            name = f"pooled_{role}_{warehouse.url.database}"
            connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN IN ROLE {role}")
            urls[role] = pool(warehouse.url.set(username=name), "transaction")
    shop = [sa.create_engine(urls[WRITER], poolclass=sa.NullPool) for _ in range(3)]
    insert = sa.text(
        "INSERT INTO feedback (event_id, user_id, item_id, event_type, occurred_at)"
        " VALUES (:event, :event, 'i', 'like', '2026-03-01T00:00Z') ON CONFLICT DO NOTHING"
    )
    open_connections = [engine.connect() for engine in shop]
    for number in range(30):
        connection = open_connections[number % 3]
        connection.execute(insert, [{"event": f"e{number}"}, {"event": f"e{number // 2}"}])
        connection.commit()
        connection.exec_driver_sql("SELECT * FROM recommendations")
        connection.rollback()
    for connection in open_connections:
        connection.close()
    assert open_window(warehouse, "nightly", "1").arrived == 30
    analyst = sa.create_engine(urls[ANALYST], poolclass=sa.NullPool)
    with analyst.connect() as connection:
        assert connection.exec_driver_sql("SELECT sum(events) FROM analytics.feedback_by_day").scalar() == 30
    for engine in (*shop, analyst):
        engine.dispose()
