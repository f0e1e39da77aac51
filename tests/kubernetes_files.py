"""Read the files in kubernetes/ for the tests that check them."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.compose_file import REPOSITORY

FOLDER = REPOSITORY / "kubernetes"
NAMESPACE = "recsys"
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
