"""From a snapshot to a registered challenger with its evaluation."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from recsys.errors import RegistryError
from recsys.pipeline.context import Context
from recsys.pipeline.references import Candidate, Challenger, EvaluatedCandidate
from recsys.registry.lineage import Lineage
from recsys.settings import Settings

if TYPE_CHECKING:
    from recsys.registry.versions import RegisteredVersion
    from recsys.snapshot.read import Snapshot

logger = logging.getLogger(__name__)


def fine_tune(context: Context, lineage: Lineage) -> Candidate:
    """Fine-tune the recommender on a full snapshot, in a separate process."""
    return _train(context, lineage, "full")


def assist_fine_tune(context: Context, lineage: Lineage, machine: int) -> None:
    """Train on another machine together with `fine_tune`, which hands the result on.

    Parameters
    ----------
    machine
        Its number, from 2.
    """
    from recsys.training.job import TrainingJob, run_folder
    from recsys.training.launch import assist_training
    from recsys.tuning.adopted import settings_in_force

    settings, tuned = settings_in_force(context.engine, context.settings)
    logger.info("machine %d of %d", machine, settings.training.machines)
    folder = run_folder(settings.runs, "full", context.run.key)
    assist_training(TrainingJob.of(settings, "full", lineage.snapshot, folder, tuned=tuned))


def micro_update(context: Context, lineage: Lineage) -> Candidate:
    """Train a copy of the parent on the fresh feedback, in a separate process."""
    return _train(context, lineage, "micro")


def _train(context: Context, lineage: Lineage, kind: Literal["full", "micro"]) -> Candidate:
    from recsys.registry.tracking import track_training
    from recsys.registry.versions import download_checkpoint
    from recsys.training.job import TrainingJob, run_folder
    from recsys.training.launch import run_training
    from recsys.tuning.adopted import settings_in_force

    run, settings, tuned = context.run, context.settings, None
    if kind == "full":
        settings, tuned = settings_in_force(context.engine, settings)
    folder = run_folder(settings.runs, kind, run.key)
    parent = None if lineage.parent is None else download_checkpoint(settings, lineage.parent)
    training = run_training(TrainingJob.of(settings, kind, lineage.snapshot, folder, parent, tuned=tuned))
    mlflow_run = track_training(settings, run.key, training, lineage)
    return Candidate(lineage=lineage, training=training, folder=str(folder), mlflow_run=mlflow_run)


def evaluate(context: Context, candidate: Candidate) -> EvaluatedCandidate:
    """Rank held-out feedback with the candidate, its opponent and the baselines.

    The opponent of a full fine-tune is the champion, that of a micro-update its parent. Only events that
    neither of the two has trained on count.
    """
    from recsys.evaluation.compare import compare_candidate
    from recsys.evaluation.off_policy.log import read_slates
    from recsys.evaluation.ranking.user_attributes import read_user_attributes
    from recsys.promotion.ledger import champion
    from recsys.registry.tracking import track_evaluation
    from recsys.registry.versions import download_checkpoint
    from recsys.snapshot.read import read_snapshot
    from recsys.snapshot.shards import SHARDS_FOLDER
    from recsys.training.data import events_in_parts
    from recsys.training.result import verify_checkpoint

    settings, engine = context.settings, context.engine
    opponent = candidate.lineage.parent
    if opponent is None:
        current = champion(engine)
        opponent = None if current is None else current.model_version
    verify_checkpoint(candidate.training)
    folder = Path(candidate.folder) / "evaluation"
    # Training has just compared the digests of all files.
    snapshot = read_snapshot(candidate.lineage.snapshot, verify="sizes")
    earlier: dict[int, tuple[str, Path]] = {}
    if candidate.training.kind == "full" and opponent is not None:
        earlier = _earlier_champions(context, opponent)
    shards = Path(candidate.folder) / SHARDS_FOLDER
    with events_in_parts(snapshot, settings.training.events_in_memory, shards) as events:
        compared = compare_candidate(
            snapshot,
            events,
            Path(candidate.training.checkpoint),
            None if opponent is None else download_checkpoint(settings, opponent),
            opponent,
            settings.evaluation,
            folder,
            slates=lambda catalogue, since, until: read_slates(
                engine, catalogue, since, until, settings.evaluation.off_policy_event_types
            ),
            user_attributes=read_user_attributes(engine, settings.evaluation.user_slices),
            earlier={days: checkpoint for days, (_, checkpoint) in earlier.items()},
        )
    track_evaluation(settings, candidate.mlflow_run, compared.held_out, folder)
    _forget_erased_meanwhile(settings, snapshot, candidate.mlflow_run, folder)
    return EvaluatedCandidate(
        candidate=candidate,
        evaluation=str(folder),
        opponent=opponent,
        earlier_champions={days: version for days, (version, _) in earlier.items()},
    )


def _earlier_champions(context: Context, champion: str) -> dict[int, tuple[str, Path]]:
    """Return versions that were champion some days ago, with their checkpoints, by days.

    Of a version that has been champion all the time there is nothing to compare, and one that retention or
    erasure has removed cannot be. One that both ages have in common is compared at the smaller age.
    """
    from recsys.promotion.ledger import champion_at
    from recsys.registry.versions import download_checkpoint

    settings, found = context.settings, {}
    compared = {champion}
    for days in sorted(set(settings.evaluation.earlier_champion_days)):
        version = champion_at(context.engine, context.clock() - timedelta(days=days))
        if version is None or version in compared:
            continue
        try:
            found[days] = version, download_checkpoint(settings, version)
        except RegistryError as error:
            logger.warning("the champion of %d days ago is not compared: %s", days, error)
        compared.add(version)
    return found


def _forget_erased_meanwhile(settings: Settings, snapshot: Snapshot, mlflow_run: str, folder: Path) -> None:
    """Remove users who were erased from the snapshot while they were being evaluated."""
    from recsys.columns import Columns
    from recsys.registry.evaluation_files import erase_from_evaluation, users_of_evaluation
    from recsys.snapshot.read import read_snapshot

    now = read_snapshot(snapshot.uri, verify="sizes")
    if now.manifest.digest != snapshot.manifest.digest:
        gone = users_of_evaluation(folder)
        for events in now.row_groups([Columns.USER_KEY]):
            gone -= set(events.column(Columns.USER_KEY).unique().to_pylist())
        erase_from_evaluation(settings, mlflow_run, folder, gone)


def register(context: Context, evaluated: EvaluatedCandidate) -> Challenger:
    """Register the candidate as `challenger` in MLflow, and its figures in the warehouse."""
    from recsys.evaluation.comparison import Comparison
    from recsys.evaluation.earlier import declines, earlier_name
    from recsys.evaluation.store import store_declines, store_evaluation
    from recsys.registry.knowledge import record_knowledge
    from recsys.registry.registration import register_version
    from recsys.training.result import verify_checkpoint

    settings, run, candidate = context.settings, context.run, evaluated.candidate
    compared = Comparison.load(Path(evaluated.evaluation))
    verify_checkpoint(candidate.training)
    registered = register_version(
        settings,
        run_id=candidate.mlflow_run,
        run_key=run.key,
        training=candidate.training,
        lineage=candidate.lineage,
        evaluation=compared.held_out,
    )
    record_knowledge(context.engine, settings, registered)
    earlier = evaluated.earlier_champions
    versions = {"candidate": registered.version, "champion": evaluated.opponent}
    versions |= {earlier_name(days): version for days, version in earlier.items()}
    for evaluation in compared.evaluations:
        store_evaluation(context.engine, run.key, evaluation, versions)
    if evaluated.opponent is not None:
        lost = declines(compared.held_out, settings.evaluation)
        store_declines(context.engine, run.key, lost, evaluated.opponent, earlier, context.clock())
    return Challenger(
        version=registered.version,
        kind=candidate.training.kind,
        evaluation=evaluated.evaluation,
        mlflow_run=candidate.mlflow_run,
        links=_links(settings, registered, candidate),
    )


def _links(settings: Settings, registered: RegisteredVersion, candidate: Candidate) -> dict[str, str]:
    """Return addresses where a person reads more about a version."""
    from recsys.registry.tracking import web_addresses

    links = web_addresses(settings, registered.version, candidate.mlflow_run)
    data_docs = candidate.lineage.data_docs_url
    return links | ({"Data Docs": data_docs} if data_docs else {})
