"""Model versions of the registry: find, tag and download them."""

import json
import logging
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from recsys.digests import file_digests, folder_digest
from recsys.errors import RegistryError
from recsys.registry.connection import is_missing, mlflow_client, mlflow_errors, quoted
from recsys.registry.local_copies import CHECKPOINT_FOLDER, copy_of, is_sound
from recsys.registry.model_files import (
    describe_changes,
    record_version,
    recorded_files,
)
from recsys.settings import Settings
from recsys.snapshot.reference import TrainedThrough

logger = logging.getLogger(__name__)

CHALLENGER_ALIAS = "challenger"
CHAMPION_ALIAS = "champion"

READY = "READY"
"""Status of a version whose registration is complete."""

_PER_PAGE = 200

# Tags of a version.
DIGEST = "recsys.checkpoint_digest"
KIND = "recsys.kind"
PARENT = "recsys.parent_version"
LIVE_INTEREST = "recsys.live_interest"
"""Weights of `recsys.model.live_interest`, as JSON."""
TRAINED_THROUGH = "recsys.trained_through"
TUNED_SETTINGS = "recsys.tuned_settings"
"""Those of its settings that a search found, as JSON."""


@dataclass(frozen=True)
class RegisteredVersion:
    """A model version of the registry with its tags."""

    version: str
    run_id: str
    checkpoint_digest: str
    tags: dict[str, str]
    model_id: str

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


def registered_versions(settings: Settings) -> set[str]:
    """Return the numbers of all versions in the registry."""
    client = mlflow_client(settings)
    found: set[str] = set()
    token = None
    with mlflow_errors(settings, f"list the versions of {settings.registered_model}"):
        while True:
            page = client.search_model_versions(
                f"name = {quoted(settings.registered_model)}", max_results=_PER_PAGE, page_token=token
            )
            found |= {str(version.version) for version in page}
            token = page.token
            if not token:
                return found


def trained_through(settings: Settings, version: str) -> TrainedThrough:
    """Return the feedback that a version has trained on."""
    return load_version(settings, version).trained_through


def download_checkpoint(settings: Settings, version: str) -> Path:
    """Download a version's checkpoint unless a sound copy is here, and return its folder.

    Raises
    ------
    RegistryError
        The version is unknown, or a file of it is not what was registered.
    """
    registered = load_version(settings, version)
    files = _files(settings, registered)
    target, digest = copy_of(settings, registered.version, files)
    if is_sound(target, digest):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as partial:
        fetched = _fetch(settings, registered, files, Path(partial) / "model") / CHECKPOINT_FOLDER
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


def download_model(settings: Settings, version: str, folder: Path) -> None:
    """Download all files of a version into a new folder, from which `mlflow models serve` can serve it.

    Raises
    ------
    RegistryError
        The version is unknown, a file of it is not what was registered, or the folder exists.
    """
    if folder.exists():
        raise RegistryError(f"{folder} exists; name a new folder")
    registered = load_version(settings, version)
    files = _files(settings, registered)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as partial:
        _fetch(settings, registered, files, Path(partial) / "model").rename(folder)


def _fetch(settings: Settings, registered: RegisteredVersion, files: Mapping[str, str], folder: Path) -> Path:
    """Download the files of a version into a folder; nothing of them is loaded or executed before."""
    fetched = _download(settings, registered, folder)
    found = file_digests(fetched)
    changes = describe_changes(files, found)
    if changes:
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        raise RegistryError(
            f"version {registered.version} of model {settings.registered_model} is not what was registered: "
            f"{'; '.join(changes[:3])}{more}. Its artifacts in MLflow are incomplete or somebody has changed "
            "them: restore them from a backup, or go back to another version (`recsys rollback --to`)"
        )
    return fetched


def _files(settings: Settings, registered: RegisteredVersion) -> Mapping[str, str]:
    """Return the recorded digests of a version's files."""
    version = registered.version
    recorded = recorded_files(settings, version)
    if recorded is None:
        raise RegistryError(
            f"the warehouse has no digests of the files of version {version}: its registration did not "
            "finish, this system did not register it, or the warehouse was restored to an earlier time. "
            "Clear the task `register` of its run, or train again"
        )
    if recorded.files is None:
        trust_version(settings, registered, registered.checkpoint_digest)
        return _files(settings, registered)
    return recorded.files


def trust_version(settings: Settings, registered: RegisteredVersion, checkpoint_digest: str) -> None:
    """Record the files that a version has now, if its checkpoint has this digest."""
    with tempfile.TemporaryDirectory() as folder:
        fetched = _download(settings, registered, Path(folder) / "model")
        files = file_digests(fetched)
        if folder_digest(fetched / CHECKPOINT_FOLDER) != checkpoint_digest:
            raise RegistryError(
                f"the checkpoint of version {registered.version} is not the one that was registered: its "
                "artifacts in MLflow are incomplete or have changed; go back to another version"
            )
    record_version(settings, registered.version, registered.model_id, files)
    logger.warning("the files of version %s are recorded as they are now", registered.version)


def _download(settings: Settings, registered: RegisteredVersion, folder: Path) -> Path:
    folder.mkdir()
    client = mlflow_client(settings)
    with mlflow_errors(settings, f"download version {registered.version}"):
        # Not by the version's URI, because MLflow would add a file of its own.
        source = client.get_logged_model(registered.model_id).artifact_location
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(folder)))


def tag_version(settings: Settings, version: str, tags: Mapping[str, str]) -> None:
    """Set tags on a version."""
    client = mlflow_client(settings)
    with mlflow_errors(settings, f"tag version {version}"):
        for name, value in tags.items():
            client.set_model_version_tag(settings.registered_model, version, name, value)


def registered_version(version: ModelVersion) -> RegisteredVersion:
    """Convert a version of MLflow that this system registered."""
    tags = dict(version.tags)
    return RegisteredVersion(str(version.version), str(version.run_id), tags[DIGEST], tags, model_of(version))


def model_of(version: ModelVersion) -> str:
    """Return MLflow's id of the model that a version names."""
    return str(version.source).removeprefix("models:/")
