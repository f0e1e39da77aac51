import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dotenv import dotenv_values
from rich.console import Console

from recsys.commands import demo_run
from recsys.errors import StackError
from recsys.local.airflow_environment import connection_json
from recsys.local.home import StackHome, keep_private
from recsys.local.packages import require_packages
from recsys.local.ports import LOOPBACK, any_free_port, choose_port, is_free, port_owner


@pytest.fixture
def home(tmp_path: Path) -> StackHome:
    home = StackHome(tmp_path / "home")
    home.create()
    return home


def test_secrets_are_generated_once_and_private(home: StackHome) -> None:
    assert home.stack_id() is None

    assert home.secrets() == home.secrets()
    assert (home.path / "secrets.json").stat().st_mode & 0o077 == 0


def test_a_home_folder_of_an_earlier_release_gets_the_secrets_it_lacks_and_keeps_its_own(
    home: StackHome,
) -> None:
    before = json.loads(home.secrets().model_dump_json())
    older = {name: value for name, value in before.items() if not name.startswith("mlflow")}
    (home.path / "secrets.json").write_text(json.dumps(older))

    found = home.secrets()

    assert found.model_dump().items() >= older.items()
    assert len(found.mlflow_password) >= 12
    assert home.secrets() == found


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> list[str]:
    """Names of what others may read or, as the home folder of root may only be passed, list."""
    return [
        path.relative_to(folder).as_posix()
        for path in [folder, *folder.rglob("*")]
        if path.stat().st_mode & 0o066
    ]


@pytest.mark.usefixtures("open_umask")
def test_a_home_folder_is_private_and_so_is_everything_written_into_it(tmp_path: Path) -> None:
    home = StackHome(tmp_path / "new" / "home")
    home.create()
    assert open_to_others(tmp_path / "new") == []
    keep_private()
    home.secrets()
    home.remember_ports({"airflow": 1})
    subprocess.run(["mkdir", "-p", home.path / "snapshots" / "full"], check=True)
    assert open_to_others(home.path) == []


@pytest.mark.usefixtures("open_umask")
def test_a_home_folder_that_was_left_open_is_closed_and_a_strangers_folder_is_not(tmp_path: Path) -> None:
    home = StackHome(tmp_path / "home")
    home.create()
    home.secrets()
    (home.path / "snapshots" / "full").mkdir(parents=True)
    home.path.chmod(0o755)
    home.create()
    assert (home.path / "snapshots").stat().st_mode & 0o077 == 0
    assert home.path.stat().st_mode & 0o066 == 0
    interrupted = StackHome(tmp_path / "interrupted")
    (interrupted.path / "demo-data").mkdir(parents=True)
    interrupted.create()
    assert open_to_others(interrupted.path) == []
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    (shared / "file of somebody else").write_text("")
    StackHome(shared).create()
    assert shared.stat().st_mode & 0o777 == 0o755


def test_the_demo_makes_its_home_folder_before_it_writes_feedback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path / "home"))
    seen = []

    def prepare(folder: Path, data: Path | None) -> None:
        seen.append(folder.parent.stat().st_mode & 0o066)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_run, "prepare_demo", prepare)
    with pytest.raises(KeyboardInterrupt):
        demo_run.run_demo(Console())
    assert seen == [0]


def test_settings_file_keeps_lines_that_users_added(home: StackHome) -> None:
    home.write_env_file({"RECSYS_WAREHOUSE_URL": "old"})
    home.env_file.write_text(home.env_file.read_text() + "RECSYS_TRAINING__EPOCHS=3\n")

    home.write_env_file({"RECSYS_WAREHOUSE_URL": "it's \\ new"})

    assert dotenv_values(home.env_file) == {
        "RECSYS_TRAINING__EPOCHS": "3",
        "RECSYS_WAREHOUSE_URL": "it's \\ new",
    }


def test_only_one_supervisor_holds_the_lock(home: StackHome) -> None:
    assert home.supervisor_pid() is None
    lock = home.lock()
    assert lock is not None

    assert home.supervisor_pid() == os.getpid()
    assert home.lock() is None
    lock.close()
    assert home.supervisor_pid() is None


def test_error_names_a_home_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StackError, match="RECSYS_HOME"):
        StackHome(tmp_path / "file" / "home").create()


def test_occupied_port_is_replaced_by_a_free_one_and_its_owner_is_known() -> None:
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        taken = other.getsockname()[1]

        assert not is_free(taken)
        assert choose_port(taken, usual=taken) != taken
        assert f"process {os.getpid()}" in port_owner(taken)


def test_two_stacks_that_start_at_once_choose_different_ports() -> None:
    usual = any_free_port()
    choose = f"from recsys.local.ports import choose_port; print(choose_port(None, usual={usual})); input()"
    command = [sys.executable, "-u", "-c", choose]
    # It has chosen its port, and its server does not listen yet.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        assert first.stdout.readline() == f"{usual}\n"
        second = subprocess.run(command, input="\n", capture_output=True, text=True, check=True)
        assert second.stdout != f"{usual}\n"
        assert f"process {first.pid}" in port_owner(usual)
        first.stdin.write("\n")
    assert choose_port(None, usual) == usual


def test_port_used_last_time_is_preferred() -> None:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        remembered = probe.getsockname()[1]

    assert choose_port(remembered, usual=1) == remembered


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql+psycopg2://postgres@localhost/recsys?host=/run/dir",
            {"conn_type": "postgres", "host": "/run/dir", "login": "postgres", "schema": "recsys"},
        ),
        (
            "postgresql+psycopg2://me:p%40ss@db.example:5433/shop?sslmode=require",
            {
                "conn_type": "postgres",
                "host": "db.example",
                "port": 5433,
                "login": "me",
                "password": "p@ss",
                "schema": "shop",
                "extra": {"sslmode": "require"},
            },
        ),
    ],
)
def test_warehouse_url_becomes_an_airflow_connection(url: str, expected: dict[str, object]) -> None:
    assert json.loads(connection_json(url)) == expected


def test_error_names_a_missing_package_and_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    require_packages()
    monkeypatch.setattr("recsys.local.packages._NEEDED", {"embedded-postgres-2": "embedded_postgres_2"})

    with pytest.raises(StackError, match="lacks embedded-postgres-2: run `make install`"):
        require_packages()
