"""Model versions of the registry: find, tag and download them."""

import json
import logging
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from recsys.errors import RegistryError
from recsys.registry.connection import is_missing, mlflow_client, mlflow_errors
from recsys.settings import Settings
from recsys.snapshot.reference import TrainedThrough

logger = logging.getLogger(__name__)

CHALLENGER_ALIAS = "challenger"
CHAMPION_ALIAS = "champion"

CHECKPOINT = "checkpoint"
"""Name of a checkpoint's folder, and of the artifact of a version."""
READY = "READY"
"""Status of a version whose registration is complete."""

# Tags of a version.
DIGEST = "recsys.checkpoint_digest"
PARENT = "recsys.parent_version"
TRAINED_THROUGH = "recsys.trained_through"


@dataclass(frozen=True)
class RegisteredVersion:
    """A model version of the registry with its tags."""

    version: str
    run_id: str
    checkpoint_digest: str
    tags: dict[str, str]

    @property
    def trained_through(self) -> TrainedThrough:
        """The feedback that the model has trained on."""
        return TrainedThrough(**json.loads(self.tags[TRAINED_THROUGH]))


def load_version(settings: Settings, version: str) -> RegisteredVersion:
    """Return a version.

    Raises
    ------
    RegistryError
        The registry has no such version, or this system did not register it completely.
    """
    client = mlflow_client(settings)
    name = settings.registered_model
    with mlflow_errors(settings, f"find version {version} of {name}"):
        try:
            found = client.get_model_version(name, version)
        except MlflowException as error:
            if not (is_missing(error) or error.error_code == "INVALID_PARAMETER_VALUE"):
                raise
            raise RegistryError(
                f"there is no version {version} of model {name}; `recsys history` lists decisions"
            ) from error
    if DIGEST not in found.tags or found.status != READY:
        raise RegistryError(
            f"version {version} of model {name} is not usable: it was not registered by this system or its "
            f"registration did not finish (status {found.status})"
        )
    return registered_version(found)


def trained_through(settings: Settings, version: str) -> TrainedThrough:
    """Return the feedback that a version has trained on."""
    return load_version(settings, version).trained_through


def download_checkpoint(settings: Settings, version: str) -> Path:
    """Download a version's checkpoint unless a sound copy is here, check its digest and return its folder.

    Raises
    ------
    RegistryError
        The version is unknown, or its files have changed since registration.
    """
    registered = load_version(settings, version)
    digest = registered.checkpoint_digest
    target = settings.runs / "checkpoints" / f"{version}-{digest[:16]}"
    if target.is_dir():
        if folder_digest(target) == digest:
            return target
        logger.warning("%s is damaged and is downloaded again", target)
    target.parent.mkdir(parents=True, exist_ok=True)
    uri = f"models:/{settings.registered_model}/{version}/artifacts/{CHECKPOINT}"
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as partial:
        with mlflow_errors(settings, f"download version {version}"):
            fetched = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=partial))
        if folder_digest(fetched) != digest:
            raise RegistryError(
                f"the checkpoint of version {version} does not match its digest {digest[:16]}...: its "
                "artifacts are incomplete or have changed; roll back to another version"
            )
        if target.is_dir() and folder_digest(target) != digest:
            with suppress(FileNotFoundError):  # another process was faster
                target.rename(Path(partial) / "damaged")
        try:
            fetched.rename(target)
        except OSError:
            # Another process was faster; its files have the same digest.
            if not target.is_dir():
                raise
    return target


def tag_version(settings: Settings, version: str, tags: Mapping[str, str]) -> None:
    """Set tags on a version."""
    client = mlflow_client(settings)
    with mlflow_errors(settings, f"tag version {version}"):
        for name, value in tags.items():
            client.set_model_version_tag(settings.registered_model, version, name, value)


def describe_version(settings: Settings, version: str, description: str) -> None:
    """Set the description that the MLflow UI shows for a version."""
    client = mlflow_client(settings)
    with mlflow_errors(settings, f"describe version {version}"):
        client.update_model_version(settings.registered_model, version, description)


def folder_digest(folder: Path) -> str:
    """Return a sha256 over the names and contents of all files in a folder."""
    whole = sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            content = sha256()
            while block := file.read(1 << 20):
                content.update(block)
        whole.update(f"{path.relative_to(folder).as_posix()}\0{content.hexdigest()}\n".encode())
    return whole.hexdigest()


def registered_version(version: ModelVersion) -> RegisteredVersion:
    """Convert a version of MLflow that this system registered."""
    tags = dict(version.tags)
    return RegisteredVersion(str(version.version), str(version.run_id), tags[DIGEST], tags)
