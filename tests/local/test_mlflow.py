"""The embedded stack's MLflow with its logins: who may do what, and who may read its files."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import URLError

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.server import get_app_client

from recsys.errors import ConfigurationError
from recsys.local.components import MLFLOW, real_stack
from recsys.local.home import StackHome
from recsys.local.postgres import PostgresServer
from recsys.registry.connection import mlflow_client, mlflow_errors
from recsys.settings import Settings, load_settings

_READER = ("reader", "a password of a reader")
_PATIENCE = 240.0


@contextmanager
def mlflow_server(home: StackHome) -> Iterator[Settings]:
    """Run the component `mlflow` of a home folder; yield the settings that `recsys up` writes."""
    components, _ = real_stack(home, dict(os.environ), schedules=False)
    [component] = [component for component in components if component.name == "mlflow"]
    with home.log_file("mlflow").open("ab") as log:
        process = subprocess.Popen(
            list(component.command()), env=dict(component.environment), stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + _PATIENCE
        while not _is_healthy(component):
            words = home.log_file("mlflow").read_text()
            assert process.poll() is None and time.monotonic() < deadline, words  # noqa: PT018
            time.sleep(0.1)
        yield load_settings(home.path)
    finally:
        process.terminate()
        process.wait()


def _is_healthy(component: object) -> bool:
    try:
        return bool(component.is_healthy(datetime.now(UTC)))  # type: ignore[attr-defined]
    except (URLError, OSError):
        return False


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackHome]:
    home = StackHome(tmp_path_factory.mktemp("mlflow") / "home")
    home.create()
    server = PostgresServer(home.postgres_data, {"fsync": "off"}, home.log_file("postgres"))
    server.start()
    try:
        server.create_database(MLFLOW)
        yield home
    finally:
        server.stop()


@pytest.fixture(scope="module")
def running(home: StackHome) -> Iterator[Settings]:
    with mlflow_server(home) as settings:
        yield settings


@pytest.fixture(scope="module")
def run_id(running: Settings) -> str:
    """A run with a file, logged with the login in the settings."""
    client = mlflow_client(running)
    run = client.create_run(client.create_experiment("recommender"))
    client.log_text(run.info.run_id, "kept", "note.txt")
    return str(run.info.run_id)


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each test without a login in the environment, and leave none behind."""
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/api/2.0/mlflow/experiments/search?max_results=5"),
        ("POST", "/api/2.0/mlflow/registered-models/create"),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts?path=1"),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/1/models/code.py"),
        ("POST", "/api/2.0/mlflow/users/create"),
        ("GET", "/graphql"),
        ("GET", "/gateway/anything/mlflow/invocations"),
    ],
)
def test_a_stranger_gets_nothing(running: Settings, method: str, path: str) -> None:
    answer = httpx.request(method, f"{running.mlflow_tracking_uri}{path}", trust_env=False)
    assert answer.status_code in (401, 403)


def test_the_pipeline_logs_in_with_its_settings(running: Settings, run_id: str, tmp_path: Path) -> None:
    client = mlflow_client(running)
    assert Path(client.download_artifacts(run_id, "note.txt", str(tmp_path))).read_text() == "kept"


@pytest.mark.parametrize(
    "login",
    [
        {"mlflow_username": None, "mlflow_password": None},
        {"mlflow_username": "eve"},
    ],
)
def test_a_refused_login_says_which_settings_to_correct_and_is_not_retried(
    running: Settings, run_id: str, login: dict[str, str | None]
) -> None:
    settings = running.model_copy(update=login)
    client = mlflow_client(settings)
    for act in (
        lambda: client.get_run(run_id),
        lambda: client.log_text(run_id, "changed", "note.txt"),
    ):
        with pytest.raises(ConfigurationError, match="RECSYS_MLFLOW_PASSWORD"), mlflow_errors(settings, "x"):
            act()


def test_a_user_whom_the_administrator_adds_reads_everything_and_changes_nothing(
    running: Settings, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow_client(running)
    get_app_client("basic-auth", tracking_uri=running.mlflow_tracking_uri).create_user(*_READER)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", _READER[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", _READER[1])
    client = MlflowClient(running.mlflow_tracking_uri)
    assert Path(client.download_artifacts(run_id, "note.txt", str(tmp_path))).read_text() == "kept"
    for change in (
        lambda: client.log_text(run_id, "changed", "note.txt"),
        lambda: client.delete_run(run_id),
        lambda: client.set_tag(run_id, "a", "b"),
    ):
        with pytest.raises(Exception, match=r"403|PERMISSION_DENIED|Permission denied"):
            change()


@pytest.mark.usefixtures("run_id")
def test_files_of_the_server_are_for_their_owner_only(home: StackHome) -> None:
    folder = home.mlflow_artifacts.parent
    found = [path for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o077]
    assert found == []
    assert list(folder.rglob("note.txt"))


def test_a_password_that_was_changed_in_the_home_folder_holds_after_a_restart(home: StackHome) -> None:
    secrets = json.loads((home.path / "secrets.json").read_text()) | {"mlflow_password": "another password"}
    (home.path / "secrets.json").write_text(json.dumps(secrets))
    with mlflow_server(home) as settings:
        assert settings.mlflow_password is not None
        assert settings.mlflow_password.get_secret_value() == "another password"
        mlflow_client(settings).search_experiments()
