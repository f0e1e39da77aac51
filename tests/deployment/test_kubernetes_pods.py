"""The rights of the pods, and their volumes."""

import pytest

from tests.deployment.compose import DOCKERFILE
from tests.deployment.kubernetes import load_kustomization, load_manifests, load_values, pods

PODS = pods()
VALUES = load_values()
# ConfigMaps of the chart's release `airflow`.
CHART_CONFIG_MAPS = {"airflow-config"}


@pytest.mark.parametrize("pod", sorted(PODS))
def test_every_pod_follows_the_restricted_standard_and_writes_only_to_its_volumes(pod: str) -> None:
    spec, container = PODS[pod].spec, PODS[pod].container
    context = spec["securityContext"]

    assert context["runAsNonRoot"] is True
    assert f"useradd --system --uid {context['runAsUser']} " in DOCKERFILE.read_text()
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {v["name"] for v in spec["volumes"]}
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_airflows_components_follow_the_restricted_standard() -> None:
    task = PODS["task-default"]
    (namespace,) = [m for m in load_manifests() if m["kind"] == "Namespace"]

    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert VALUES["securityContexts"]["pod"] == task.spec["securityContext"]
    assert VALUES["securityContexts"]["containers"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert VALUES["uid"] == task.spec["securityContext"]["runAsUser"]
    assert VALUES["gid"] == task.spec["securityContext"]["fsGroup"]


def test_every_volume_exists() -> None:
    claims = {m["metadata"]["name"] for m in load_manifests() if m["kind"] == "PersistentVolumeClaim"}
    config_maps = {generated["name"] for generated in load_kustomization()["configMapGenerator"]}
    volumes = [volume for pod in PODS.values() for volume in pod.spec["volumes"]]
    volumes += VALUES["apiServer"]["extraVolumes"] + VALUES["scheduler"]["extraVolumes"]

    used = {v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v}
    used.add(VALUES["logs"]["persistence"]["existingClaim"])
    assert used == claims
    mounted = {v["configMap"]["name"] for v in volumes if "configMap" in v}
    assert mounted <= config_maps | CHART_CONFIG_MAPS
    read = [source for pod in PODS.values() for source in pod.container.get("envFrom", [])]
    assert {s["configMapRef"]["name"] for s in read if "configMapRef" in s} <= config_maps
