"""The demo: run the whole loop on real feedback through the real scheduler."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
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
from recsys.commands.demo_visit import try_visit
from recsys.commands.engine import warehouse_engine
from recsys.commands.serve import DEFAULT_PORT
from recsys.commands.stack import StackProgress, print_addresses
from recsys.errors import StackError
from recsys.local.airflow_client import AirflowClient, DagRun
from recsys.local.home import DEMO_DATA, StackHome
from recsys.local.stack import interrupted_once, stack_state, start_stack, stop_stack
from recsys.local.state import StackPhase
from recsys.settings import Settings, load_settings
from recsys.warehouse.ingest import IngestSummary, ingest_file
from recsys.warehouse.variants import propose_variants

REPORT_NAME = "demo-report.json"
_TRAINING_TIMEOUT_SECONDS = 3600.0
_PUBLISH_TIMEOUT_SECONDS = 600.0


def run_demo(console: Console, data: Path | None = None) -> dict[str, Any]:
    """Run the loop, write the report to the home folder and return it.

    Parameters
    ----------
    data
        Folder with MovieLens files; by default MovieLens-100K from the package index.

    Raises
    ------
    StackError
        The stack does not start, or a DAG run fails.
    """
    started = time.monotonic()
    settings = load_settings()
    # Before the feedback is written into it: the folder is private from the first moment.
    StackHome(settings.home).create()
    _step(console, 1, "Prepare real feedback")
    files = prepare_demo(settings.home.resolve() / DEMO_DATA, data)
    console.print(f"  {files.description}")

    _step(console, 2, "Start Postgres, MLflow and Airflow")
    was_up = stack_state(settings.home).phase is StackPhase.HEALTHY
    # Ctrl-C and a termination signal stop the stack as well.
    with interrupted_once():
        with StackProgress(console) as progress:
            state = start_stack(settings.home, schedules=False, progress=progress.show)
        print_addresses(state, console)
        try:
            with AirflowClient.for_home(settings.home) as airflow:
                report, taste = _run_loop(console, airflow, files)
        finally:
            if not was_up:
                _step(console, 5, "Stop the stack")
                stop_stack(settings.home)
    report["seconds"] = round(time.monotonic() - started, 1)
    report_file = settings.home / REPORT_NAME
    report_file.write_text(json.dumps(report, indent=2) + "\n")
    show_report(console, report, taste, _where_next(report_file))
    console.print(f"Done in {report['seconds'] / 60:.1f} minutes.")
    return report


def _run_loop(console: Console, airflow: AirflowClient, files: DemoFiles) -> tuple[dict[str, Any], Taste]:
    # Load them again: the stack has written the addresses of its services to recsys.env.
    settings = load_settings()
    with warehouse_engine(settings) as engine:
        _step(console, 3, "Nightly training on the first nine tenths of the feedback")
        _ingest(console, engine, settings, "items", files.items)
        _join_variants(console, engine, settings)
        loaded = [
            _ingest(console, engine, settings, "feedback", path)
            for path in (files.first_feedback, files.broken_feedback)
        ]
        nightly = _learn(console, engine, airflow, "nightly_training", loaded)

        _step(console, 4, "Hourly update: users give new feedback and the model learns from it")
        user = choose_user(engine, files.fresh_users)
        before = Taste()
        if user is not None:
            before = Taste(
                liked=latest_titles(engine, user, liked_only=True), before=recommended_titles(engine, user)
            )
        fresh = _ingest(console, engine, settings, "feedback", files.fresh_feedback)
        hourly = _learn(console, engine, airflow, "hourly_micro_update", [fresh])
        report = build_report(engine, nightly, hourly) | {"visit": asdict(try_visit(engine))}
        if user is None or fresh.inserted == 0:
            return report, Taste()
        return report, replace(
            before,
            fresh=latest_titles(engine, user, liked_only=False),
            after=recommended_titles(engine, user),
            reason=first_reason(engine, user),
        )


def _ingest(console: Console, engine: sa.Engine, settings: Settings, table: Any, path: Path) -> IngestSummary:
    with console.status(f"loading {path.name}"):
        summary = ingest_file(
            engine,
            table,
            path,
            reject_file=settings.home / f"{path.stem}.rejected.jsonl",
            tombstone_keys=settings.tombstone_keys(),
        )
    changed = f"{summary.updated:,} changed, " if summary.updated else ""
    console.print(
        f"  {path.name}: {summary.read:,} read, {summary.inserted:,} new, {changed}"
        f"{summary.duplicates:,} known, {summary.rejected:,} rejected, {summary.seconds:.1f} s"
    )
    return summary


def _join_variants(console: Console, engine: sa.Engine, settings: Settings) -> None:
    """Accept what `recsys variants propose` finds, as somebody would who has checked the file."""
    file = settings.home.resolve() / DEMO_DATA / "variants.csv"
    file.unlink(missing_ok=True)
    found = propose_variants(engine, file)
    if found.items:
        _ingest(console, engine, settings, "items", file)
        console.print(
            f"  {found.items} items are {found.groups} films that are there twice: lists show each once"
        )


def _learn(
    console: Console, engine: sa.Engine, airflow: AirflowClient, dag_id: str, loaded: list[IngestSummary]
) -> DagOutcome:
    """Run a training DAG, unless an earlier demo already loaded and learned from all these events."""
    if has_decided(engine, dag_id) and not any(summary.inserted for summary in loaded):
        console.print(f"  {dag_id} already learned from these events in an earlier demo; not run again")
        return DagOutcome(state="skipped", seconds=0.0, run_key=f"{dag_id}/")
    return _run_dag(console, airflow, dag_id)


def _run_dag(console: Console, airflow: AirflowClient, dag_id: str) -> DagOutcome:
    """Run a training DAG and, if it changes the champion, wait until the new champion is published."""
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
            f"{dag_id} ended as {run.state}. The logs are kept; `recsys up` starts Airflow again.\n"
            f"{airflow.failed_logs(dag_id, run_id)}"
        )
    return run


@contextmanager
def _status(console: Console, text: str) -> Iterator[Status | None]:
    """Show a spinner on a terminal. Elsewhere show nothing: each finished task prints a line anyway."""
    if not console.is_terminal:
        yield None
        return
    with console.status(text) as status:
        yield status


def _step(console: Console, number: int, title: str) -> None:
    console.print(f"\n[bold]{number}. {title}[/]")


def _where_next(report_file: Path) -> list[str]:
    return [
        "recsys up                      start Airflow and MLflow to look around; recsys down stops them",
        f"recsys serve                   then a page to try the lists: http://127.0.0.1:{DEFAULT_PORT}/",
        "recsys recommend USER          a user's recommendations with reasons (users are numbered 1 to 943)",
        "recsys history                 which version became champion when, and why",
        "recsys quarantine list         rejected events, with reasons",
        f"{report_file!s:<30} this report as JSON",
    ]
