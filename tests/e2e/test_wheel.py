"""The wheel, installed in a new environment outside the repository, runs the whole loop."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.e2e.demo_machine import Machine

from tests.compose_file import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

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


def _members(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_wheel_contains_the_package_and_its_folders_and_nothing_else(wheel: Path) -> None:
    members = _members(wheel)

    assert {name.split("/")[0] for name in members} == {"recsys", members[-1].split("/")[0]}
    for folder in ("sql", "dags", "plugins"):
        tracked = _run("git", "ls-files", folder, folder=REPOSITORY).split()
        assert tracked
        assert {name for name in members if name.startswith(f"recsys/{folder}/")} == {
            f"recsys/{path}" for path in tracked
        }


def test_demo_runs_from_the_wheel_in_any_folder(installed: Path, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    own = {name: value for name, value in machine.environment.items() if name != "PYTHONPATH"}
    environment = own | {"PATH": os.pathsep.join([str(installed), os.environ["PATH"]])}

    where = _run(
        installed / "python", "-c", "import recsys; print(recsys.__file__)", folder=elsewhere,
        environment=environment,
    )  # fmt: skip
    output = _run(
        installed / "recsys", "demo", "--data", machine.data, folder=elsewhere, environment=environment
    )

    assert Path(where.strip()).is_relative_to(installed.parent)
    report = json.loads((machine.home / "demo-report.json").read_text())
    assert report["nightly"]["state"] == report["hourly"]["state"] == "success", output[-4000:]
    assert report["champion_version"] == "2"
    assert report["reconciled"] is True
    assert list(elsewhere.iterdir()) == []
    assert machine.processes() == []
