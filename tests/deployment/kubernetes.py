"""Read the files in kubernetes/ and what is made from them, for the tests that check them."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from tests.deployment.compose import REPOSITORY

FOLDER = REPOSITORY / "kubernetes"
NAMESPACE = "recsys"
# The oldest version that the chart supports, and the newest with a schema.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
# Instead of a cluster: `create secret` prints where the values are, and `apply` keeps them.
_KUBECTL = """#!/usr/bin/env bash
set -euo pipefail
printf '%s\\n' "$*" >>"$KEPT/commands"
if [[ $1 == create ]]; then
    while [[ $1 != --from-file ]]; do shift; done
    printf '%s\\n' "$2"
else
    read -r folder
    cp -r "$folder" "$KEPT/secrets/"
fi
"""

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod that one of our files describes."""

    name: str
    labels: dict[str, str]
    spec: dict[str, Any]

    @property
    def container(self) -> dict[str, Any]:
        """Its only container."""
        (only,) = self.spec["containers"]
        return dict(only)

    @property
    def plain_variables(self) -> dict[str, str]:
        """Environment variables whose values are in the file."""
        return {entry["name"]: entry["value"] for entry in self.container["env"] if "value" in entry}

    @property
    def secret_variables(self) -> dict[str, tuple[str, str]]:
        """Environment variables from secrets: name of the secret, and key."""
        return _references(self.container["env"])


def load_values() -> dict[str, Any]:
    """Return the values for the Airflow chart."""
    content: dict[str, Any] = yaml.safe_load((FOLDER / "values.yaml").read_text())
    return content


def load_kustomization() -> dict[str, Any]:
    """Return the list of files, images and generated ConfigMaps."""
    content: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    return content


def load_manifests() -> list[Manifest]:
    """Return the objects of all files that the kustomization lists."""
    return [
        manifest
        for name in load_kustomization()["resources"]
        for manifest in yaml.safe_load_all((FOLDER / name).read_text())
    ]


def load_pod_templates() -> dict[str, Manifest]:
    """Return the pod template of each queue."""
    return {path.stem: yaml.safe_load(path.read_text()) for path in FOLDER.glob("pod-templates/*")}


def load_settings_file() -> dict[str, str]:
    """Return the variables of settings.env."""
    lines = (FOLDER / "settings.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def pods() -> dict[str, Pod]:
    """Return all pods that our files describe; those of the tasks of a queue are `task-QUEUE`."""
    found = {}
    for manifest in load_manifests():
        if manifest["kind"] in {"Deployment", "Job"}:
            name, template = manifest["metadata"]["name"], manifest["spec"]["template"]
            found[name] = Pod(name, template["metadata"]["labels"], template["spec"])
    for queue, template in load_pod_templates().items():
        found[f"task-{queue}"] = Pod(f"task-{queue}", template["metadata"]["labels"], template["spec"])
    return found


def tasks() -> list[str]:
    """Return the names of the pods of tasks, one a queue."""
    return sorted(name for name in pods() if name.startswith("task-"))


def made_pod(queue: str, task: str) -> Manifest:
    """Return the pod that the executor makes from a template."""
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator

    executor = load_values()["config"]["kubernetes_executor"]
    template = FOLDER / "pod-templates" / f"{queue}.yaml"
    pod = PodGenerator.construct_pod(
        dag_id="nightly_training",
        task_id=task,
        pod_id=f"nightly-training-{task.replace('_', '-')}",
        try_number=1,
        kube_image=f"{executor['worker_container_repository']}:{executor['worker_container_tag']}",
        date=None,
        args=["python", "-m", "airflow.sdk.execution_time.execute_workload", "--json-string", "{}"],
        pod_override_object=None,
        base_worker_pod=PodGenerator.deserialize_model_file(str(template)),
        namespace=NAMESPACE,
        scheduler_job_id="1",
    )
    return dict(PodGenerator.serialize_pod(pod))


def chart_secrets() -> Iterator[tuple[str, str]]:
    """Yield the secrets that values.yaml names, with the keys that the chart reads from them."""
    values = load_values()
    yield values["data"]["metadataSecretName"], "connection"
    yield values["fernetKeySecretName"], "fernet-key"
    yield values["apiSecretKeySecretName"], "api-secret-key"
    yield values["jwtSecretName"], "jwt-secret"
    for volume in values["apiServer"]["extraVolumes"]:
        if "secret" in volume:
            yield volume["secret"]["secretName"], "passwords.json"
    yield from _references(values["apiServer"]["env"]).values()


def passwords() -> dict[str, str]:
    """Return a value for each secret that .env.example names."""
    lines = (REPOSITORY / ".env.example").read_text().splitlines()
    names = [line.partition("=")[0] for line in lines if "=" in line and not line.startswith("#")]
    return {
        name: f"secret-{number:03}-{name.lower()}"
        for number, name in enumerate(names)
        if re.search("PASSWORD|SECRET|KEY", name)
    }


def create_secrets(
    folder: Path, variables: dict[str, str], *, host: str, port: int = 5432, parameters: str = ""
) -> dict[str, dict[str, str]]:
    """Run create-secrets.sh with a program in the place of kubectl; return the values by secret and key.

    The command lines with which kubectl was called are left in the file `commands` of the folder.
    """
    programs, temporary = folder / "programs", folder / "temporary"
    for made in (programs, temporary, folder / "secrets"):
        made.mkdir()
    (programs / "kubectl").write_text(_KUBECTL)
    (programs / "kubectl").chmod(0o755)
    file = folder / "passwords.env"
    file.write_text("# made up\n" + "".join(f"{name}={value}\n" for name, value in variables.items()))
    subprocess.run(
        [FOLDER / "create-secrets.sh", file],
        env={
            "PATH": f"{programs}:{os.environ['PATH']}",
            "KEPT": str(folder),
            "TMPDIR": str(temporary),
            "POSTGRES_HOST": host,
            "POSTGRES_PORT": str(port),
            "POSTGRES_PARAMETERS": parameters,
        },
        check=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert list(temporary.iterdir()) == [], "values are left on the disk"
    return {
        secret.name: {key.name: key.read_text() for key in secret.iterdir()}
        for secret in (folder / "secrets").iterdir()
    }


def validate(manifest: Manifest, version: str) -> None:
    """Check an object against the schema of a version of Kubernetes."""
    kubernetes_validate.validate(as_json(manifest), version, strict=True)


def as_json(manifest: Manifest) -> Manifest:
    """Return what an API server gets of a YAML document."""
    content: Manifest = json.loads(json.dumps(manifest))
    return content


def _references(entries: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    return {
        entry["name"]: (reference["name"], reference["key"])
        for entry in entries
        if (reference := entry.get("valueFrom", {}).get("secretKeyRef"))
    }
