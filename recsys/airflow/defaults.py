"""Defaults of all DAG files: schedules, retries, alerts, the champion asset."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

# The stub file of airflow.sdk 1.3.2 leaves some of its names out.
from airflow.sdk import (  # type: ignore[attr-defined]
    Asset,
    AssetOrTimeSchedule,
    AsyncCallback,
    CronDataIntervalTimetable,
    DeadlineAlert,
    DeadlineReference,
    ExceptionRetryPolicy,
    Param,
    RetryAction,
    RetryRule,
)

from recsys import errors
from recsys.airflow.links import DataDocsLink
from recsys.alerts import send_alert
from recsys.settings import load_settings

CHAMPION = Asset(name="champion", uri="recsys://registry/champion")
"""Updated whenever another model version becomes champion."""

START_DATE = datetime(2026, 1, 1, tzinfo=UTC)
GPU_QUEUE = "gpu"
MODEL_WRITER_POOL = "model_writer"
"""A pool of one slot: one writer of models at a time."""

WITH_DATA_DOCS: Mapping[str, Any] = {"links": [DataDocsLink()]}
POD_TEMPLATES = "/opt/airflow/pod-templates"
"""Folder in the scheduler's container that holds the pod template of each queue."""
ON_GPU: Mapping[str, Any] = {
    "queue": GPU_QUEUE,
    "pool": MODEL_WRITER_POOL,
    # KubernetesExecutor does not look at queues; the other executors do not look at this.
    "executor_config": {"pod_template_file": f"{POD_TEMPLATES}/{GPU_QUEUE}.yaml"},
}


BESIDE_ON_GPU: Mapping[str, Any] = {name: value for name, value in ON_GPU.items() if name != "pool"}
"""Options of tasks on GPUs that may run beside the writer of models."""


def on_publishing_queue() -> Mapping[str, Any]:
    """Return the options of tasks that score shards; on a GPU they may run beside training."""
    return BESIDE_ON_GPU if load_settings().publishing.queue == GPU_QUEUE else {}


def other_machines() -> int:
    """Return how many machines train besides the first."""
    return load_settings().training.machines - 1


def trials_at_once() -> int:
    """Return how many trials of a search of settings run at a time."""
    return load_settings().tuning.trials_at_once


_FINAL = [
    f"{error.__module__}.{error.__qualname__}"
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, errors.RecsysError) and not error.retryable
]

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "recommendations",
    "retries": 3,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=10),
    "execution_timeout": timedelta(hours=1),
    "retry_policy": ExceptionRetryPolicy(
        rules=[
            RetryRule("recsys.errors.ServiceUnavailableError", reason="the service may come back"),
            RetryRule(
                _FINAL, RetryAction.FAIL, match_subclasses=False, reason="a retry would fail the same way"
            ),
            RetryRule("builtins.MemoryError", RetryAction.FAIL, reason="a retry would need the same memory"),
        ]
    ),
}

INTERVAL_PARAMS = {
    "interval_start": Param(
        None,
        type=["null", "string"],
        format="date-time",
        title="Interval start",
        description="Only for a manual run of a past interval; empty: all new feedback.",
    ),
    "interval_end": Param(
        None,
        type=["null", "string"],
        format="date-time",
        title="Interval end",
        description="The run sees nothing that arrived after this moment.",
    ),
}


def on_schedule(cron: str) -> CronDataIntervalTimetable | None:
    """Return the timetable of a cron expression in UTC, or None when schedules are switched off."""
    return CronDataIntervalTimetable(cron, timezone="UTC") if load_settings().schedules else None


def every_few_minutes() -> CronDataIntervalTimetable | None:
    """Return the timetable of `refresh_active_users`, or None when it runs only by hand."""
    minutes = load_settings().publishing.refresh_minutes
    return None if minutes is None else on_schedule(f"*/{minutes} * * * *")


def after_publications() -> CronDataIntervalTimetable | None:
    """Return the timetable of `write_summaries`, or None when no language model writes."""
    return on_schedule("25 * * * *") if load_settings().summaries.writer else None


async def alert_of_missed_deadline(**details: Any) -> None:
    """Alert people that a DAG run has missed its deadline.

    It runs in the triggerer. A synchronous callback would run in the executor, and KubernetesExecutor refuses
    it in a way that ends the scheduler.
    """
    run = details.get("context", {}).get("dag_run", {})
    text = f"{run.get('dag_id')}: run {run.get('dag_run_id')} missed its deadline"
    await asyncio.to_thread(send_alert, load_settings(), text)


def alert_of_failure(context: dict[str, Any]) -> None:
    """Alert people that a DAG run has failed."""
    run = context["dag_run"]
    send_alert(load_settings(), f"{run.dag_id}: run {run.run_id} failed; see the Airflow UI for the task")


def deadline(after: timedelta) -> DeadlineAlert | None:
    """Alert when a run is not done this long after it was queued; None when schedules are switched off.

    `airflow dags test` of Airflow 3.3.2 cannot create a run of a DAG with a deadline, so it needs schedules
    off too (RECSYS_SCHEDULES=false).
    """
    if not load_settings().schedules:
        return None
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=after,
        callback=AsyncCallback("recsys.airflow.defaults.alert_of_missed_deadline"),
        name=f"done within {after}",
    )


def on_champion_or_schedule(cron: str) -> AssetOrTimeSchedule | list[Asset]:
    """Return the timetable of new champions and of a cron expression in UTC, or only of new champions."""
    timetable = on_schedule(cron)
    return [CHAMPION] if timetable is None else AssetOrTimeSchedule(timetable=timetable, assets=[CHAMPION])
