"""The services and their addresses, and the network policies that say who may reach them."""

import re
from typing import Any

import pytest

from recsys.settings import TrainingSettings
from tests.deployment.kubernetes import (
    FOLDER,
    Manifest,
    load_manifests,
    load_settings_file,
    load_values,
    made_pod,
    pods,
    tasks,
)

PODS = pods()
TASKS = tasks()
VALUES = load_values()
# Services of the chart's release `airflow`.
CHART_SERVICES = {"airflow-api-server": 8080}


def _services() -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m["spec"] for m in load_manifests() if m["kind"] == "Service"}


@pytest.mark.parametrize("name", sorted(_services().keys() - {"training"}))
def test_every_service_leads_to_a_pod_that_is_ready(name: str) -> None:
    service = _services()[name]
    (pod,) = [pod for pod in PODS.values() if service["selector"].items() <= pod.labels.items()]
    (port,) = service["ports"]
    (container_port,) = pod.container["ports"]

    assert port["targetPort"] == container_port["name"]
    assert pod.container["readinessProbe"]["httpGet"] == {"path": "/health", "port": container_port["name"]}
    assert re.search(rf"--port[ =]{container_port['containerPort']}\b", " ".join(pod.container["args"]))


def test_the_pods_of_a_fine_tune_meet_at_the_first_and_let_each_other_in() -> None:
    service = _services()["training"]
    first, other, default = (
        made_pod(queue, task)["metadata"]["labels"]
        for queue, task in [("gpu", "fine_tune"), ("gpu", "assist_fine_tune"), ("default", "evaluate")]
    )
    assert service["selector"].items() <= first.items()
    assert not service["selector"].items() <= other.items()
    # A headless service has the address of its pod, by which torchrun recognizes its own machine.
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    (port,) = service["ports"]
    (policy,) = [
        m["spec"]
        for m in load_manifests()
        if m["kind"] == "NetworkPolicy" and m["metadata"]["name"] == "training"
    ]
    assert _selects(policy["podSelector"], first)
    assert not _selects(policy["podSelector"], default | {"dag_id": "hourly_micro_update"})
    for rule in (*policy["ingress"], *policy["egress"]):
        (peer,) = rule["from"] if "from" in rule else rule["to"]
        assert _selects(peer["podSelector"], other)
        (ports,) = rule["ports"]
        assert ports["port"] <= port["port"] <= ports["endPort"]
    named = (FOLDER / "training.yaml").read_text().partition("RECSYS_TRAINING__RENDEZVOUS=")[2].split()[0]
    assert named == f"training:{port['port']}"
    assert TrainingSettings(machines=2, rendezvous=named).rendezvous == named


def test_health_of_the_http_service_needs_no_key() -> None:
    from recsys.serving.http.guard import OPEN_PATHS

    assert PODS["serving"].container["readinessProbe"]["httpGet"]["path"] in OPEN_PATHS


def test_tasks_find_mlflow_and_the_api_server() -> None:
    host, port = load_settings_file()["RECSYS_MLFLOW_TRACKING_URI"].removeprefix("http://").split(":")
    (offered,) = _services()[host]["ports"]
    assert offered["port"] == int(port)
    (allowed,) = [word for word in PODS["mlflow"].container["args"] if word.startswith("--allowed-hosts=")]
    assert f"{host}:{port}" in allowed.partition("=")[2].split(",")
    server = VALUES["config"]["core"]["execution_api_server_url"].removeprefix("http://").split("/")[0]
    host, port = server.split(":")
    assert CHART_SERVICES[host] == int(port)


COMPONENTS = {
    **{name: pod.labels for name, pod in PODS.items()},
    **{
        name: {"tier": "airflow", "component": name, **VALUES["labels"]}
        for name in ("api-server", "scheduler", "dag-processor", "triggerer", "run-airflow-migrations")
    },
    "postgres": {"app": "postgres"},
    "stranger": {},
}


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def _allows(rules: list[dict[str, Any]], side: str, peer: dict[str, str], port: int) -> bool:
    """Whether one of a policy's rules allows a pod of the namespace as peer."""
    for rule in rules:
        peers = rule.get(side)
        named = peers is None or any("podSelector" in p and _selects(p["podSelector"], peer) for p in peers)
        if named and port in {entry["port"] for entry in rule["ports"]}:
            return True
    return False


def _may_connect(source: str, target: str, port: int) -> bool:
    """Whether the policies let one pod of the namespace connect to another."""
    policies = [m["spec"] for m in load_manifests() if m["kind"] == "NetworkPolicy"]
    leaves = enters = False
    for policy in policies:
        if _selects(policy["podSelector"], COMPONENTS[source]):
            leaves |= _allows(policy.get("egress", []), "to", COMPONENTS[target], port)
        if _selects(policy["podSelector"], COMPONENTS[target]):
            enters |= _allows(policy.get("ingress", []), "from", COMPONENTS[source], port)
    return leaves and enters


@pytest.mark.parametrize(
    ("target", "port", "sources"),
    [
        ("mlflow", 5000, {*TASKS}),
        ("serving", 8765, set()),
        (
            "api-server",
            8080,
            {*TASKS, "api-server", "scheduler", "dag-processor", "triggerer", "run-airflow-migrations"},
        ),
        ("postgres", 5432, set(COMPONENTS) - {"postgres", "stranger"}),
        ("migrate", 22, set()),
    ],
)
def test_only_those_who_need_a_service_reach_it(target: str, port: int, sources: set[str]) -> None:
    assert {source for source in COMPONENTS if _may_connect(source, target, port)} == sources


def test_everything_is_denied_unless_a_policy_allows_it() -> None:
    (first, *_) = [m["spec"] for m in load_manifests() if m["kind"] == "NetworkPolicy"]

    assert first == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_applications_reach_the_http_service_from_namespaces_with_the_label() -> None:
    (policy,) = [
        m["spec"]
        for m in load_manifests()
        if m["kind"] == "NetworkPolicy" and m["metadata"]["name"] == "serving"
    ]
    (rule,) = policy["ingress"]

    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"recsys-client": "true"}}}]
