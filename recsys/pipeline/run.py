"""Run stages in their order in this process, without Airflow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from recsys.errors import NothingToDoError, ValidationFailedError
from recsys.pipeline.context import Context
from recsys.pipeline.order import Learning, Stage, takes
from recsys.pipeline.references import Decided

OnStage = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """How a learning run ended.

    Attributes
    ----------
    action
        `promote`, `hold`, `reject`, `skip` (nothing to learn) or `fail` (validation stopped it).
    """

    action: str
    explanation: str
    version: str | None = None


def run_stages(stages: Sequence[Stage], context: Context, on_stage: OnStage = lambda _: None) -> Any:
    """Run stages, each on what the one before returned; return what the last one returned.

    Parameters
    ----------
    on_stage
        Called with the name of each stage before it runs.
    """
    received: tuple[Any, ...] = ()
    for stage in stages:
        on_stage(stage.__name__)
        received = (stage(context, *(received if takes(stage) else ())),)
    return received[0]


def run_learning(learning: Learning, context: Context, on_stage: OnStage = lambda _: None) -> Outcome:
    """Learn from new feedback and carry out the gate's decision; nobody is asked."""
    decided: Decided | None = None
    try:
        decided = run_stages(learning.until_decision, context, on_stage)
        on_stage(learning.promote.__name__)
        learning.promote(context, decided)
    except NothingToDoError as nothing:
        # `promote` raises it too, for a candidate that is held or rejected.
        if decided is None:
            return Outcome("skip", str(nothing))
        return Outcome(decided.decision.action, decided.decision.explanation, decided.version)
    except ValidationFailedError as failed:
        return Outcome("fail", str(failed))
    return Outcome("promote", decided.decision.explanation, decided.version)
