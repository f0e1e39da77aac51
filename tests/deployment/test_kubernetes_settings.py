"""The settings that values.yaml, settings.env and the pods give to Airflow and to recsys."""

import os
from pathlib import Path

import pytest
import yaml

from recsys.settings import Settings, load_settings
from tests.deployment.kubernetes import (
    create_secrets,
    load_settings_file,
    load_values,
    passwords,
    pods,
    tasks,
)

PODS = pods()
TASKS = tasks()
VALUES = load_values()


def _airflow_options() -> set[tuple[str, str]]:
    import airflow.configuration
    from airflow.providers.cncf.kubernetes.get_provider_info import get_provider_info

    folder = Path(airflow.configuration.__file__).parent / "config_templates"
    description = yaml.safe_load((folder / "config.yml").read_text()) | get_provider_info()["config"]
    return {(section, option) for section, about in description.items() for option in about["options"]}


def test_every_airflow_option_is_one_of_the_pinned_airflow() -> None:
    named = {(section, option) for section, options in VALUES["config"].items() for option in options}

    assert len(named) > 10
    assert named <= _airflow_options()


@pytest.mark.parametrize("pod", sorted(PODS))
def test_every_recsys_variable_is_a_setting_with_a_possible_value(
    pod: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = create_secrets(tmp_path, passwords(), host="postgres")
    variables = PODS[pod].plain_variables
    variables |= {name: secrets[s][key] for name, (s, key) in PODS[pod].secret_variables.items()}
    if pod in TASKS:
        variables |= load_settings_file()
    for name in [name for name in os.environ if name.startswith("RECSYS_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    settings = load_settings(tmp_path)

    assert caplog.messages == []  # load_settings warns of names that are no settings
    given = {name.removeprefix("RECSYS_").lower() for name in variables if name.startswith("RECSYS_")}
    for name in given:
        assert name.split("__")[0] in Settings.model_fields, name
    if pod in TASKS:
        settings.require_warehouse_url()
        settings.require_tracking_uri()
        settings.require_pseudonym_key()
        assert settings.mlflow_password is not None
    if pod == "serving":
        assert settings.serving.api_keys


def test_settings_of_airflows_components_are_settings() -> None:
    for name in load_settings_file():
        assert name.removeprefix("RECSYS_").lower() in Settings.model_fields, name
    assert {entry["name"] for entry in VALUES["apiServer"]["env"]} == {"RECSYS_WAREHOUSE_URL"}
