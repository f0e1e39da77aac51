"""Register model versions: one per training run, with tags of its lineage."""

import json
import logging
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from pydantic_core import to_jsonable_python

from recsys.digests import file_digests, folder_digest
from recsys.errors import RegistryError
from recsys.evaluation.result import Evaluation
from recsys.registry.connection import mlflow_client, mlflow_errors, quoted
from recsys.registry.description import describe
from recsys.registry.lineage import Lineage
from recsys.registry.local_copies import CHECKPOINT
from recsys.registry.model_files import is_recorded, name_version, record_files
from recsys.registry.tracking import RUN_KEY, experiment, web_addresses
from recsys.registry.versions import (
    CHALLENGER_ALIAS,
    DIGEST,
    LIVE_INTEREST,
    PARENT,
    READY,
    TRAINED_THROUGH,
    TUNED_SETTINGS,
    RegisteredVersion,
    model_of,
    registered_version,
    trust_version,
)
from recsys.resources import checkout
from recsys.settings import Settings
from recsys.training.result import TrainingResult

logger = logging.getLogger(__name__)

BASE_ENCODER = "recsys.base_encoder"
_MODEL_NAME = "recommender"
# Packages that a process needs to load and score a version, in addition to this one.
_REQUIREMENTS = ("mlflow", "numpy", "pandas", "pyarrow", "safetensors", "scipy", "torch", "transformers")
# Licences of base encoders by the digest of their weights; packages that carry the weights have their own.
_LICENCES = {"53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db": "Apache-2.0"}


def register_version(
    settings: Settings,
    *,
    run_id: str,
    run_key: str,
    training: TrainingResult,
    lineage: Lineage,
    evaluation: Evaluation | None = None,
) -> RegisteredVersion:
    """Log the checkpoint as a pyfunc and register it as `challenger`.

    The digests of all files are in the warehouse before the files are in MLflow. A retry finds the
    version, or the logged model, of its first attempt.

    Parameters
    ----------
    run_id
        MLflow run of the training, from `track_training`.
    run_key
        Key of the training run; it gets one version.
    training, lineage, evaluation
        Become the version's description; what code reads becomes tags.
    """
    client = mlflow_client(settings)
    name = settings.registered_model
    checkpoint = Path(training.checkpoint)
    with mlflow_errors(settings, f"register the model of {run_key}"):
        version = _find(client, name, run_key)
        if version is not None and not is_recorded(settings, model_of(version)):
            # An earlier release registered it, or the warehouse was restored to an earlier time.
            trust_version(settings, registered_version(version), folder_digest(checkpoint))
        if version is None:
            tags = _tags(run_key, training, lineage, checkpoint)
            model_id = _logged_model(client, settings, run_id)
            if model_id is None:
                model_id = _log_model(settings, run_id, run_key, checkpoint)
            _ensure_registered_model(client, name)
            version = client.create_model_version(
                name, source=f"models:/{model_id}", run_id=run_id, tags=tags, model_id=model_id
            )
        if not version.description:
            links = web_addresses(settings, str(version.version), run_id)
            if lineage.data_docs_url:
                links["Data Docs"] = lineage.data_docs_url
            encoder = dict(version.tags).get(BASE_ENCODER)
            client.update_model_version(
                name,
                version.version,
                describe(str(version.version), training, lineage, evaluation, encoder, links),
            )
        name_version(settings, model_of(version), str(version.version))
        challenger = _alias_version(client, name, CHALLENGER_ALIAS)
        if challenger is None or int(challenger) < int(version.version):
            client.set_registered_model_alias(name, CHALLENGER_ALIAS, version.version)
    logger.info("registered %s version %s as challenger", name, version.version)
    return registered_version(version)


def code_version() -> str:
    """Return the version of this package, with the commit in a checkout."""
    released = metadata.version("recsys")
    git = shutil.which("git")
    root = checkout()
    if git is None or root is None or not (root / ".git").exists():
        return released
    command = [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    described = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    commit = described.stdout.strip()
    return f"{released}+{commit}" if described.returncode == 0 and commit else released


def requirements() -> list[str]:
    """Return the pinned packages that a version needs, without this package, which no public index has."""
    pins = []
    for name in _REQUIREMENTS:
        try:
            pins.append(f"{name}=={metadata.version(name).split('+')[0]}")
        except metadata.PackageNotFoundError:
            continue
    return pins


def _find(client: MlflowClient, name: str, run_key: str) -> ModelVersion | None:
    found = client.search_model_versions(f"name = {quoted(name)} and tags.`{RUN_KEY}` = {quoted(run_key)}")
    return min(found, key=lambda version: int(version.version), default=None)


def _logged_model(client: MlflowClient, settings: Settings, run_id: str) -> str | None:
    """Return the model that an earlier attempt logged completely; None without one."""
    found = client.search_logged_models(
        [experiment(client, settings)], f"source_run_id = {quoted(run_id)} AND name = {quoted(_MODEL_NAME)}"
    )
    ready = [str(model.model_id) for model in found if str(model.status) == READY]
    return next((model_id for model_id in ready if is_recorded(settings, model_id)), None)


def _log_model(settings: Settings, run_id: str, run_key: str, checkpoint: Path) -> str:
    # Imports torch, which readers of the registry do not need.
    from recsys.model.checkpoint import load_recommender
    from recsys.registry import pyfunc_model

    if checkpoint.name != CHECKPOINT:
        raise RegistryError(f"a checkpoint folder is named {CHECKPOINT!r}, not {checkpoint.name!r}")
    recommender = load_recommender(checkpoint)
    users, params = pyfunc_model.input_example(recommender)
    # A model that fails on its own example must not be registered; MLflow would only warn.
    pyfunc_model.recommend(recommender, users, params)

    class RecordedPyfunc:
        """MLflow's own flavour, with a step between writing the files and sending them to the store."""

        @staticmethod
        def save_model(
            path: str, mlflow_model: Model, *, validate_serving_input: bool, **options: Any
        ) -> None:
            assert not validate_serving_input
            mlflow.pyfunc.save_model(path=path, mlflow_model=mlflow_model, **options)
            for bytecode in Path(path).rglob("__pycache__"):
                shutil.rmtree(bytecode)
            record_files(settings, mlflow_model.model_id, run_key, file_digests(Path(path)))

    with mlflow.start_run(run_id=run_id):
        logged = Model.log(
            artifact_path=None,
            name=_MODEL_NAME,
            flavor=RecordedPyfunc,
            flavor_name="pyfunc",
            python_model=str(Path(pyfunc_model.__file__).with_name("pyfunc_code.py")),
            artifacts={pyfunc_model.CHECKPOINT: str(checkpoint)},
            signature=pyfunc_model.signature(),
            input_example=(users, params),
            pip_requirements=requirements(),
            # It would load the model, and the bytecode of its code would be sent along.
            validate_serving_input=False,
        )
    return str(logged.model_id)


def _tags(
    run_key: str,
    training: TrainingResult,
    lineage: Lineage,
    checkpoint: Path,
) -> dict[str, str]:
    """Return what code searches or compares by; what people read is in the description."""
    manifest = _manifest(checkpoint)
    encoder, live = manifest["base_encoder"], manifest.get("live_interest")
    tuned = manifest.get("tuned_settings")
    tags = {
        RUN_KEY: run_key,
        "recsys.kind": training.kind,
        PARENT: lineage.parent,
        "recsys.window_id": lineage.snapshot.window_id,
        "recsys.snapshot_digest": lineage.snapshot.digest,
        TRAINED_THROUGH: json.dumps(to_jsonable_python(training.trained_through), sort_keys=True),
        "recsys.code_version": code_version(),
        BASE_ENCODER: encoder.get("name"),
        "recsys.base_encoder_licence": _LICENCES.get(str(encoder.get("sha256"))),
        LIVE_INTEREST: None if live is None else json.dumps(live, sort_keys=True),
        TUNED_SETTINGS: json.dumps(tuned, sort_keys=True) if tuned else None,
        DIGEST: folder_digest(checkpoint),
    }
    return {name: str(value) for name, value in tags.items() if value is not None}


def _manifest(checkpoint: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((checkpoint / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise RegistryError(f"{checkpoint} is not a checkpoint: {error}") from error
    encoder = manifest.get("base_encoder", {})
    return manifest | {"base_encoder": encoder if isinstance(encoder, dict) else {"name": encoder}}


def _ensure_registered_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _alias_version(client: MlflowClient, name: str, alias: str) -> str | None:
    aliases = client.get_registered_model(name).aliases
    return str(aliases[alias]) if alias in aliases else None
