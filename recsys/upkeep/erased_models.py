"""Remove the files of versions that know erased users and may no longer be served, and watch the champion."""

import logging
import shutil
from datetime import datetime

import sqlalchemy as sa
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from recsys.alerts import send_alert
from recsys.promotion import ledger
from recsys.promotion.replacement import is_due
from recsys.promotion.serving_term import serving_term, serving_terms
from recsys.registry.connection import is_missing, mlflow_client, mlflow_errors, quoted
from recsys.registry.evaluation_files import remove_figures_by_user
from recsys.registry.tracking import RUN_KEY
from recsys.registry.versions import registered_versions
from recsys.settings import Settings
from recsys.training.job import run_folder
from recsys.warehouse.advisory_locks import MODEL_REGISTRY, hold_lock
from recsys.warehouse.tables import model_versions

logger = logging.getLogger(__name__)


def remove_erased_models(engine: sa.Engine, settings: Settings, now: datetime) -> list[str]:
    """Remove versions whose time is over, but never the champion, from MLflow and from this machine's disk.

    Their decisions, metrics and reports stay. If the process is killed at any point, the next call completes
    the work: that a version was removed is noted last.

    Returns
    -------
    Numbers of the removed versions.
    """
    client = mlflow_client(settings)
    with hold_lock(engine, MODEL_REGISTRY), mlflow_errors(settings, "remove models that know erased users"):
        current = ledger.champion(engine)
        terms = serving_terms(engine, settings, _with_files(engine, settings))
        over = sorted((version for version, term in terms.items() if term.is_over(now)), key=int)
        removed = [version for version in over if current is None or version != current.model_version]
        for version in removed:
            _remove(engine, client, settings, version)
    logger.info("models that know erased users and may not be served: %s", ", ".join(removed) or "none")
    return removed


def watch_champion(engine: sa.Engine, settings: Settings, now: datetime) -> bool:
    """Alert if the champion knows erased users and its time ends soon or is over; return whether it is so."""
    current = ledger.champion(engine)
    term = None if current is None else serving_term(engine, settings, current.model_version)
    if term is None or not is_due(term, settings.privacy, now):
        return False
    if term.is_over(now):
        what_to_do = (
            "That time is over, and hourly updates have stopped: trigger nightly_training and see that it "
            "ends. Its candidate is promoted if its scores are finite"
        )
    else:
        what_to_do = (
            "See that nightly_training runs: its candidate is promoted unless it is shown to be worse, and "
            "in the last night even then"
        )
    send_alert(settings, f"the champion has to be replaced: {term}. {what_to_do}")
    return True


def _with_files(engine: sa.Engine, settings: Settings) -> set[str]:
    """Return the versions that are registered or whose files may be left."""
    left = sa.select(model_versions.c.model_version).where(model_versions.c.files_removed_at.is_(None))
    with engine.connect() as connection:
        return registered_versions(settings) | set(connection.scalars(left))


def _remove(engine: sa.Engine, client: MlflowClient, settings: Settings, version: str) -> None:
    row = model_versions.c
    with engine.connect() as connection:
        recorded = connection.execute(sa.select(model_versions).where(row.model_version == version)).one()
    try:
        client.delete_model_version(settings.registered_model, version)
    except MlflowException as error:
        if not is_missing(error):
            raise
    folders = list((settings.runs / "checkpoints").glob(f"{version}-*"))
    if recorded.run_key is not None:
        folders.append(run_folder(settings.runs, recorded.kind, recorded.run_key))
        _remove_logged(client, settings, recorded.run_key)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    with engine.begin() as connection:
        removed = model_versions.update().where(row.model_version == version)
        connection.execute(removed.values(files_removed_at=sa.func.clock_timestamp()))


def _remove_logged(client: MlflowClient, settings: Settings, run_key: str) -> None:
    """Remove all models that a training run has logged; each model's record is deleted last."""
    experiment = client.get_experiment_by_name(settings.registered_model)
    if experiment is None:
        return
    experiments = [experiment.experiment_id]
    for run in client.search_runs(experiments, f"tags.`{RUN_KEY}` = {quoted(run_key)}"):
        run_id = str(run.info.run_id)
        remove_figures_by_user(client, run_id)
        for model in client.search_logged_models(experiments, f"source_run_id = {quoted(run_id)}"):
            get_artifact_repository(model.artifact_location).delete_artifacts()
            client.delete_logged_model(model.model_id)
