"""The secrets in the Compose file, and the logins of its services."""

import re
from typing import Any

import sqlalchemy as sa

from recsys.serving.install import READER
from recsys.warehouse.roles import ANALYST, PAGE, PIPELINE, WRITER
from tests.deployment.compose import (
    COMPOSE_FILE,
    REPOSITORY,
    VARIABLE,
    environments,
    interpolate,
    load_compose_file,
)

_TEXT = COMPOSE_FILE.read_text()
_SERVICES: dict[str, Any] = load_compose_file()["services"]
_SECRET = re.compile(r"PASSWORD|SECRET|KEY|TOKEN")


def test_no_secret_has_a_default() -> None:
    found = list(VARIABLE.finditer(_TEXT))
    secrets = {variable["name"] for variable in found if _SECRET.search(variable["name"])}
    assert len(secrets) >= 9
    for variable in found:
        if variable["name"] in secrets:
            assert variable["kind"] == "?", f"{variable[0]} must be required"


def test_files_contain_no_secret() -> None:
    for service, name, value in environments():
        holds_secret = _SECRET.search(name) and not name.endswith("_PASSWORDS_FILE")
        if holds_secret or ("://" in value and "@" in value):
            assert not re.search(r":[^/$:@{}]+@", value), f"{service}: {name}"
            assert "${" in value, f"{service}: {name}"


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


def test_pipeline_and_mlflow_agree_on_the_login() -> None:
    server, worker = _SERVICES["mlflow"]["environment"], _SERVICES["airflow-worker"]["environment"]

    assert worker["RECSYS_MLFLOW_USERNAME"] == server["MLFLOW_AUTH_ADMIN_USERNAME"]
    assert worker["RECSYS_MLFLOW_PASSWORD"] == server["MLFLOW_AUTH_ADMIN_PASSWORD"]
