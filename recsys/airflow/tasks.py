"""What all DAG files share: the champion asset, task defaults, and how our errors end a task.

Beside `recsys.airflow.approval_operator` the only module of the package that imports Airflow.
"""

import functools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

# The stub file of airflow.sdk 1.3.2 leaves some of its names out.
from airflow.sdk import (  # type: ignore[attr-defined]
    Asset,
    BaseOperatorLink,
    CronDataIntervalTimetable,
    DeadlineAlert,
    DeadlineReference,
    ExceptionRetryPolicy,
    Param,
    RetryAction,
    RetryRule,
    SyncCallback,
    conf,
    get_current_context,
    task,
)
from airflow.sdk.exceptions import AirflowSkipException

from recsys import errors
from recsys.alerts import send_alert
from recsys.pipeline import Reference, Run
from recsys.settings import load_settings
from recsys.validation.data_docs import link_to_run

CHAMPION = Asset(name="champion", uri="recsys://registry/champion")
"""Updated whenever another model version becomes champion."""

START_DATE = datetime(2026, 1, 1, tzinfo=UTC)
GPU_QUEUE = "gpu"
MODEL_WRITER_POOL = "model_writer"
"""A pool of one slot: one writer of models at a time."""

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
            RetryRule("recsys.errors.ServiceUnavailableError", reason="a service is away; it may come back"),
            RetryRule(_FINAL, RetryAction.FAIL, match_subclasses=False, reason="it would end the same again"),
            RetryRule(
                "builtins.MemoryError", RetryAction.FAIL, reason="more memory is needed, not more tries"
            ),
        ]
    ),
}

INTERVAL_PARAMS = {
    "interval_start": Param(
        None,
        type=["null", "string"],
        format="date-time",
        title="Interval start",
        description="Only for a run by hand that stands for a past interval; empty: all new feedback.",
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
    """Return the timetable of a cron expression in UTC, or none when schedules are switched off."""
    return CronDataIntervalTimetable(cron, timezone="UTC") if load_settings().schedules else None


def alert_of_missed_deadline(**details: Any) -> None:
    """Tell people that a DAG run was not done in time."""
    run = details.get("context", {}).get("dag_run", {})
    send_alert(load_settings(), f"{run.get('dag_id')}: run {run.get('dag_run_id')} missed its deadline")


def alert_of_failure(context: dict[str, Any]) -> None:
    """Tell people that a DAG run failed."""
    run = context["dag_run"]
    send_alert(load_settings(), f"{run.dag_id}: run {run.run_id} failed; see the Airflow UI for the task")


def deadline(after: timedelta) -> DeadlineAlert | None:
    """Alert when a run is not done this long after it was queued; none when schedules are switched off.

    `airflow dags test` of Airflow 3.3.2 cannot make a run of a DAG that has a deadline, so it needs
    schedules off too (RECSYS_SCHEDULES=false).
    """
    if not load_settings().schedules:
        return None
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=after,
        callback=SyncCallback("recsys.airflow.tasks.alert_of_missed_deadline"),
        name=f"done within {after}",
    )


class DataDocsLink(BaseOperatorLink):  # type: ignore[misc]
    """The button on a task that opens the Data Docs of its run; for a failed task too."""

    name = "Data Docs"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 (Airflow passes it by name)
        """Return the address; the task pushes it when it ends, whatever its end."""
        return link_to_run(airflow_url() or "", f"{ti_key.dag_id}/{ti_key.run_id}")


def airflow_url() -> str | None:
    """Return the address of the Airflow UI, None when none is configured."""
    return conf.get("api", "base_url", fallback="").rstrip("/") or None


def stage(
    function: Callable[..., Reference], *, links: Sequence[BaseOperatorLink] = (), **options: Any
) -> Any:
    """Make the task that calls a function of `recsys.pipeline` with the current run.

    A run with nothing to do ends as skipped, with the reason.

    Parameters
    ----------
    function
        Takes the run and what earlier stages returned; returns a small reference for XCom.
    links
        Buttons on the task in the Airflow UI.
    options
        Arguments of `airflow.sdk.task`, such as `queue` or `pool`.
    """

    @functools.wraps(function)
    def run_stage(*references: Reference) -> Reference:
        # A task that was skipped on the way returned nothing.
        try:
            return function(current_run(), *(reference or {} for reference in references))
        except errors.NothingToDoError as nothing:
            raise AirflowSkipException(str(nothing)) from nothing

    # Airflow reads the signature to check the call; ours is the wrapper's, without the run.
    del run_stage.__wrapped__
    make_task = task(**options)(run_stage)

    def wire(*references: Any) -> Any:
        made = make_task(*references)
        # An attribute of operator classes: `task` takes no argument for it (Airflow 3.3).
        made.operator.operator_extra_links = tuple(links)
        return made

    return wire


def current_run() -> Run:
    """Describe the DAG run: the same for every retry and every cleared task of it."""
    context: Any = get_current_context()
    run = context["dag_run"]
    params = dict(context["params"])
    return Run(
        dag_id=run.dag_id,
        key=f"{run.dag_id}/{run.run_id}",
        interval=resolve_interval(
            params.get("interval_start"),
            params.get("interval_end"),
            context.get("data_interval_start"),
            context.get("data_interval_end"),
        ),
        params=params,
        asked_by=run.triggering_user_name,
        airflow_url=airflow_url(),
    )


def resolve_interval(
    asked_start: str | None,
    asked_end: str | None,
    scheduled_start: datetime | None,
    scheduled_end: datetime | None,
) -> tuple[datetime, datetime] | None:
    """Return the interval a run stands for: the one asked for, else the scheduled one, else none.

    Runs by hand and runs that an asset triggers have no interval: they see all that is committed.

    Raises
    ------
    ConfigurationError
        When the interval asked for has no time zone, no end, or ends before it starts.
    """
    if asked_start is None and asked_end is None:
        if scheduled_start is None or scheduled_end is None or scheduled_start >= scheduled_end:
            return None
        return scheduled_start, scheduled_end
    if asked_end is None:
        raise errors.ConfigurationError(f"interval_start {asked_start} needs an interval_end too")
    start, end = (datetime.fromisoformat(moment) for moment in (asked_start or asked_end, asked_end))
    if start.tzinfo is None or end.tzinfo is None:
        raise errors.ConfigurationError(
            f"interval {start} to {end} has no time zone; write it like 2026-01-31T03:00:00Z"
        )
    if start > end:
        raise errors.ConfigurationError(f"interval_start {start} is after interval_end {end}; swap them")
    return start, end
