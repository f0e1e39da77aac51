"""The commands in kubernetes/: those of our pods, and those that values.yaml gives to the chart."""

import shlex
import subprocess
from typing import Any

import pytest
import typer.main

from tests.deployment.compose import REPOSITORY, load_compose_file
from tests.deployment.kubernetes import load_values, pods

PODS = pods()
VALUES = load_values()


def test_mlflow_is_started_as_in_compose() -> None:
    compose = load_compose_file()["services"]["mlflow"]
    ours = PODS["mlflow"]

    assert ours.container["args"] == compose["command"]
    assert {*ours.plain_variables, *ours.secret_variables} - {"HOME"} == set(compose["environment"])
    for name, value in ours.plain_variables.items():
        default = f"${{{name}:-{value}}}"
        assert name == "HOME" or compose["environment"][name] in {value, default}, name


@pytest.mark.parametrize("pod", ["migrate", "serving"])
def test_every_recsys_command_exists(pod: str) -> None:
    from recsys.commands.main import app

    program, command, *options = PODS[pod].container["args"]
    known: Any = typer.main.get_command(app)

    assert program == "recsys"
    known.commands[command].make_context(command, options)  # raises for an unknown option


def _airflow_commands() -> list[list[str]]:
    found = [
        VALUES[component]["livenessProbe"]["command"]
        for component in ("scheduler", "dagProcessor", "triggerer")
    ]
    found.append(VALUES["scheduler"]["startupProbe"]["command"])
    for arguments in (VALUES["migrateDatabaseJob"]["args"], VALUES["apiServer"]["args"]):
        assert arguments[:2] == ["bash", "-c"]
        subprocess.run(["bash", "-n", "-c", arguments[2]], check=True)
        parts = [shlex.split(part) for part in arguments[2].split("&&")]
        found += [part[part.index("airflow") :] for part in parts if "airflow" in part]
    return found


def test_pinned_airflow_knows_every_airflow_command() -> None:
    from airflow.cli.cli_parser import get_parser

    parser = get_parser()
    commands = _airflow_commands()
    assert len(commands) == 7
    for words in commands:
        parser.parse_args(words[1:])  # raises SystemExit for an unknown command


def test_chart_creates_the_same_pools_as_compose() -> None:
    lines = (REPOSITORY / "docker" / "initialise.sh").read_text().splitlines()
    compose = [shlex.split(line) for line in lines if line.startswith("airflow pools")]

    assert [words for words in _airflow_commands() if words[1] == "pools"] == compose


def test_chart_calls_no_script_that_only_airflows_own_image_has() -> None:
    # The defaults of the chart call /entrypoint and /clean-logs.
    for component in ("scheduler", "dagProcessor", "triggerer"):
        assert VALUES[component]["logGroomerSidecar"] == {"enabled": False}
        assert VALUES[component]["livenessProbe"]["command"][0] == "airflow"
    assert VALUES["createUserJob"] == {"enabled": False}
