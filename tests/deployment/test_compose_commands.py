"""The commands in the Compose file and in the scripts of docker/, against the programs that they start."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from recsys.commands.prepare import MODEL_WRITER_POOL
from recsys.settings import Settings
from tests.deployment.compose import REPOSITORY, interpolate, load_compose_file

_SERVICES: dict[str, Any] = load_compose_file()["services"]


def _commands() -> Iterator[tuple[str, list[str]]]:
    """Yield each command and health check as words, also commands inside `sh -c`."""
    for service, definition in _SERVICES.items():
        check = definition.get("healthcheck", {}).get("test", [])
        for words in (definition.get("command"), check[1:]):
            if not words:
                continue
            if words[0] == "sh":
                words = [words[2]]
            yield service, shlex.split(words[0].replace("$$", "$")) if len(words) == 1 else list(words)


def _script_commands(script: str, program: str) -> list[list[str]]:
    lines = (REPOSITORY / "docker" / script).read_text().splitlines()
    return [shlex.split(line) for line in lines if line.startswith(f"{program} ")]


def test_pinned_airflow_knows_every_airflow_command() -> None:
    from airflow.cli.cli_parser import get_parser

    parser = get_parser()
    commands = [words for _, words in _commands() if words[0] == "airflow"]
    commands += _script_commands("initialise.sh", "airflow")
    assert len(commands) >= 9
    for words in commands:
        parser.parse_args(words[1:])  # raises SystemExit for an unknown command


def test_airflow_parser_rejects_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    from airflow.cli.cli_parser import get_parser

    with pytest.raises(SystemExit):
        get_parser().parse_args(["webserver"])


def test_every_recsys_command_exists() -> None:
    import typer.main

    from recsys.commands.main import app

    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    commands = _script_commands("initialise.sh", "recsys")
    assert commands
    for words in commands:
        assert words[1] in known


def test_pinned_mlflow_accepts_the_server_command() -> None:
    from mlflow.cli import cli

    words = _SERVICES["mlflow"]["command"]

    [ours] = _script_commands("serve-mlflow.sh", "exec mlflow server")
    options = [*(word for word in ours[3:] if word != "$@"), *words[2:]]
    context = cli.commands["server"].make_context("server", options, resilient_parsing=False)
    assert context.params["app_name"] == "basic-auth"


def test_all_other_programs_are_known_and_python_code_compiles() -> None:
    known = {
        "airflow",
        "bash",
        "celery",
        "exec",
        "mlflow",
        "pg_isready",
        "postgres",
        "python",
        "recsys",
        "REDISCLI_AUTH=$REDIS_PASSWORD",
    }
    for service, words in _commands():
        assert words[0] in known, (service, words)
        if words[0] == "python":
            compile(words[2], service, "exec")


def test_http_service_starts_with_its_key_and_its_command_exists() -> None:
    from recsys.commands.main import app

    definition = _SERVICES["serving"]
    words = definition["command"]
    command: Any = typer.main.get_command(app)
    options = command.commands[words[1]].make_context(words[1], words[2:])
    assert [f"{options.params['port']}"] == re.findall(r":(\d+)$", definition["ports"][0])
    keys = interpolate(definition["environment"]["RECSYS_SERVING__API_KEYS"], {"SERVING_API_KEY": "k" * 32})
    assert Settings.model_validate({"serving": {"api_keys": json.loads(keys)}}).serving.api_keys


def test_health_check_of_the_workers_names_an_existing_celery_app() -> None:
    from airflow.providers.celery.executors.celery_executor import app
    from celery.bin.celery import celery

    words = next(words for _, words in _commands() if words[0] == "celery")

    assert words[words.index("--app") + 1] == "airflow.providers.celery.executors.celery_executor.app"
    assert app.control is not None
    assert words[3] in celery.commands


@pytest.mark.parametrize("script", ["initialise.sh", "serve-mlflow.sh", "postgres/create-databases.sh"])
def test_shell_scripts_have_no_syntax_errors(script: str) -> None:
    subprocess.run(["bash", "-n", REPOSITORY / "docker" / script], check=True)


def test_initialisation_creates_the_pool_that_the_dags_use() -> None:
    pools = [
        words[3:5] for words in _script_commands("initialise.sh", "airflow") if words[1:3] == ["pools", "set"]
    ]

    assert pools == [[MODEL_WRITER_POOL, "1"]]
