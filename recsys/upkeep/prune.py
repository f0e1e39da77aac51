"""Retention of model versions: remove old ones from MLflow, keep the record of decisions in SQL."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from recsys.promotion import ledger
from recsys.registry.connection import is_missing, mlflow_client, mlflow_errors, quoted
from recsys.registry.evaluation_files import remove_figures_by_user
from recsys.registry.versions import PARENT
from recsys.settings import Settings
from recsys.warehouse.advisory_locks import MODEL_REGISTRY, hold_lock
from recsys.warehouse.tables import experiments

logger = logging.getLogger(__name__)

ANCESTORS = 50
"""How many models in the champion's line of descent are kept: two days of hourly micro-updates."""
_PER_PAGE = 200


@dataclass(frozen=True)
class PruneReport:
    """What `prune_versions` removed.

    Attributes
    ----------
    versions
        Numbers of the removed versions.
    models
        Number of models whose files were removed; more than versions if an earlier call was killed.
    """

    versions: list[str]
    models: int


def prune_versions(engine: sa.Engine, settings: Settings, now: datetime) -> PruneReport:
    """Remove old model versions with their files and their per-user figures.

    These versions are kept, unless `recsys.upkeep.erased_models` removes them: those younger than
    `retention.model_versions_days`; the champion and the `retention.champions` champions before it, for
    rollbacks; the challenger of a running experiment; up to `ANCESTORS` models that the champion descends
    from; and any version with an alias. The
    ledger and `model_evaluations` keep decisions, checks and metrics of all versions, and MLflow runs keep
    parameters and reports.

    If the process is killed at any point, the next call completes the work: a version leaves the registry
    before its files are removed.
    """
    client = mlflow_client(settings)
    before = now - timedelta(days=settings.retention.model_versions_days)
    removed = []
    with hold_lock(engine, MODEL_REGISTRY), mlflow_errors(settings, "remove old model versions"):
        versions = _versions(client, settings)
        kept = _kept(engine, settings, client, versions)
        for number in [number for number in versions if number not in kept]:
            if _to_datetime(versions[number].creation_timestamp) < before:
                client.delete_model_version(settings.registered_model, number)
                removed.append(number)
                del versions[number]
        models = _remove_files(client, settings, {version.source for version in versions.values()}, before)
    report = PruneReport(sorted(removed, key=int), models)
    logger.info("old model versions: %s", report)
    return report


def _versions(client: MlflowClient, settings: Settings) -> dict[str, ModelVersion]:
    found: dict[str, ModelVersion] = {}
    token = None
    while True:
        page = client.search_model_versions(
            f"name = {quoted(settings.registered_model)}", max_results=_PER_PAGE, page_token=token
        )
        found |= {str(version.version): version for version in page}
        token = page.token
        if not token:
            return found


def _kept(
    engine: sa.Engine, settings: Settings, client: MlflowClient, versions: dict[str, ModelVersion]
) -> set[str]:
    """Return the numbers of versions that are kept at any age."""
    kept = set(ledger.latest_champions(engine, settings.retention.champions + 1))
    with engine.connect() as connection:
        kept |= set(
            connection.scalars(sa.select(experiments.c.challenger).where(experiments.c.ended_at.is_(None)))
        )
    current = ledger.champion(engine)
    descendant = versions.get(current.model_version) if current else None
    for _ in range(ANCESTORS):
        parent = descendant.tags.get(PARENT) if descendant else None
        if parent is None:
            break
        kept.add(parent)
        descendant = versions.get(parent)
    try:
        aliases = client.get_registered_model(settings.registered_model).aliases
    except MlflowException as error:
        if not is_missing(error):
            raise
        aliases = {}
    return kept | {str(version) for version in aliases.values()}


def _remove_files(client: MlflowClient, settings: Settings, sources: set[str], before: datetime) -> int:
    """Remove the files of old models without a version; delete each model's record last."""
    experiment = client.get_experiment_by_name(settings.registered_model)
    if experiment is None:
        return 0
    orphans: list[LoggedModel] = []
    token = None
    while True:
        page = client.search_logged_models(
            [experiment.experiment_id], max_results=_PER_PAGE, page_token=token
        )
        orphans += [
            model
            for model in page
            if f"models:/{model.model_id}" not in sources and _to_datetime(model.creation_timestamp) < before
        ]
        token = page.token
        if not token:
            break
    for model in orphans:
        get_artifact_repository(model.artifact_location).delete_artifacts()
        remove_figures_by_user(client, model.source_run_id)
        client.delete_logged_model(model.model_id)
    return len(orphans)


def _to_datetime(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
