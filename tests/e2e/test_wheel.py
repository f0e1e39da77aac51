"""The wheel, installed in a new environment outside the repository, runs the whole loop."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys.local.stack import stop_stack
from tests.deployment.compose import REPOSITORY
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

_NOT_INHERITED = ("PYTHONPATH", "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST")
"""Variables that would bring code from the repository into the new environment."""
_UV = Path(sys.executable).with_name("uv")
# uv does not read pip's variable for local wheel folders.
_ENVIRONMENT = os.environ | {
    "UV_FIND_LINKS": os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS", "")
}


def _run(*command: str | Path, folder: Path, environment: dict[str, str] = _ENVIRONMENT) -> str:
    """Run a program and return its output."""
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=1800
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel that `make wheel` builds."""
    folder = tmp_path_factory.mktemp("dist")
    pins = REPOSITORY / "constraints.txt"
    _run(_UV, "build", "--wheel", "--build-constraint", pins, "--out-dir", folder, folder=REPOSITORY)
    (built,) = folder.glob("recsys-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a new environment with the wheel and its extra `local`."""
    folder = tmp_path_factory.mktemp("installed")
    _run(_UV, "venv", "--python", sys.executable, "environment", folder=folder)
    programs = folder / "environment" / "bin"
    _run(
        *(_UV, "pip", "install", "--python", programs / "python"),
        *("--constraint", REPOSITORY / "constraints.txt", f"recsys[local] @ {wheel.as_uri()}"),
        folder=folder,
    )
    return programs


@pytest.fixture
def new_stack(tmp_path: Path) -> Iterator[Stack]:
    """An empty home folder and the files of the demo; the stack of the other tests is not used."""
    new_stack = Stack(tmp_path)
    yield new_stack
    stop_stack(new_stack.home)


def test_wheel_contains_the_package_with_its_folders_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        members = set(archive.namelist())
    files = {
        path.relative_to(REPOSITORY)
        for folder in ("recsys", "sql", "dags", "plugins")
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }

    packaged = {str(path if path.parts[0] == "recsys" else "recsys" / path) for path in files}

    assert {name for name in members if ".dist-info/" not in name} == packaged


def test_demo_runs_from_the_wheel_in_any_folder(installed: Path, new_stack: Stack, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {n: v for n, v in new_stack.environment.items() if n not in _NOT_INHERITED}
    environment["PATH"] = os.pathsep.join([str(installed), os.environ["PATH"]])

    where = _run(
        installed / "python", "-c", "import recsys; print(recsys.__file__)", folder=elsewhere,
        environment=environment,
    )  # fmt: skip
    output = _run(
        installed / "recsys", "demo", "--data", new_stack.data, folder=elsewhere, environment=environment
    )

    assert Path(where.strip()).is_relative_to(installed.parent)
    report = json.loads((new_stack.home / "demo-report.json").read_text())
    assert report["nightly"]["state"] == report["hourly"]["state"] == "success", output[-4000:]
    assert report["champion_version"] == "2"
    assert report["reconciled"] is True
    assert list(elsewhere.iterdir()) == []
    assert new_stack.processes() == []
