"""The DAGs without their scheduler: the same stages in the same order, on a system of their own."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from recsys import pipeline as stages
from recsys.errors import NothingToDoError, ValidationFailedError
from recsys.pipeline import Reference, Run

logger = logging.getLogger(__name__)

Stage = Callable[[Run, Reference], Reference]
OnStage = Callable[[str], None]

NIGHTLY: tuple[Stage, ...] = (
    stages.validate,
    stages.take_full_snapshot,
    stages.fine_tune,
    stages.evaluate,
    stages.register,
    stages.gate,
)
HOURLY: tuple[Stage, ...] = (
    stages.validate,
    stages.take_micro_snapshot,
    stages.micro_update,
    stages.evaluate,
    stages.register,
    stages.gate,
)
"""Between `open_window` and `promote`; a test holds both against the DAG files."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to: `promote`, `hold`, `reject`, `skip` or, where validation stops it, `fail`."""

    action: str
    explanation: str
    version: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {"action": self.action, "version": self.version, "explanation": self.explanation}


def run_nightly(key: str, on_stage: OnStage) -> Outcome:
    """Learn from all feedback and promote the new model if the gate says so; publish for everybody.

    The DAGs publish for everybody when the champion changes; here also when it stays, so that all
    policies show lists of the same age in the morning.
    """
    outcome = _learn(Run("nightly_training", f"nightly_training/{key}"), NIGHTLY, on_stage)
    _publish_everybody(key, on_stage)
    return outcome


def run_hourly(key: str, on_stage: OnStage) -> Outcome:
    """Teach the champion the fresh feedback, and publish for whoever gave some, promoted or not."""
    outcome = _learn(Run("hourly_micro_update", f"hourly_micro_update/{key}"), HOURLY, on_stage)
    _publish_affected(key, on_stage)
    return outcome


def read_nightly(key: str, on_stage: OnStage) -> None:
    """Learn nothing, but let the champion read what everybody did, and publish for everybody."""
    _validate(Run("nightly_training", f"nightly_training/{key}"), on_stage)
    _publish_everybody(key, on_stage)


def read_hourly(key: str, on_stage: OnStage) -> None:
    """Learn nothing, but let the champion read what happened, and publish for whoever gave feedback."""
    _validate(Run("hourly_micro_update", f"hourly_micro_update/{key}"), on_stage)
    _publish_affected(key, on_stage)


def _validate(run: Run, on_stage: OnStage) -> None:
    # Models read the histories that have been validated.
    on_stage("validate")
    try:
        stages.validate(run, stages.open_window(run))
    except ValidationFailedError as failed:
        logger.warning("%s", failed)


def _publish_everybody(key: str, on_stage: OnStage) -> None:
    on_stage("publish")
    stages.publish(Run("publish_recommendations", f"publish_recommendations/{key}", params={"scope": "all"}))


def _publish_affected(key: str, on_stage: OnStage) -> None:
    on_stage("publish")
    try:
        stages.publish(Run("publish_recommendations", f"publish_recommendations/{key}"))
    except NothingToDoError as nothing:
        logger.info("%s", nothing)


def _learn(run: Run, steps: tuple[Stage, ...], on_stage: OnStage) -> Outcome:
    decided: Reference = {}
    try:
        on_stage("open_window")
        reference = stages.open_window(run)
        for step in steps:
            on_stage(step.__name__)
            reference = step(run, reference)
        decided = reference
        on_stage("promote")
        stages.promote(run, decided, {})
    except NothingToDoError as nothing:
        # So says `promote` as well, of a candidate that is held or rejected.
        action = decided["decision"]["action"] if decided else "skip"
        return Outcome(action, str(nothing), decided.get("version"))
    except ValidationFailedError as failed:
        return Outcome("fail", str(failed))
    return Outcome("promote", decided["decision"]["explanation"], decided["version"])
