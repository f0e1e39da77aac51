"""Check the Compose file and the Dockerfile without Docker: all names in them must exist at their source."""

import importlib.resources
import json
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import sqlalchemy as sa
import typer
import yaml
from pydantic import BaseModel

from recsys.commands.prepare import MODEL_WRITER_POOL
from recsys.serving.install import READER
from recsys.settings import Settings
from recsys.warehouse.roles import ANALYST, PAGE, PIPELINE, WRITER
from tests.compose_file import (
    COMPOSE_FILE,
    DOCKERFILE,
    REPOSITORY,
    VARIABLE,
    dockerfile_environment,
    interpolate,
    load_compose_file,
)

# Airflow writes its configuration file when it is imported, by default into the user's home folder.
os.environ.setdefault("AIRFLOW_HOME", str(REPOSITORY / ".pytest_cache" / "airflow"))
_TEXT = COMPOSE_FILE.read_text()
_COMPOSE = load_compose_file()
_SERVICES: dict[str, Any] = _COMPOSE["services"]
_PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
_PYTHON: str = _PROJECT["tool"]["mypy"]["python_version"]
_SECRET = re.compile(r"PASSWORD|SECRET|KEY|TOKEN")


def _stages() -> dict[str, str]:
    """Return the build stages of the Dockerfile, each with its base."""
    found = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE.read_text(), flags=re.MULTILINE)
    return {stage: base for base, stage in found}


def _stage_text(stage: str) -> str:
    """Return the instructions of one build stage."""
    return DOCKERFILE.read_text().partition(f" AS {stage}\n")[2].partition("\nFROM ")[0]


def _environments() -> Iterator[tuple[str, str, str]]:
    for service, definition in _SERVICES.items():
        for name, value in definition.get("environment", {}).items():
            yield service, name, str(value)
    for name, value in dockerfile_environment().items():
        yield "Dockerfile", name, value


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


def test_file_follows_the_compose_specification() -> None:
    vendored = importlib.resources.files("check_jsonschema.builtin_schemas") / "vendor" / "compose-spec.json"
    schema = json.loads(vendored.read_text())

    jsonschema.Draft202012Validator(schema).validate(_COMPOSE)


def test_specification_rejects_a_misspelt_key() -> None:
    vendored = importlib.resources.files("check_jsonschema.builtin_schemas") / "vendor" / "compose-spec.json"
    broken = {"services": {"postgres": {"image": "x", "helthcheck": {}}}}

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(json.loads(vendored.read_text())).validate(broken)


def test_all_services_of_the_deployment_are_defined() -> None:
    assert set(_SERVICES) == {
        "postgres",
        "redis",
        "mlflow",
        "airflow-init",
        "airflow-api-server",
        "airflow-scheduler",
        "airflow-dag-processor",
        "airflow-triggerer",
        "airflow-worker",
        "airflow-worker-gpu",
        "serving",
    }


def test_every_build_target_is_a_stage_of_the_dockerfile() -> None:
    stages = _stages()
    for service, definition in _SERVICES.items():
        if "build" in definition:
            assert "image" not in definition, service
            assert definition["build"]["target"] in stages, service
            assert (REPOSITORY / definition["build"]["dockerfile"]).is_file()
        else:
            assert re.fullmatch(r"[\w./-]+:[\w.-]+", definition["image"]), f"{service} has no pinned tag"


def test_dockerfile_copies_only_files_that_exist_and_are_in_the_build_context() -> None:
    ignore = (DOCKERFILE.with_name("Dockerfile.dockerignore")).read_text().split()
    copied = re.findall(r"^COPY (.+) \S+$", DOCKERFILE.read_text(), flags=re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert {"recsys", "dags", "plugins", "sql"} <= sources
    for source in sources:
        assert (REPOSITORY / source).exists(), source
        assert f"!{source}" in ignore, source


def test_dockerfile_installs_extras_that_exist() -> None:
    project = _PROJECT["project"]
    named = re.findall(
        r"""['"]\.\[([\w,]+)(?:\$\{OBJECT_STORE:\+,\$OBJECT_STORE\})?\]['"]""", DOCKERFILE.read_text()
    )
    assert len(named) == DOCKERFILE.read_text().count(".[") == 3
    stores = ["s3", "gcs", "azure"]
    assert "s3, gcs or azure" in COMPOSE_FILE.read_text()
    for extra in {extra for names in named for extra in names.split(",")}.union(stores):
        assert extra in project["optional-dependencies"]


def test_images_have_the_python_version_of_the_pinned_packages() -> None:
    assert _stages()["base"].startswith(f"python:{_PYTHON}-")


def test_wheel_is_built_with_the_build_backend_of_the_project() -> None:
    (backend,) = _PROJECT["build-system"]["requires"]
    installed = re.search(r"^RUN pip install .* (\w+)$", _stage_text("wheel"), flags=re.MULTILINE)

    assert installed is not None
    assert backend.startswith(installed[1])


@pytest.mark.parametrize("target", ["serving", "orchestration", "worker"])
def test_images_install_the_wheel_and_contain_no_source_code(target: str) -> None:
    text = _stage_text(target)

    assert "--mount=type=bind,from=wheel,source=/wheels,target=/wheels" in text
    assert "pip install --no-deps --force-reinstall /wheels/*.whl" in text
    assert not re.search(r"COPY (sql|dags|plugins|recsys)\b", text)


@pytest.mark.parametrize("folder", ["dags", "plugins"])
def test_airflow_loads_dags_and_plugins_from_the_installed_package(folder: str) -> None:
    packaged = _PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["sources"][folder]

    found = dockerfile_environment()[f"AIRFLOW__CORE__{folder.upper()}_FOLDER"]

    assert found == f"/usr/local/lib/python{_PYTHON}/site-packages/{packaged}"


def test_only_worker_images_contain_torch() -> None:
    worker = {
        service for service, d in _SERVICES.items() if d.get("build", {}).get("target") in {"worker", "gpu"}
    }

    assert worker == {"airflow-worker", "airflow-worker-gpu"}


def _setting(name: str) -> Any:
    model: type[BaseModel] = Settings
    *sections, last = name.removeprefix("RECSYS_").lower().split("__")
    for section in sections:
        model = model.model_fields[section].annotation  # type: ignore[assignment]
    return model.model_fields[last]


def test_every_recsys_variable_is_a_setting() -> None:
    passwords = {"RECSYS_DATABASE_PASSWORD"}  # used by the script that creates the roles
    names = {name for _, name, _ in _environments() if name.startswith("RECSYS_")} - passwords
    assert "RECSYS_WAREHOUSE_URL" in names
    for name in names:
        assert _setting(name) is not None, name


def _airflow_options() -> set[tuple[str, str]]:
    import airflow.configuration
    from airflow.providers.celery.get_provider_info import get_provider_info

    description = yaml.safe_load(
        (Path(airflow.configuration.__file__).parent / "config_templates" / "config.yml").read_text()
    )
    description.update(get_provider_info()["config"])
    return {(section, option) for section, about in description.items() for option in about["options"]}


def test_every_airflow_variable_is_an_option_of_the_pinned_airflow() -> None:
    options = _airflow_options()
    names = {name for _, name, _ in _environments() if name.startswith("AIRFLOW__")}
    assert len(names) > 10
    for name in names:
        section, option = name.removeprefix("AIRFLOW__").lower().split("__")
        assert (section, option) in options, name


def test_mlflow_server_knows_every_mlflow_variable() -> None:
    import mlflow.environment_variables
    from mlflow.cli import cli

    server = cli.commands["server"]
    read = {option.envvar for option in server.params}
    for _, name, _ in _environments():
        if name.startswith("MLFLOW_") and not name.endswith("DATABASE_PASSWORD"):
            assert name in read or hasattr(mlflow.environment_variables, name), name


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


def test_every_server_has_a_health_check() -> None:
    for service, definition in _SERVICES.items():
        assert service == "airflow-init" or "healthcheck" in definition, service


def test_services_only_wait_for_the_health_of_services_with_a_health_check() -> None:
    for service, definition in _SERVICES.items():
        for other, how in definition.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in _SERVICES[other], service
            assert how["condition"] != "service_completed_successfully" or other == "airflow-init"


def test_every_volume_and_mounted_file_exists() -> None:
    used = {volume.split(":")[0] for d in _SERVICES.values() for volume in d.get("volumes", [])}
    files = {source for source in used if source.startswith(".")}

    assert used - files == set(_COMPOSE["volumes"])
    for file in files:
        assert (REPOSITORY / file).is_file()


@pytest.mark.parametrize("script", ["initialise.sh", "serve-mlflow.sh", "postgres/create-databases.sh"])
def test_shell_scripts_have_no_syntax_errors(script: str) -> None:
    subprocess.run(["bash", "-n", REPOSITORY / "docker" / script], check=True)


def test_superuser_creates_the_roles_to_which_the_warehouse_grants_rights() -> None:
    script = (REPOSITORY / "docker" / "postgres" / "create-databases.sh").read_text()

    assert set(re.findall(r"create role (\w+) nologin", script)) == {
        WRITER,
        PIPELINE,
        ANALYST,
        PAGE,
        READER,
    }


def test_only_the_initialisation_owns_the_warehouse() -> None:
    script = (REPOSITORY / "docker" / "postgres" / "create-databases.sh").read_text()
    roles = dict(re.findall(r"^create_login (\w+) (\w+) ", script, flags=re.MULTILINE))
    users = {
        service: sa.make_url(interpolate(url, _Anything())).username
        for service, definition in _SERVICES.items()
        if (url := definition.get("environment", {}).get("RECSYS_WAREHOUSE_URL")) is not None
    }
    assert users.pop("airflow-init") == "recsys"
    assert {service: roles[str(user)] for service, user in users.items()} == {
        "airflow-api-server": PAGE,
        "airflow-worker": PIPELINE,
        "airflow-worker-gpu": PIPELINE,
        "serving": WRITER,
    }


class _Anything(dict[str, str]):
    """A value for every variable."""

    def get(self, key: str, default: object = None) -> str:  # type: ignore[override]
        return "x"


def test_initialisation_creates_the_pool_that_the_dags_use() -> None:
    pools = [
        words[3:5] for words in _script_commands("initialise.sh", "airflow") if words[1:3] == ["pools", "set"]
    ]

    assert pools == [[MODEL_WRITER_POOL, "1"]]


def test_workers_serve_exactly_the_queues_of_the_dags() -> None:
    from airflow.configuration import conf
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(REPOSITORY / "dags")
    assert not bag.import_errors
    default = conf.get("operators", "default_queue")
    ours = _SERVICES["airflow-worker"]["environment"]["AIRFLOW__OPERATORS__DEFAULT_QUEUE"]
    used = {task.queue for dag in bag.dags.values() for task in dag.tasks}
    served = set()
    for definition in _SERVICES.values():
        words = definition.get("command", [])
        if words[1:3] == ["celery", "worker"]:
            queues = interpolate(words[words.index("--queues") + 1], {})
            served |= set(queues.split(","))

    assert served == {ours if queue == default else queue for queue in used}


def test_broker_does_not_redeliver_tasks_that_may_still_run() -> None:
    from airflow.dag_processing.dagbag import DagBag

    name = "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"
    bag = DagBag(REPOSITORY / "dags")
    longest = max(task.execution_timeout for dag in bag.dags.values() for task in dag.tasks)

    for service in ("airflow-scheduler", "airflow-worker", "airflow-worker-gpu"):
        assert timedelta(seconds=int(_SERVICES[service]["environment"][name])) > longest, service


def test_gpu_worker_reserves_nvidia_devices() -> None:
    (device,) = _SERVICES["airflow-worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]

    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]


def test_variables_are_interpolated_like_compose_does() -> None:
    text = "${GIVEN:-8} ${EMPTY:-default} ${UNSET} $${HOSTNAME}"

    assert interpolate(text, {"GIVEN": "1", "EMPTY": ""}) == "1 default  ${HOSTNAME}"
    with pytest.raises(KeyError, match="PASSWORD: generate one"):
        interpolate("${PASSWORD:?generate one}", {"PASSWORD": ""})


def test_no_secret_has_a_default() -> None:
    found = list(VARIABLE.finditer(_TEXT))
    secrets = {variable["name"] for variable in found if _SECRET.search(variable["name"])}
    assert len(secrets) >= 9
    for variable in found:
        if variable["name"] in secrets:
            assert variable["kind"] == "?", f"{variable[0]} must be required"


def test_files_contain_no_secret() -> None:
    for service, name, value in _environments():
        holds_secret = _SECRET.search(name) and not name.endswith("_PASSWORDS_FILE")
        if holds_secret or ("://" in value and "@" in value):
            assert not re.search(r":[^/$:@{}]+@", value), f"{service}: {name}"
            assert "${" in value, f"{service}: {name}"


def test_example_environment_lists_every_variable_without_a_value() -> None:
    listed = dict(
        line.split("=", 1)
        for line in (REPOSITORY / ".env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )

    assert set(listed) == {variable["name"] for variable in VARIABLE.finditer(_TEXT)}
    assert not any(listed.values())


def test_each_port_is_published_on_this_host_only_unless_its_own_variable_says_otherwise() -> None:
    published = {
        service: [VARIABLE.match(port) for port in definition["ports"]]
        for service, definition in _SERVICES.items()
        if "ports" in definition
    }
    addresses = [found for ports in published.values() for found in ports]
    assert set(published) == {"mlflow", "airflow-api-server", "serving"}
    assert all(found is not None and found["rest"] == "127.0.0.1" for found in addresses)
    assert len({found["name"] for found in addresses if found}) == len(addresses)


def test_pipeline_and_mlflow_agree_on_the_login() -> None:
    server, worker = _SERVICES["mlflow"]["environment"], _SERVICES["airflow-worker"]["environment"]

    assert worker["RECSYS_MLFLOW_USERNAME"] == server["MLFLOW_AUTH_ADMIN_USERNAME"]
    assert worker["RECSYS_MLFLOW_PASSWORD"] == server["MLFLOW_AUTH_ADMIN_PASSWORD"]
