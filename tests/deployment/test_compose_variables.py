"""The variables in the Compose file and the Dockerfile: each must be known to the program that reads it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from recsys.settings import Settings
from tests.deployment.compose import COMPOSE_FILE, REPOSITORY, VARIABLE, environments, interpolate

_TEXT = COMPOSE_FILE.read_text()


def _setting(name: str) -> Any:
    model: type[BaseModel] = Settings
    *sections, last = name.removeprefix("RECSYS_").lower().split("__")
    for section in sections:
        model = model.model_fields[section].annotation  # type: ignore[assignment]
    return model.model_fields[last]


def test_every_recsys_variable_is_a_setting() -> None:
    passwords = {"RECSYS_DATABASE_PASSWORD"}  # used by the script that creates the roles
    names = {name for _, name, _ in environments() if name.startswith("RECSYS_")} - passwords
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
    names = {name for _, name, _ in environments() if name.startswith("AIRFLOW__")}
    assert len(names) > 10
    for name in names:
        section, option = name.removeprefix("AIRFLOW__").lower().split("__")
        assert (section, option) in options, name


def test_mlflow_server_knows_every_mlflow_variable() -> None:
    import mlflow.environment_variables
    from mlflow.cli import cli

    server = cli.commands["server"]
    read = {option.envvar for option in server.params}
    for _, name, _ in environments():
        if name.startswith("MLFLOW_") and not name.endswith("DATABASE_PASSWORD"):
            assert name in read or hasattr(mlflow.environment_variables, name), name


def test_variables_are_interpolated_like_compose_does() -> None:
    text = "${GIVEN:-8} ${EMPTY:-default} ${UNSET} $${HOSTNAME}"

    assert interpolate(text, {"GIVEN": "1", "EMPTY": ""}) == "1 default  ${HOSTNAME}"
    with pytest.raises(KeyError, match="PASSWORD: generate one"):
        interpolate("${PASSWORD:?generate one}", {"PASSWORD": ""})


def test_example_environment_lists_every_variable_without_a_value() -> None:
    listed = dict(
        line.split("=", 1)
        for line in (REPOSITORY / ".env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )

    assert set(listed) == {variable["name"] for variable in VARIABLE.finditer(_TEXT)}
    assert not any(listed.values())
