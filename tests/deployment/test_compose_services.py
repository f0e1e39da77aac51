"""The Compose file against its specification, and its services: health checks, volumes, ports, queues."""

import importlib.resources
import json
from datetime import timedelta
from typing import Any

import jsonschema
import pytest

from tests.deployment.compose import REPOSITORY, VARIABLE, interpolate, load_compose_file

_COMPOSE = load_compose_file()
_SERVICES: dict[str, Any] = _COMPOSE["services"]


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
