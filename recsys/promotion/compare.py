"""Compare two model versions: origin, metrics, lineage and settings."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from mlflow.entities import RunData

from recsys.errors import EvaluationError, RegistryError, ServiceUnavailableError
from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.result import CANDIDATE, CHAMPION, Evaluation
from recsys.registry.connection import mlflow_client, mlflow_errors
from recsys.registry.tracking import EVALUATION_ARTIFACTS
from recsys.registry.versions import PARENT, RegisteredVersion, download_checkpoint, load_version
from recsys.settings import Settings
from recsys.warehouse.tables import model_evaluations, snapshots

_LONGEST_LINEAGE = 50
# Tags that describe a version's origin; the others are digests, decisions and figures shown elsewhere.
_ORIGIN = {
    "kind": "recsys.kind",
    "parent": PARENT,
    "trained through": "recsys.trained_through",
    "window": "recsys.window_id",
    "snapshot": "recsys.snapshot_digest",
    "base encoder": "recsys.base_encoder",
    "licence": "recsys.base_encoder_licence",
    "code": "recsys.code_version",
    "decision": "recsys.decision",
    "reason": "recsys.decision_reason",
}


@dataclass(frozen=True)
class PairedMetrics:
    """Metrics of both versions on the same users and events.

    Attributes
    ----------
    source
        The evaluation that they come from, in words.
    first, second
        Mean of each metric over users.
    difference
        Second - first with its interval, by paired bootstrap over users.
    """

    source: str
    users: int
    first: dict[str, float]
    second: dict[str, float]
    difference: dict[str, Interval]


@dataclass(frozen=True)
class VersionComparison:
    """Two model versions side by side.

    Attributes
    ----------
    versions
        Both version numbers; every pair below is in this order.
    origin
        Tags that describe the origin, by name.
    metrics
        Each version's evaluation as a candidate, by slice and metric. They are on different feedback, so
        their difference has no meaning.
    lineage
        Version, parent, ... back to the full fine-tune.
    settings
        Training settings that differ.
    paired
        Metrics on the same feedback; None when the two were never evaluated on the same feedback.
    """

    versions: tuple[str, str]
    origin: dict[str, tuple[str, str]]
    metrics: dict[tuple[str, str], tuple[float | None, float | None]]
    lineage: tuple[tuple[str, ...], tuple[str, ...]]
    settings: dict[str, tuple[str, str]]
    paired: PairedMetrics | None


def compare_versions(
    engine: sa.Engine, settings: Settings, first: str, second: str, *, evaluate: bool = False
) -> VersionComparison:
    """Compare two versions of the registry.

    Parameters
    ----------
    evaluate
        If the two were never evaluated on the same feedback, evaluate both now on the events of the newest
        full snapshot that neither has trained on. It takes as long as the evaluation of a nightly run.

    Raises
    ------
    RegistryError
        A version is unknown, or there is no snapshot to evaluate both on.
    NothingToDoError
        The two together have trained on all feedback.
    """
    one, two = load_version(settings, first), load_version(settings, second)
    paired = _stored_comparison(settings, one, two)
    if paired is None and evaluate:
        paired = _evaluate_both(engine, settings, one, two)
    own = [_metrics(engine, version) for version in (one, two)]
    runs = [_run(settings, version) for version in (one, two)]
    seconds = [
        f"{run.metrics['training_seconds']:g}" if "training_seconds" in run.metrics else "-" for run in runs
    ]
    return VersionComparison(
        (first, second),
        {name: (one.tags.get(tag, "-"), two.tags.get(tag, "-")) for name, tag in _ORIGIN.items()}
        | {"training seconds": (seconds[0], seconds[1])},
        {key: (own[0].get(key), own[1].get(key)) for key in sorted({*own[0], *own[1]})},
        (_lineage(settings, one), _lineage(settings, two)),
        _differences(*(dict(run.params) for run in runs)),
        paired,
    )


def _stored_comparison(
    settings: Settings, one: RegisteredVersion, two: RegisteredVersion
) -> PairedMetrics | None:
    """Read the evaluation of one version that has the other as champion; None without one."""
    for candidate, opponent in ((two, one), (one, two)):
        evaluation = _evaluation(settings, candidate)
        if evaluation is not None and evaluation.champion_version == opponent.version:
            names = (CHAMPION, CANDIDATE) if candidate is two else (CANDIDATE, CHAMPION)
            return _paired(settings, evaluation, names, f"the evaluation of version {candidate.version}")
    return None


def _evaluation(settings: Settings, version: RegisteredVersion) -> Evaluation | None:
    client = mlflow_client(settings)
    with tempfile.TemporaryDirectory() as folder:
        try:
            with mlflow_errors(settings, f"fetch the evaluation of version {version.version}"):
                path = client.download_artifacts(version.run_id, f"{EVALUATION_ARTIFACTS}/held_out", folder)
            return Evaluation.load(Path(path))
        except ServiceUnavailableError:
            raise
        except (RegistryError, EvaluationError, OSError):
            return None  # written by an older release, or pruned


def _evaluate_both(
    engine: sa.Engine, settings: Settings, one: RegisteredVersion, two: RegisteredVersion
) -> PairedMetrics | None:
    from recsys.evaluation.compare import compare_candidate
    from recsys.snapshot.read import read_snapshot
    from recsys.snapshot.shards import SHARDS_FOLDER
    from recsys.training.data import events_in_parts

    newest = sa.select(snapshots.c.uri).where(snapshots.c.kind == "full")
    with engine.connect() as connection:
        uri = connection.scalar(newest.order_by(snapshots.c.snapshot_id.desc()).limit(1))
    if uri is None:
        raise RegistryError("there is no full snapshot to evaluate both on; run nightly_training first")
    snapshot, runs = read_snapshot(uri), settings.runs / "compare"
    runs.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=runs) as folder,
        events_in_parts(snapshot, settings.training.events_in_memory, Path(folder) / SHARDS_FOLDER) as events,
    ):
        compared = compare_candidate(
            snapshot,
            events,
            download_checkpoint(settings, two.version),
            download_checkpoint(settings, one.version),
            one.version,
            settings.evaluation,
            Path(folder) / "evaluation",
        )
    return _paired(settings, compared.held_out, (CHAMPION, CANDIDATE), f"snapshot {uri}")


def _paired(
    settings: Settings, evaluation: Evaluation, names: tuple[str, str], source: str
) -> PairedMetrics | None:
    first, second = names
    if {first, second} & set(evaluation.failures) or evaluation.users == 0:
        return None
    return PairedMetrics(
        source,
        evaluation.users,
        {metric: evaluation.mean(first, metric) for metric in evaluation.metrics},
        {metric: evaluation.mean(second, metric) for metric in evaluation.metrics},
        {
            metric: evaluation.compare(second, first, metric, settings.evaluation)
            for metric in evaluation.metrics
        },
    )


def _metrics(engine: sa.Engine, version: RegisteredVersion) -> dict[tuple[str, str], float]:
    table = model_evaluations.c
    statement = sa.select(table.slice, table.metric, table.value).where(
        table.model_version == version.version, table.scorer == CANDIDATE, table.value.is_not(None)
    )
    with engine.connect() as connection:
        return {(row.slice, row.metric): row.value for row in connection.execute(statement)}


def _lineage(settings: Settings, version: RegisteredVersion) -> tuple[str, ...]:
    chain, current = [version.version], version
    while (parent := current.tags.get(PARENT)) is not None and len(chain) < _LONGEST_LINEAGE:
        chain.append(parent)
        try:
            current = load_version(settings, parent)
        except RegistryError:
            break  # pruned
    return tuple(chain)


def _run(settings: Settings, version: RegisteredVersion) -> RunData:
    client = mlflow_client(settings)
    with mlflow_errors(settings, f"find the run of version {version.version}"):
        return client.get_run(version.run_id).data


def _differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    names = sorted({*one, *two})
    return {
        name: (str(one.get(name, "-")), str(two.get(name, "-")))
        for name in names
        if one.get(name) != two.get(name)
    }
