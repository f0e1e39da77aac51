"""The pod templates of the queues, and the pods that the executor makes from them for tasks of the DAGs."""

from pathlib import Path
from typing import Any

import pytest

from tests.deployment.compose import REPOSITORY, dockerfile_environment
from tests.deployment.kubernetes import (
    VERSIONS,
    load_kustomization,
    load_pod_templates,
    load_values,
    made_pod,
    pods,
    validate,
)

PODS = pods()
VALUES = load_values()


@pytest.fixture(scope="module")
def dags() -> list[Any]:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(REPOSITORY / "dags")
    assert not bag.import_errors
    return list(bag.dags.values())


def test_every_queue_of_the_dags_has_a_pod_template_that_the_executor_finds(dags: list[Any]) -> None:
    from airflow.configuration import conf

    (mounted,) = VALUES["scheduler"]["extraVolumeMounts"]
    files = {f"{mounted['mountPath']}/{queue}.yaml": queue for queue in load_pod_templates()}
    standard = conf.get("operators", "default_queue")
    tasks = [task for dag in dags for task in dag.tasks]

    for task in tasks:
        file = task.executor_config.get(
            "pod_template_file", VALUES["config"]["kubernetes_executor"]["pod_template_file"]
        )
        queue = VALUES["config"]["operators"]["default_queue"] if task.queue == standard else task.queue
        assert files[file] == queue, task.task_id
    assert {task.queue for task in tasks} == {standard, "gpu"}
    assert {*load_pod_templates()} == {"default", "gpu"}
    (volume,) = VALUES["scheduler"]["extraVolumes"]
    (generated,) = [g for g in load_kustomization()["configMapGenerator"] if g["name"] == "pod-templates"]
    assert volume["configMap"]["name"] == generated["name"]
    assert {Path(name).name for name in generated["files"]} == {Path(file).name for file in files}


def test_deadlines_do_not_need_the_executor(dags: list[Any]) -> None:
    """KubernetesExecutor raises when it is asked to run a callback, which ends the scheduler."""
    from airflow.sdk import AsyncCallback

    for dag in dags:
        (alert,) = dag.deadline if isinstance(dag.deadline, list) else [dag.deadline]
        assert isinstance(alert.callback, AsyncCallback), dag.dag_id


@pytest.mark.parametrize("queue", sorted(load_pod_templates()))
def test_the_executor_makes_a_valid_pod_from_each_template(queue: str) -> None:
    executor = VALUES["config"]["kubernetes_executor"]
    image = f"{executor['worker_container_repository']}:{executor['worker_container_tag']}"
    made = made_pod(queue, "fine_tune")

    validate(made, VERSIONS[-1])
    (container,) = made["spec"]["containers"]
    assert (container["image"], container["args"][0]) == (image, "python")
    # Nothing of the template is lost.
    ours = PODS[f"task-{queue}"]
    names = [entry["name"] for entry in container["env"]]
    assert names == [entry["name"] for entry in ours.container["env"]] + ["AIRFLOW_IS_K8S_EXECUTOR_POD"]
    assert made["spec"]["volumes"] == ours.spec["volumes"]
    assert made["spec"]["automountServiceAccountToken"] is False
    assert made["metadata"]["labels"].items() >= ours.labels.items()


def test_the_gpu_template_is_the_default_one_with_a_gpu() -> None:
    default, gpu = PODS["task-default"], PODS["task-gpu"]

    assert gpu.labels == default.labels
    assert gpu.secret_variables == default.secret_variables
    assert set(gpu.spec) - set(default.spec) == {"tolerations"}
    for part in set(default.spec) - {"containers", "volumes"}:
        assert gpu.spec[part] == default.spec[part], part
    gpus = gpu.container["resources"]["limits"]["nvidia.com/gpu"]
    assert gpu.plain_variables == default.plain_variables | {
        "RECSYS_TRAINING__DEVICE": "cuda",
        "RECSYS_TRAINING__DEVICES": str(gpus),
        "NVIDIA_DRIVER_CAPABILITIES": dockerfile_environment()["NVIDIA_DRIVER_CAPABILITIES"],
    }
    (mount,) = [m for m in gpu.container["volumeMounts"] if m not in default.container["volumeMounts"]]
    (volume,) = [v for v in gpu.spec["volumes"] if v not in default.spec["volumes"]]
    assert (mount["mountPath"], volume["emptyDir"]["medium"]) == ("/dev/shm", "Memory")
    assert mount["name"] == volume["name"]
