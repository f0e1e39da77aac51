"""From a snapshot to a registered challenger with its evaluation."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.pipeline.context import Reference, Run, connect
from recsys.settings import Settings

if TYPE_CHECKING:
    from recsys.registry.versions import RegisteredVersion
    from recsys.snapshot.read import Snapshot


def fine_tune(run: Run, snapshot: Reference) -> Reference:
    """Fine-tune the recommender on a full snapshot, in a process of its own."""
    return _train(run, snapshot, "full")


def micro_update(run: Run, snapshot: Reference) -> Reference:
    """Teach a copy of the parent the fresh feedback, in a process of its own."""
    return _train(run, snapshot, "micro")


def _train(run: Run, snapshot: Reference, kind: str) -> Reference:
    from recsys.registry.tracking import track_training
    from recsys.registry.versions import download_checkpoint
    from recsys.training.launch import run_training

    settings, _ = connect()
    parent = snapshot.get("parent")
    folder = settings.runs / kind / sha256(run.key.encode()).hexdigest()[:16]
    result = run_training(
        kind,
        snapshot["uri"],
        folder,
        settings,
        parent=download_checkpoint(settings, parent) if parent else None,
    )
    training = result.to_dict()
    mlflow_run = track_training(settings, run.key, training, snapshot)
    return {"snapshot": snapshot, "training": training, "folder": str(folder), "mlflow_run": mlflow_run}


def evaluate(run: Run, candidate: Reference) -> Reference:
    """Rank held-out feedback with the candidate, its opponent and the baselines.

    A full fine-tune meets the champion, a micro-update its parent. Only events count that neither of
    the two has trained on.
    """
    from recsys.evaluation.compare import compare_candidate
    from recsys.evaluation.off_policy.log import read_slates
    from recsys.evaluation.ranking.user_attributes import read_user_attributes
    from recsys.promotion.ledger import champion
    from recsys.registry.tracking import track_evaluation
    from recsys.registry.versions import download_checkpoint
    from recsys.snapshot.read import read_snapshot
    from recsys.snapshot.reference import SnapshotRef

    settings, engine = connect()
    opponent = candidate["snapshot"].get("parent")
    if opponent is None:
        current = champion(engine)
        opponent = None if current is None else current.model_version
    folder = Path(candidate["folder"]) / "evaluation"
    snapshot = read_snapshot(SnapshotRef.from_dict(candidate["snapshot"]))
    compared = compare_candidate(
        snapshot,
        Path(candidate["training"]["checkpoint"]),
        None if opponent is None else download_checkpoint(settings, opponent),
        opponent,
        settings.evaluation,
        folder,
        slates=lambda catalogue, since, until: read_slates(
            engine, catalogue, since, until, settings.evaluation.off_policy_event_types
        ),
        user_attributes=read_user_attributes(engine, settings.evaluation.user_slices),
    )
    track_evaluation(settings, candidate["mlflow_run"], compared.held_out, folder)
    _forget_erased_meanwhile(settings, snapshot, candidate["mlflow_run"], folder)
    return candidate | {"evaluation": str(folder), "opponent": opponent}


def _forget_erased_meanwhile(settings: Settings, snapshot: Snapshot, mlflow_run: str, folder: Path) -> None:
    """Leave out users who asked to be forgotten while they were evaluated: the snapshot has lost them."""
    from recsys.registry.evaluation_files import erase_from_evaluation, users_of_evaluation
    from recsys.snapshot.read import read_snapshot

    now = read_snapshot(snapshot.uri)
    if now.manifest.digest != snapshot.manifest.digest:
        gone = users_of_evaluation(folder) - set(now.sequences().user_keys)
        erase_from_evaluation(settings, mlflow_run, folder, gone)


def register(run: Run, evaluated: Reference) -> Reference:
    """Register the candidate as `challenger` in MLflow, and its figures in the warehouse."""
    from recsys.evaluation.comparison import Comparison
    from recsys.evaluation.store import store_evaluation
    from recsys.registry.versions import register_version

    settings, engine = connect()
    compared = Comparison.load(Path(evaluated["evaluation"]))
    registered = register_version(
        settings,
        run_id=evaluated["mlflow_run"],
        run_key=run.key,
        training=evaluated["training"],
        snapshot=evaluated["snapshot"],
        evaluation=compared.held_out,
    )
    versions = {"candidate": registered.version, "champion": evaluated["opponent"]}
    for evaluation in compared.evaluations:
        store_evaluation(engine, run.key, evaluation, versions)
    return {
        "version": registered.version,
        "kind": evaluated["training"]["kind"],
        "evaluation": evaluated["evaluation"],
        "mlflow_run": evaluated["mlflow_run"],
        "links": _links(settings, registered, evaluated),
    }


def _links(settings: Settings, registered: RegisteredVersion, evaluated: Reference) -> dict[str, str]:
    """Return addresses where a person reads more about a version."""
    from recsys.registry.tracking import web_addresses

    links = web_addresses(settings, registered.version, evaluated["mlflow_run"])
    data_docs = evaluated["snapshot"].get("data_docs_url")
    return links | ({"Data Docs": data_docs} if data_docs else {})
