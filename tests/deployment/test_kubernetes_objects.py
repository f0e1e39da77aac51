"""The objects in kubernetes/ against Kubernetes' schemas, and their images against the Dockerfile.

Not checked is whether the chart knows every key of values.yaml: its schema is in no package. Helm checks it.
"""

import re

import kubernetes_validate
import pytest

from tests.deployment.compose import DOCKERFILE, REPOSITORY
from tests.deployment.kubernetes import (
    FOLDER,
    VERSIONS,
    load_kustomization,
    load_manifests,
    load_pod_templates,
    load_values,
    pods,
    tasks,
    validate,
)

PODS = pods()
TASKS = tasks()
VALUES = load_values()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_follows_the_schema_of_kubernetes(version: str) -> None:
    objects = [*load_manifests(), *load_pod_templates().values()]
    assert len(objects) > 15
    for manifest in objects:
        validate(manifest, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_schema_rejects_a_misspelt_key(version: str) -> None:
    broken = load_pod_templates()["gpu"]
    broken["spec"]["toleration"] = broken["spec"].pop("tolerations")

    with pytest.raises(kubernetes_validate.ValidationError, match="toleration"):
        validate(broken, version)


def test_every_file_is_used() -> None:
    kustomization = load_kustomization()
    used = {"kustomization.yaml", "values.yaml", "create-secrets.sh", *kustomization["resources"]}
    for generated in kustomization["configMapGenerator"]:
        used |= {*generated.get("files", []), *generated.get("envs", [])}

    assert used == {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}


def _registry_and_release() -> tuple[str, str]:
    return VALUES["defaultAirflowRepository"].rpartition("/")[0], VALUES["defaultAirflowTag"]


def test_all_images_are_build_stages_of_one_release() -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE.read_text(), flags=re.MULTILINE)
    registry, tag = _registry_and_release()
    executor = VALUES["config"]["kubernetes_executor"]
    images = load_kustomization()["images"]
    named = [
        VALUES["defaultAirflowRepository"],
        executor["worker_container_repository"],
        *(image["newName"] for image in images),
    ]

    assert {executor["worker_container_tag"], *(image["newTag"] for image in images)} == {tag}
    for name in named:
        assert name.rpartition("/")[0] == registry
        assert name.rpartition("/")[2] in stages
    replaced = {image["name"] for image in images}
    assert {pod.container["image"] for name, pod in PODS.items() if name not in TASKS} == replaced
    assert VALUES["airflowVersion"] in _pinned("apache-airflow")


def _pinned(package: str) -> str:
    (found,) = re.findall(rf"^{package}==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    return str(found)
