"""Track trainings and evaluations in MLflow: one MLflow run per training run, found by its run key.

A retry logs the same parameters, the same metric points (with the same time and step) and the same artifact
paths, so it changes nothing.
"""

import json
import logging
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.filesystem_dataset_source import FileSystemDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from recsys.evaluation.report.plots import NOT_CURVES
from recsys.evaluation.result import CANDIDATE, Evaluation
from recsys.registry.connection import mlflow_client, mlflow_errors, quoted
from recsys.registry.lineage import Lineage
from recsys.settings import Settings
from recsys.snapshot.reference import SnapshotRef
from recsys.training.result import TrainingResult

logger = logging.getLogger(__name__)

RUN_KEY = "recsys.run_key"
# Without it the MLflow UI shows the experiment as generative AI, with empty pages.
_SHOWN_AS_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
EVALUATION_ARTIFACTS = "evaluation"
_METRICS_PER_CALL = 900  # MLflow takes at most 1,000
_DATASET_DIGEST_LENGTH = 32  # MLflow keeps at most 36 characters; the whole digest is a tag of the version


def track_training(settings: Settings, run_key: str, training: TrainingResult, lineage: Lineage) -> str:
    """Log a finished training: parameters, curves, and the snapshot as a dataset.

    Parameters
    ----------
    run_key
        Key of the training run; the same key finds the same MLflow run.
    training
        Its curves are read from `training.history`.
    lineage
        The snapshot becomes the run's dataset, and its Data Docs become tags.

    Returns
    -------
    Id of the MLflow run.
    """
    kind, snapshot = training.kind, lineage.snapshot
    client = mlflow_client(settings)
    with mlflow_errors(settings, f"log the training of {run_key}"):
        run_id = find_or_create_run(client, settings, run_key, kind)
        started = client.get_run(run_id).info.start_time
        tags = {
            "recsys.kind": kind,
            "recsys.data_docs": lineage.data_docs,
            "recsys.data_docs_url": lineage.data_docs_url,
        }
        client.log_batch(
            run_id,
            params=[Param(name, value) for name, value in parameters(settings, kind).items()],
            tags=[RunTag(name, str(value)) for name, value in tags.items() if value is not None],
        )
        _log_metrics(client, run_id, _points({"training_seconds": training.seconds}, started))
        _log_metrics(client, run_id, _curves(Path(training.history), started))
        _log_dataset(client, run_id, snapshot)
        client.set_terminated(run_id, "FINISHED")
    return run_id


def track_evaluation(settings: Settings, run_id: str, evaluation: Evaluation, folder: Path) -> None:
    """Log the candidate's main figures as metrics, and the folder with all figures, report and plots."""
    client = mlflow_client(settings)
    with mlflow_errors(settings, f"log the evaluation to run {run_id}"):
        started = client.get_run(run_id).info.start_time
        values = {
            figure.metric: figure.value
            for figure in evaluation.figures
            if figure.scorer == CANDIDATE and figure.slice == evaluation.main_slice
        }
        _log_metrics(client, run_id, _points(values, started))
        client.log_artifacts(run_id, str(folder), EVALUATION_ARTIFACTS)


def web_addresses(settings: Settings, version: str, run_id: str) -> dict[str, str]:
    """Return links to a version and its run in the MLflow UI by name; empty without a server."""
    uri = settings.require_tracking_uri()
    if not uri.startswith(("http://", "https://")):
        return {}
    client = mlflow_client(settings)
    with mlflow_errors(settings, f"find run {run_id}"):
        experiment_id = client.get_run(run_id).info.experiment_id
    address = f"{uri.rstrip('/')}/#"
    run = f"{address}/experiments/{experiment_id}/runs/{run_id}"
    return {
        "Evaluation": f"{run}/artifacts/{EVALUATION_ARTIFACTS}/report.html",
        "Model version": f"{address}/models/{quote(settings.registered_model)}/versions/{version}",
        "MLflow run": run,
    }


def find_or_create_run(client: MlflowClient, settings: Settings, run_key: str, kind: str) -> str:
    """Return the id of the run with this key; create the run if there is none."""
    experiment_id = experiment(client, settings)
    found = client.search_runs(
        [experiment_id], f"tags.`{RUN_KEY}` = {quoted(run_key)}", max_results=1, order_by=["start_time ASC"]
    )
    if found:
        return str(found[0].info.run_id)
    run = client.create_run(experiment_id, tags={RUN_KEY: run_key}, run_name=f"{kind} {run_key}")
    return str(run.info.run_id)


def experiment(client: MlflowClient, settings: Settings) -> str:
    """Return the id of the experiment named after the registered model; create it if there is none."""
    name = settings.registered_model
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    location = None
    if not settings.require_tracking_uri().startswith(("http://", "https://")):
        # Without a server MLflow would write artifacts into the current folder.
        location = (settings.home.resolve() / "mlflow" / "artifacts").as_uri()
    try:
        return str(client.create_experiment(name, artifact_location=location, tags=_SHOWN_AS_TRAINING))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(client.get_experiment_by_name(name).experiment_id)


def parameters(settings: Settings, kind: str) -> dict[str, str]:
    """Return the settings of a training as a flat dict; it holds no secrets."""
    sections: dict[str, Any] = {"model": settings.model, "evaluation": settings.evaluation}
    sections["training"] = settings.training
    if kind == "micro":
        sections["micro_update"] = settings.micro_update
    return {
        f"{section}.{name}": str(value)
        for section, values in sections.items()
        for name, value in values.model_dump().items()
    }


def _points(values: Mapping[str, Any], timestamp: int, step: int = 0) -> list[Metric]:
    return [
        Metric(name, float(value), timestamp + step, step)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and value == value
    ]


def _curves(path: Path, started: int) -> list[Metric]:
    if not path.is_file():
        return []
    points = []
    for number, line in enumerate(path.read_text().splitlines()):
        try:
            row = json.loads(line)
        except ValueError:  # the training was killed while it wrote its last line
            continue
        step = int(row.get("epoch", number))
        curves = {f"curve/{name}": value for name, value in row.items() if name not in NOT_CURVES}
        points += _points(curves, started, step)
    return points


def _log_metrics(client: MlflowClient, run_id: str, points: Iterable[Metric]) -> None:
    batch = list(points)
    for start in range(0, len(batch), _METRICS_PER_CALL):
        client.log_batch(run_id, metrics=batch[start : start + _METRICS_PER_CALL])


def _log_dataset(client: MlflowClient, run_id: str, snapshot: SnapshotRef) -> None:
    with warnings.catch_warnings():
        # MLflow finds a local folder twice among the possible sources, and warns.
        warnings.simplefilter("ignore", UserWarning)
        source = resolve_dataset_source(snapshot.uri, [FileSystemDatasetSource])
    dataset = MetaDataset(
        source,
        name=f"{snapshot.kind} snapshot of window {snapshot.window_id}",
        digest=snapshot.digest[:_DATASET_DIGEST_LENGTH],
    )
    tags = [InputTag(MLFLOW_DATASET_CONTEXT, "training")]
    client.log_inputs(run_id, [DatasetInput(Dataset(**dataset.to_dict()), tags=tags)])
