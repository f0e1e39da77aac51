"""The secrets that create-secrets.sh creates, and the pods that read them."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deployment.kubernetes import (
    chart_secrets,
    create_secrets,
    load_manifests,
    load_settings_file,
    load_values,
    passwords,
    pods,
    tasks,
)

PODS = pods()
TASKS = tasks()
VALUES = load_values()
# The superuser's is for creating the databases; tasks need no broker.
UNUSED_PASSWORDS = {"POSTGRES_PASSWORD", "REDIS_PASSWORD"}


def _readers() -> dict[str, set[tuple[str, str]]]:
    """Return the secrets and keys that each pod reads."""
    found = {name: set(pod.secret_variables.values()) for name, pod in PODS.items()}
    return found | {"airflow": set(chart_secrets())}


def test_every_secret_is_created_and_read(tmp_path: Path) -> None:
    created = create_secrets(tmp_path, passwords(), host="postgres")

    available = {(secret, key) for secret, keys in created.items() for key in keys}
    assert available == {reference for references in _readers().values() for reference in references}


def test_secrets_are_on_no_command_line(tmp_path: Path) -> None:
    create_secrets(tmp_path, passwords(), host="postgres")

    assert "secret-0" not in (tmp_path / "commands").read_text()


@pytest.mark.parametrize("missing", sorted(passwords().keys() - UNUSED_PASSWORDS))
def test_no_secret_is_created_if_a_password_is_missing(missing: str, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        create_secrets(tmp_path, {**passwords(), missing: ""}, host="postgres")

    assert f"set {missing} " in failed.value.stderr
    assert list((tmp_path / "secrets").iterdir()) == []


def test_the_alert_webhook_reaches_components_and_tasks_if_there_is_one(tmp_path: Path) -> None:
    created = create_secrets(tmp_path, passwords() | {"RECSYS_ALERT_WEBHOOK": "https://chat"}, host="p")

    assert created["alerts"] == {"RECSYS_ALERT_WEBHOOK": "https://chat"}
    everywhere = yaml.safe_load(VALUES["extraEnvFrom"])
    assert {"secretRef": {"name": "alerts", "optional": True}} in everywhere
    for name in TASKS:
        assert PODS[name].container["envFrom"] == everywhere


def test_every_pod_knows_only_the_secrets_that_it_needs() -> None:
    readers: dict[str, set[str]] = {}
    for pod, references in _readers().items():
        for secret, _ in references:
            readers.setdefault(secret, set()).add(pod)

    assert readers == {
        "airflow-keys": {"airflow"},
        "airflow-login": {"airflow"},
        "airflow-metadata": {"airflow"},
        "mlflow-login": {"mlflow", *TASKS},
        "mlflow-server": {"mlflow"},
        "pseudonym-key": set(TASKS),
        "serving-keys": {"serving"},
        "warehouse-owner": {"migrate"},
        "warehouse-page": {"airflow"},
        "warehouse-pipeline": set(TASKS),
        "warehouse-serving": {"serving"},
    }


def test_no_file_contains_a_secret() -> None:
    secret = re.compile(r"PASSWORD|SECRET|_KEY|_URL$|_URI$|WEBHOOK")
    public = {"RECSYS_MLFLOW_TRACKING_URI", "MLFLOW_FLASK_SERVER_SECRET_KEY"}
    for pod in PODS.values():
        for name in pod.plain_variables:
            assert not secret.search(name), name
    for name in load_settings_file():
        assert name in public or not secret.search(name), name
    assert all(manifest["kind"] != "Secret" for manifest in load_manifests())
