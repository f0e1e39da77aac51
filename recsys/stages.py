"""The loop's stages, one function for each DAG task: a reference in, a reference out.

A reference is a small dict of ids, URIs and figures that fits an XCom; data stays in Postgres, in
snapshots and in the registry. Every stage can be killed at any point and run again. Heavy libraries
load inside the functions, so that a DAG file can import this module.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.errors import NothingToDoError, PromotionConflictError
from recsys.settings import Settings, load_settings

if TYPE_CHECKING:
    import sqlalchemy as sa

    from recsys.registry.ledger import Champion
    from recsys.registry.versions import RegisteredVersion
    from recsys.snapshot.read import Snapshot

logger = logging.getLogger(__name__)

Reference = dict[str, Any]
_WINDOWS_NAMED = 100
"""At most, on a model version: the newest."""


@dataclass(frozen=True)
class Run:
    """The DAG run that a stage belongs to."""

    dag_id: str
    key: str
    interval: tuple[datetime, datetime] | None = None
    params: dict[str, Any] = field(default_factory=dict)
    asked_by: str | None = None
    airflow_url: str | None = None
    """Address of the Airflow UI where it is configured, for links."""


def _connect() -> tuple[Settings, sa.Engine]:
    from recsys.warehouse.engine import connect

    settings = load_settings()
    return settings, connect(settings.require_warehouse_url())


def _require_champion(engine: sa.Engine, why: str) -> Champion:
    from recsys.registry.ledger import champion

    current = champion(engine)
    if current is None:
        raise NothingToDoError(f"there is no champion yet {why}; run nightly_training first")
    return current


def open_window(run: Run) -> Reference:
    """Record which feedback this run handles; its retries find the same window."""
    from recsys.registry.versions import trained_through
    from recsys.warehouse.windows import open_window as open_recorded_window

    settings, engine = _connect()
    first_lower = 0
    if run.dag_id == "hourly_micro_update":
        # What the champion has trained on was validated by the run that trained it.
        current = _require_champion(engine, "to update")
        first_lower = trained_through(settings, current.model_version).transaction_id
    window = open_recorded_window(engine, run.dag_id, run.key, run.interval, first_lower=first_lower)
    return {"window_id": window.window_id, "arrived": window.arrived}


def validate(run: Run, window: Reference) -> Reference:
    """Move rows that break a rule to quarantine and check the rest; publish the Data Docs."""
    from recsys.alerts import send_alert
    from recsys.validation.data_docs import link_to_run
    from recsys.validation.validate import validate_window
    from recsys.warehouse.windows import load_window, reconcile_window

    settings, engine = _connect()
    recorded = load_window(engine, window["window_id"])
    report = validate_window(engine, recorded, settings, settings.data_docs)
    reconciliation = reconcile_window(engine, recorded.window_id)
    if not reconciliation.balanced:
        send_alert(settings, f"window {recorded.window_id} does not reconcile: {reconciliation}")
    return {
        "window_id": report.window_id,
        "arrived": report.arrived,
        "valid": report.valid,
        "quarantined": report.quarantined,
        "duplicates": report.duplicates,
        "data_docs": report.data_docs,
        "data_docs_url": link_to_run(run.airflow_url, run.key) if run.airflow_url else None,
    }


def take_full_snapshot(run: Run, window: Reference) -> Reference:
    """Write all valid feedback as of the window's end to Parquet, and a sample of it to be replayed."""
    from recsys.snapshot.reservoir import write_reservoir
    from recsys.snapshot.write import take_full_snapshot as write_full_snapshot
    from recsys.warehouse.windows import load_window

    settings, engine = _connect()
    snapshot = write_full_snapshot(engine, load_window(engine, window["window_id"]), settings)
    write_reservoir(engine, snapshot, settings)
    return snapshot.to_dict() | _data_docs(window)


def take_micro_snapshot(run: Run, window: Reference) -> Reference:
    """Write what the champion has not trained on, with feedback to replay, to Parquet."""
    from recsys.registry.versions import trained_through
    from recsys.snapshot.write import take_micro_snapshot as write_micro_snapshot
    from recsys.warehouse.windows import learned_windows, load_window

    settings, engine = _connect()
    parent = _require_champion(engine, "to update")
    recorded = load_window(engine, window["window_id"])
    known = trained_through(settings, parent.model_version)
    snapshot = write_micro_snapshot(engine, recorded, settings, known)
    learned = learned_windows(engine, recorded.window_id, known.transaction_id)
    return (
        snapshot.to_dict()
        | _data_docs(window)
        | {"parent": parent.model_version, "window_ids": learned[-_WINDOWS_NAMED:]}
    )


def _data_docs(window: Reference) -> Reference:
    # A run that was validated by an older release has no address.
    return {"data_docs": window["data_docs"], "data_docs_url": window.get("data_docs_url")}


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

    settings, _ = _connect()
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
    from recsys.evaluation.off_policy_log import read_slates
    from recsys.evaluation.user_attributes import read_user_attributes
    from recsys.registry.ledger import champion
    from recsys.registry.tracking import track_evaluation
    from recsys.registry.versions import download_checkpoint
    from recsys.snapshot.read import read_snapshot
    from recsys.snapshot.reference import SnapshotRef

    settings, engine = _connect()
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
    from recsys.evaluation.compare import Comparison
    from recsys.evaluation.store import store_evaluation
    from recsys.registry.versions import register_version

    settings, engine = _connect()
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


def gate(run: Run, challenger: Reference) -> Reference:
    """Decide whether the challenger is promoted, with named checks."""
    from recsys.evaluation.compare import Comparison
    from recsys.registry.approval import ask_if_configured
    from recsys.registry.gate import ASK, decide
    from recsys.registry.gate_report import track_gate, write_gate_report
    from recsys.registry.versions import describe_version, tag_version

    settings = load_settings()
    folder = Path(challenger["evaluation"])
    compared = Comparison.load(folder)
    decision = decide(
        challenger["kind"],
        compared.held_out,
        settings,
        compared.guard,
        off_policy=compared.off_policy,
        liking=compared.liking,
    )
    decision = ask_if_configured(decision, challenger["kind"], settings.approval)
    write_gate_report(folder, decision)
    track_gate(settings, challenger["mlflow_run"], folder)
    logger.info("%s: %s", decision.action, decision.explanation)
    version = challenger["version"]
    if decision.action == ASK:
        describe_version(settings, version, f"waits for a person: {decision.explanation}")
        tag_version(settings, version, {"recsys.decision": ASK, "recsys.decision_reason": decision.reason})
    return {"version": version, "decision": decision.to_dict(), "links": challenger["links"]}


def approve(run: Run, decided: Reference) -> Reference:
    """Put into words what a person is asked about the gate's decision."""
    from recsys.registry.approval import body, subject
    from recsys.registry.gate import ASK, Decision

    decision = Decision.from_dict(decided["decision"])
    if decision.action != ASK:
        raise NothingToDoError(f"no person needs to be asked: the gate's decision is {decision.action}")
    return {"subject": subject(decided["version"], decision), "body": body(decision, decided["links"])}


def promote(run: Run, decided: Reference, response: Reference) -> Reference:
    """Carry out the gate's decision, or the person's: only a promotion changes what users see.

    `response` is empty when no person was asked.
    """
    from recsys.registry.approval import Response, answered
    from recsys.registry.gate import Decision
    from recsys.registry.promote import carry_out

    settings, engine = _connect()
    decision = Decision.from_dict(decided["decision"])
    version = decided["version"]
    actor = run.key
    if response:
        answer = Response.from_dict(response)
        decision = answered(decision, answer)
        actor = f"{answer.by} ({run.key})" if answer.by else run.key
    try:
        entry = carry_out(engine, settings, decision, version, actor=actor, run_key=run.key)
    except PromotionConflictError as conflict:
        decision = replace(decision, action="hold", reason="champion_changed", explanation=str(conflict))
        entry = carry_out(engine, settings, decision, version, actor=actor, run_key=run.key)
    if entry.action != "promote":
        raise NothingToDoError(f"version {version} is not promoted ({entry.reason}): {entry.explanation}")
    return {"version": version, "reason": entry.reason}


def publish(run: Run) -> Reference:
    """Score users with the champion and swap their recommendations in one transaction."""
    from recsys.publishing.publish import publish as publish_champion

    settings, engine = _connect()
    summary = publish_champion(engine, settings, scope=run.params.get("scope", "auto"), run_key=run.key)
    return summary.to_dict()


def refresh_users(run: Run, promoted: Reference) -> Reference:
    """Publish for users with fresh feedback although the champion stays: what they did counts at once.

    `promoted` is empty when the run promoted nothing; otherwise the new champion is published elsewhere.
    """
    if promoted:
        raise NothingToDoError(
            f"version {promoted['version']} is champion now: publish_recommendations follows"
        )
    return publish(run)


def refresh_analytics(run: Run) -> Reference:
    """Refresh the analytics views."""
    from recsys.warehouse.analytics import refresh_analytics as refresh

    _, engine = _connect()
    refresh(engine)
    return {}


def keep_house(run: Run) -> Reference:
    """Make partitions, carry out erasure requests, apply retention, look for rows that do not add up."""
    from recsys.warehouse.housekeeping import keep_house as keep_warehouse

    settings, engine = _connect()
    report = keep_warehouse(engine, settings)
    return report.to_dict()


def reconcile_registry(run: Run) -> Reference:
    """Make the MLflow alias follow the ledger, should a crash have come between the two."""
    from recsys.registry.promote import reconcile_alias

    settings, engine = _connect()
    return {"champion": reconcile_alias(engine, settings)}


def prune_registry(run: Run) -> Reference:
    """Remove model versions past their retention, with their files."""
    from recsys.registry.prune import prune_versions

    settings, engine = _connect()
    return prune_versions(engine, settings).to_dict()


def roll_back(run: Run) -> Reference:
    """Make an earlier version champion again, for a reason that the ledger keeps."""
    from recsys.registry.rollback import roll_back as roll_back_champion

    settings, engine = _connect()
    entry = roll_back_champion(
        engine,
        settings,
        reason=run.params["reason"],
        actor=f"{run.asked_by or 'unknown person'} ({run.key})",
        to=run.params["version"],
        run_key=run.key,
    )
    return {"version": entry.model_version, "reason": entry.explanation}
