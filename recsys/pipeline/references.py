"""References that stages pass on: ids, URIs and figures, checked when a stage receives them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from inspect import signature
from types import SimpleNamespace
from typing import Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from recsys.errors import StaleReferenceError
from recsys.promotion.decision import Decision
from recsys.registry.lineage import Lineage
from recsys.training.result import TrainingResult


class Reference(BaseModel):
    """What one stage hands to the next. Data stays in Postgres, in snapshots and in the registry."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OpenedWindow(Reference):
    """The feedback that a run handles."""

    window_id: int
    arrived: int


class ValidatedWindow(Reference):
    """A window whose broken rows are in quarantine; counts are rows.

    Attributes
    ----------
    data_docs
        URI of the Data Docs; None for an empty window that was not validated.
    """

    window_id: int
    arrived: int
    valid: int
    quarantined: int
    duplicates: int
    data_docs: str | None
    data_docs_url: str | None = None


class Monitored(Reference):
    """What monitoring found and measured.

    Attributes
    ----------
    causes
        Number of causes for alerts.
    gauges
        Figures of the day by name, which metrics systems get: `response_share.home`.
    """

    causes: int
    gauges: dict[str, float]


class Candidate(Reference):
    """A trained model.

    Attributes
    ----------
    folder
        Folder of the training run.
    mlflow_run
        Id of the MLflow run.
    """

    lineage: Lineage
    training: TrainingResult
    folder: str
    mlflow_run: str


class EvaluatedCandidate(Reference):
    """A candidate with the folder of its evaluation and the version that it was compared with.

    Attributes
    ----------
    earlier_champions
        Versions that were champion some days ago, by days.
    """

    candidate: Candidate
    evaluation: str
    opponent: str | None
    earlier_champions: dict[int, str] = {}


class Challenger(Reference):
    """A registered candidate.

    Attributes
    ----------
    links
        Addresses where a person reads more, by their names.
    """

    version: str
    kind: Literal["full", "micro"]
    evaluation: str
    mlflow_run: str
    links: dict[str, str]


class Decided(Reference):
    """The gate's decision about a challenger."""

    version: str
    decision: Decision
    links: dict[str, str]


class SearchTrial(Reference):
    """A trial of this run's search of settings, by its number."""

    number: int


class ReadExperiment(Reference):
    """A look at an experiment, and what it decided; `running`: nothing yet."""

    experiment_id: int
    outcome: str


class Shard(Reference):
    """Users of a planned publication that one task scores."""

    plan_id: int
    shard: int


class NewChampion(Reference):
    """A version that has become champion, and the reason in the ledger."""

    version: str
    reason: str


@cache
def _received(stage: Callable[..., Any]) -> list[tuple[str, TypeAdapter[Any]]]:
    _, *names = signature(stage).parameters  # the first one is the context
    # What a stage returns may be a type that is heavy to import.
    taken = SimpleNamespace(__annotations__={name: stage.__annotations__[name] for name in names})
    hints = get_type_hints(taken, globalns=stage.__globals__)
    return [(name, TypeAdapter(hints[name])) for name in names]


def receive(stage: Callable[..., Any], values: tuple[Any, ...]) -> list[Any]:
    """Return what a stage takes besides the context, from JSON-ready values.

    Raises
    ------
    StaleReferenceError
        A value is not what the stage takes.
    """
    received = []
    for (name, adapter), value in zip(_received(stage), values, strict=True):
        try:
            received.append(adapter.validate_python(value))
        except ValidationError as error:
            raise StaleReferenceError(
                f"{stage.__name__} cannot use what it received as {name}: {error}; clear the task that "
                "returned it, so that it runs with this release"
            ) from error
    return received
