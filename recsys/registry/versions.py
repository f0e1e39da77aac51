"""Model versions: registered once for each run, found by number, fetched by digest."""

import json
import logging
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from recsys.errors import RegistryError
from recsys.evaluation.result import CANDIDATE, Evaluation
from recsys.registry.connection import is_missing, mlflow_client, mlflow_errors, quoted
from recsys.registry.tracking import RUN_KEY, experiment
from recsys.settings import Settings
from recsys.snapshot.reference import TrainedThrough

logger = logging.getLogger(__name__)

CHALLENGER_ALIAS = "challenger"
CHAMPION_ALIAS = "champion"

_MODEL_NAME = "recommender"
_CHECKPOINT = "checkpoint"
_READY = "READY"
_DIGEST = "recsys.checkpoint_digest"
PARENT = "recsys.parent_version"
_TRAINED_THROUGH = "recsys.trained_through"
# What a process needs beside this package to load and score a version.
_REQUIREMENTS = ("mlflow", "numpy", "pandas", "pyarrow", "safetensors", "scipy", "torch", "transformers")

# Of base encoders, by the digest of their weights; the licence of a package that carries them differs.
_LICENCES = {"53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db": "Apache-2.0"}


@dataclass(frozen=True)
class RegisteredVersion:
    """A model version of the registry and what is known about it."""

    version: str
    run_id: str
    checkpoint_digest: str
    tags: dict[str, str]

    @property
    def trained_through(self) -> TrainedThrough:
        """What the model has trained on."""
        return TrainedThrough.from_dict(json.loads(self.tags[_TRAINED_THROUGH]))


def register_version(
    settings: Settings,
    *,
    run_id: str,
    run_key: str,
    training: Mapping[str, Any],
    snapshot: Mapping[str, Any],
    evaluation: Evaluation | None = None,
) -> RegisteredVersion:
    """Log the checkpoint as a pyfunc and register it as `challenger`.

    A retry finds the version, or the logged model, of its first attempt.

    Parameters
    ----------
    run_id
        MLflow run of the training, from `track_training`.
    run_key
        Names the training run; one version each.
    training
        Contents of the training's `result.json`.
    snapshot
        Reference of the snapshot: uri, digest, kind, rows, window_id, and `parent` and `window_ids` if any.
    evaluation
        Its figures become tags.
    """
    client = mlflow_client(settings)
    name = settings.registered_model
    checkpoint = Path(training["checkpoint"])
    with mlflow_errors(settings, f"register the model of {run_key}"):
        version = _find(client, name, run_key)
        if version is None:
            tags = _tags(run_key, training, snapshot, evaluation, checkpoint)
            model_id = _logged_model(client, settings, run_id) or _log_model(run_id, checkpoint)
            _ensure_registered_model(client, name)
            version = client.create_model_version(
                name, source=f"models:/{model_id}", run_id=run_id, tags=tags, model_id=model_id
            )
        challenger = _alias_version(client, name, CHALLENGER_ALIAS)
        if challenger is None or int(challenger) < int(version.version):
            client.set_registered_model_alias(name, CHALLENGER_ALIAS, version.version)
    logger.info("registered %s version %s as challenger", name, version.version)
    return _registered(version)


def load_version(settings: Settings, version: str) -> RegisteredVersion:
    """Return a version.

    Raises
    ------
    RegistryError
        When the registry has no such version, or it was not registered by this system.
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
                f"there is no version {version} of model {name}; `recsys history` lists those decided on"
            ) from error
    if _DIGEST not in found.tags or found.status != _READY:
        raise RegistryError(
            f"version {version} of model {name} is not usable: it was not registered by this system or its "
            f"registration did not finish (status {found.status})"
        )
    return _registered(found)


def trained_through(settings: Settings, version: str) -> TrainedThrough:
    """Return what a version has trained on."""
    return load_version(settings, version).trained_through


def download_checkpoint(settings: Settings, version: str) -> Path:
    """Return the folder of a version's checkpoint, fetched once and checked against its digest.

    Raises
    ------
    RegistryError
        When the version is unknown or its files are not those that were registered.
    """
    registered = load_version(settings, version)
    digest = registered.checkpoint_digest
    target = settings.runs / "checkpoints" / f"{version}-{digest[:16]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    uri = f"models:/{settings.registered_model}/{version}/artifacts/{_CHECKPOINT}"
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as partial:
        with mlflow_errors(settings, f"download version {version}"):
            fetched = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=partial))
        if folder_digest(fetched) != digest:
            raise RegistryError(
                f"the checkpoint of version {version} does not match its digest {digest[:16]}...: its "
                "artifacts are incomplete or were changed; roll back to another version"
            )
        try:
            fetched.rename(target)
        except OSError:
            # Another process was faster; what it put there has the same digest.
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
    """Set the description that the MLflow UI shows beside a version."""
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


def code_version() -> str:
    """Return the package's version, with the commit when it runs from a checkout."""
    released = metadata.version("recsys")
    git = shutil.which("git")
    root = Path(__file__).resolve().parents[2]
    if git is None or not (root / ".git").exists():
        return released
    command = [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    described = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    commit = described.stdout.strip()
    return f"{released}+{commit}" if described.returncode == 0 and commit else released


def _find(client: MlflowClient, name: str, run_key: str) -> ModelVersion | None:
    found = client.search_model_versions(f"name = {quoted(name)} and tags.`{RUN_KEY}` = {quoted(run_key)}")
    return min(found, key=lambda version: int(version.version), default=None)


def _logged_model(client: MlflowClient, settings: Settings, run_id: str) -> str | None:
    """Return the model that an earlier attempt logged completely, if any."""
    found = client.search_logged_models(
        [experiment(client, settings)], f"source_run_id = {quoted(run_id)} AND name = {quoted(_MODEL_NAME)}"
    )
    ready = [model for model in found if str(model.status) == _READY]
    return str(ready[0].model_id) if ready else None


def _log_model(run_id: str, checkpoint: Path) -> str:
    # torch and the model are needed for the example only, and not by those who just read the registry.
    from recsys.model.checkpoint import load_recommender
    from recsys.registry import pyfunc_model

    if checkpoint.name != _CHECKPOINT:
        raise RegistryError(f"a checkpoint folder is named {_CHECKPOINT!r}, not {checkpoint.name!r}")
    recommender = load_recommender(checkpoint)
    users, params = pyfunc_model.input_example(recommender)
    # A model that cannot answer its own example is not registered; MLflow would only warn.
    pyfunc_model.recommend(recommender, users, params)
    with mlflow.start_run(run_id=run_id):
        logged = mlflow.pyfunc.log_model(
            name=_MODEL_NAME,
            python_model=str(Path(pyfunc_model.__file__)),
            artifacts={pyfunc_model.CHECKPOINT: str(checkpoint)},
            signature=pyfunc_model.signature(),
            input_example=(users, params),
            pip_requirements=requirements(),
        )
    return str(logged.model_id)


def requirements() -> list[str]:
    """Return the pinned packages that a version needs; this package itself is on no public index."""
    pins = []
    for name in _REQUIREMENTS:
        try:
            pins.append(f"{name}=={metadata.version(name).split('+')[0]}")
        except metadata.PackageNotFoundError:
            continue
    return pins


def _tags(
    run_key: str,
    training: Mapping[str, Any],
    snapshot: Mapping[str, Any],
    evaluation: Evaluation | None,
    checkpoint: Path,
) -> dict[str, str]:
    encoder = _base_encoder(checkpoint)
    figures = {}
    if evaluation is not None:
        figures = {
            figure.metric: round(figure.value, 6)
            for figure in evaluation.figures
            if figure.scorer == CANDIDATE
            and figure.slice == evaluation.main_slice
            and figure.value == figure.value
        }
    tags = {
        RUN_KEY: run_key,
        "recsys.kind": training["kind"],
        PARENT: snapshot.get("parent"),
        "recsys.compared_with": evaluation.champion_version if evaluation else None,
        "recsys.window_id": snapshot["window_id"],
        "recsys.window_ids": json.dumps(snapshot.get("window_ids", [snapshot["window_id"]])),
        "recsys.snapshot_uri": snapshot["uri"],
        "recsys.snapshot_digest": snapshot["digest"],
        _TRAINED_THROUGH: json.dumps(training["trained_through"], sort_keys=True),
        "recsys.metrics": json.dumps(figures, sort_keys=True),
        "recsys.code_version": code_version(),
        "recsys.base_encoder": encoder.get("name"),
        "recsys.base_encoder_sha256": encoder.get("sha256"),
        "recsys.base_encoder_licence": _LICENCES.get(str(encoder.get("sha256"))),
        "recsys.training_seconds": training.get("seconds"),
        "recsys.training_epochs": training.get("epochs"),
        "recsys.training_rows": snapshot.get("rows"),
        _DIGEST: folder_digest(checkpoint),
    }
    return {name: str(value) for name, value in tags.items() if value is not None}


def _base_encoder(checkpoint: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((checkpoint / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise RegistryError(f"{checkpoint} is not a checkpoint: {error}") from error
    encoder = manifest.get("base_encoder", {})
    return dict(encoder) if isinstance(encoder, dict) else {"name": encoder}


def _ensure_registered_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _alias_version(client: MlflowClient, name: str, alias: str) -> str | None:
    aliases = client.get_registered_model(name).aliases
    return str(aliases[alias]) if alias in aliases else None


def _registered(version: ModelVersion) -> RegisteredVersion:
    tags = dict(version.tags)
    return RegisteredVersion(str(version.version), str(version.run_id), tags[_DIGEST], tags)
