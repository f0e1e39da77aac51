"""The task wrapper: it makes the context of a stage, hands it in, and closes it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from airflow.sdk import BaseOperatorLink, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from airflow.sdk.observability.stats import gauge, normalize_name_for_stats
from pydantic_core import to_jsonable_python

from recsys import errors
from recsys.airflow.links import airflow_url
from recsys.pipeline.context import Run, open_context
from recsys.pipeline.order import Stage, takes
from recsys.pipeline.references import Monitored, receive
from recsys.settings import load_settings


def stage(function: Stage, *, links: Sequence[BaseOperatorLink] = (), **options: Any) -> Any:
    """Make the task that runs a stage of the pipeline.

    References come from XCom and are checked; what the stage returns goes to XCom. A run with nothing to do
    ends as skipped, with the reason.

    Parameters
    ----------
    links
        Buttons on the task in the Airflow UI.
    options
        Arguments of `airflow.sdk.task`, such as `queue` or `pool`.
    """

    def run_stage(*references: Any) -> Any:
        return _run(function, references)

    make_task = _named(function, run_stage, options)

    def wire(*references: Any) -> Any:
        made = make_task(*references)
        # An attribute of operator classes: `task` takes no argument for it (Airflow 3.3).
        made.operator.operator_extra_links = tuple(links)
        return made

    return wire


def for_each(function: Stage, **options: Any) -> Any:
    """Make the tasks that run a stage once for each of the references that the task before returns.

    Without any they are skipped.

    Parameters
    ----------
    options
        As in `stage`.
    """

    def run_stage(reference: Any) -> Any:
        return _run(function, (reference,))

    make_tasks = _named(function, run_stage, options)
    return lambda references: make_tasks.expand(reference=references)


def on_each_machine(function: Stage, others: int, **options: Any) -> Any:
    """Make the tasks that run a stage on each of the other machines, on the same reference and its number.

    Parameters
    ----------
    others
        Number of other machines; with 0 there is no task.
    options
        As in `stage`.
    """

    def run_stage(reference: Any, machine: int) -> Any:
        return _run(function, (reference, machine))

    make_tasks = _named(function, run_stage, options)
    machines = list(range(2, others + 2))
    return lambda reference: (
        make_tasks.partial(reference=reference).expand(machine=machines) if others else None
    )


def _named(function: Stage, run_stage: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """Make what creates tasks with the name and the documentation of the stage."""
    run_stage.__name__, run_stage.__doc__ = function.__name__, function.__doc__
    return task(**options)(run_stage)


def _run(function: Stage, references: tuple[Any, ...]) -> Any:
    # A task that was skipped on the way returned None.
    received = receive(function, references)
    try:
        with open_context(current_run(), load_settings()) as context:
            returned = function(context, *received)
    except errors.NothingToDoError as nothing:
        raise AirflowSkipException(str(nothing)) from nothing
    if isinstance(returned, Monitored):
        export(returned.gauges)
    return to_jsonable_python(returned)


def export(gauges: Mapping[str, float]) -> None:
    """Send figures as `recsys.NAME` to where Airflow sends its metrics: StatsD, OpenTelemetry or nowhere."""
    for name, value in gauges.items():
        gauge(normalize_name_for_stats(f"recsys.{name}", log_warning=False), value)


def chain(
    stages: Sequence[Stage],
    received: Any = None,
    *,
    beside: Mapping[str, Callable[[Any], Any]] | None = None,
    **options: Mapping[str, Any],
) -> Any:
    """Make the tasks of stages in their order, each on what the one before returns; return the last output.

    Parameters
    ----------
    received
        Output of the task before the first stage, if there is one.
    beside
        By a stage's name, what makes other tasks on what that stage receives.
    options
        Arguments of `stage` by the stage's name.
    """
    for function in stages:
        make = stage(function, **options.get(function.__name__, {}))
        if beside and function.__name__ in beside:
            beside[function.__name__](received)
        if received is not None and takes(function):
            received = make(received)
        else:
            made = make()
            if received is not None:
                received >> made
            received = made
    return received


def current_run() -> Run:
    """Return the DAG run: the same for every retry and every cleared task of it."""
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
    """Return the interval that a run covers: the one asked for, else the scheduled one, else None.

    Manual runs and runs triggered by an asset have no interval: they see everything committed.

    Raises
    ------
    ConfigurationError
        The interval asked for has no time zone, has no end, or ends before it starts.
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
