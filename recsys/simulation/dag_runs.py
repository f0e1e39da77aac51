"""Nights and hours as the DAGs run them, in this process and on a system of the simulation."""

import logging
from contextlib import suppress
from datetime import datetime

from recsys.errors import NothingToDoError, ValidationFailedError
from recsys.pipeline.order import EXPERIMENT, HOURLY, NIGHTLY, PUBLISH, Learning, Stage
from recsys.pipeline.run import OnStage, Outcome, run_learning, run_stages
from recsys.simulation.system import System

logger = logging.getLogger(__name__)


def learn_nightly(system: System, key: str, on_stage: OnStage) -> Outcome:
    """Learn from all feedback, and promote the new model if the gate says so."""
    return _learn(system, NIGHTLY, key, on_stage)


def publish_for_all(system: System, key: str, on_stage: OnStage) -> None:
    """Publish for everybody, as the DAGs do every morning."""
    _publish(system, key, on_stage, "all")


def read_experiment(system: System, key: str, at: datetime, on_stage: OnStage) -> str | None:
    """Look at the running experiment at a simulated moment; if it ends, carry that out and publish.

    Returns
    -------
    str | None
        How it has ended; None: it goes on, or there is none.
    """
    look, carry_out = EXPERIMENT
    with system.context("experiment_readout", key, at=at) as context:
        try:
            read = run_stages([look], context, on_stage)
        except NothingToDoError as nothing:
            logger.info("%s", nothing)
            return None
        if read.outcome == "running":
            return None
        on_stage(carry_out.__name__)
        with suppress(NothingToDoError):
            carry_out(context, read)
    _publish(system, key, on_stage, "auto")
    return str(read.outcome)


def run_hourly(system: System, key: str, on_stage: OnStage) -> Outcome:
    """Train on the fresh feedback, and publish for its users whether or not the update is promoted."""
    outcome = _learn(system, HOURLY, key, on_stage)
    _publish(system, key, on_stage, "auto")
    return outcome


def read_nightly(system: System, key: str, on_stage: OnStage) -> None:
    """Validate new feedback without training, and publish for everybody."""
    _validate(system, NIGHTLY, key, on_stage)
    _publish(system, key, on_stage, "all")


def read_hourly(system: System, key: str, on_stage: OnStage) -> None:
    """Validate new feedback without training, and publish for its users."""
    _validate(system, HOURLY, key, on_stage)
    _publish(system, key, on_stage, "auto")


def _learn(system: System, learning: Learning, key: str, on_stage: OnStage) -> Outcome:
    with system.context(learning.dag_id, key) as context:
        return run_learning(learning, context, on_stage)


def _validate(system: System, learning: Learning, key: str, on_stage: OnStage) -> None:
    # Models read only validated histories.
    until_validated = _through(learning.until_decision, "validate")
    with system.context(learning.dag_id, key) as context:
        try:
            run_stages(until_validated, context, on_stage)
        except ValidationFailedError as failed:
            logger.warning("%s", failed)


def _publish(system: System, key: str, on_stage: OnStage, scope: str) -> None:
    with system.context("publish_recommendations", key, scope=scope) as context:
        try:
            run_stages([PUBLISH.at_once], context, on_stage)
        except NothingToDoError as nothing:
            logger.info("%s", nothing)


def _through(stages: tuple[Stage, ...], name: str) -> tuple[Stage, ...]:
    """Return the stages up to the named one."""
    return stages[: [stage.__name__ for stage in stages].index(name) + 1]
