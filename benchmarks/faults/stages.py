"""Run one stage of the loop in a process that may be killed."""

import logging
import multiprocessing
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Literal

from recsys.errors import NothingToDoError, ValidationFailedError
from recsys.pipeline import order
from recsys.pipeline.context import Run, open_context
from recsys.pipeline.order import Stage, takes
from recsys.settings import Settings

# Imports take seconds: a server process imports the stages once, and each attempt is its fork.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    [
        "benchmarks.faults.stages", "mlflow", "recsys.evaluation.compare",
        "recsys.evaluation.report.document", "recsys.model.checkpoint", "recsys.promotion.gate",
        "recsys.publishing.publish",
        "recsys.registry.versions", "recsys.upkeep.erasure", "recsys.validation.expectations",
        "transformers.models.bert.modeling_bert",
    ]
)  # fmt: skip
STAGES: dict[str, Stage] = {
    stage.__name__: stage
    for stage in (
        *order.NIGHTLY.until_decision, *order.HOURLY.until_decision, order.HOURLY.promote,
        order.PUBLISH.at_once, *order.WAREHOUSE_UPKEEP, *order.REGISTRY_UPKEEP,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """How an attempt ended: it returned a value, there was nothing to do, or it failed with an error."""

    outcome: Literal["done", "nothing", "failed"]
    value: Any = None
    trace: str = ""


@dataclass(frozen=True)
class Attempt:
    """A stage that runs in another process."""

    process: BaseProcess
    answers: Connection

    @classmethod
    def start(cls, stage: str, settings: Settings, run: Run, received: Sequence[Any]) -> "Attempt":
        """Start the stage with what the stage before it returned."""
        answers, sender = _processes.Pipe(duplex=False)
        process = _processes.Process(target=_work, args=(sender, stage, settings, run, tuple(received)))
        process.start()
        sender.close()
        return cls(process, answers)

    def wait(self, seconds: float | None = None) -> Answer | None:
        """Return the answer; None if the process is still running after these seconds, or was killed."""
        try:
            if not self.answers.poll(seconds):
                return None
            answer: Answer = self.answers.recv()
        except EOFError:
            answer = Answer("failed", "killed")
        self.process.join()
        return answer

    def kill(self) -> None:
        """Kill the process as `kill -9` does; what it has started notices the end of its parent."""
        self.process.kill()
        self.process.join()


def _work(answers: Connection, name: str, settings: Settings, run: Run, received: tuple[Any, ...]) -> None:
    logging.disable(logging.CRITICAL)
    stage = STAGES[name]
    try:
        with open_context(run, settings) as context:
            value = stage(context, *(received if takes(stage) else ()))
            answers.send(Answer("done", value))
    except (NothingToDoError, ValidationFailedError) as nothing:
        answers.send(Answer("nothing", type(nothing).__name__))
    except Exception as error:
        answers.send(Answer("failed", type(error).__name__, traceback.format_exc()))
