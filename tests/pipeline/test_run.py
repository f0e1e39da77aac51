"""Stages without Airflow: their order, their outcome, and the connection of their context."""

from typing import Any

import pytest
import sqlalchemy as sa

from recsys.errors import ConfigurationError, NothingToDoError, ValidationFailedError
from recsys.pipeline.context import Context, Run, open_context
from recsys.pipeline.order import Learning
from recsys.pipeline.references import Decided
from recsys.pipeline.run import run_learning, run_stages
from recsys.promotion.decision import Decision
from recsys.settings import Settings

RUN = Run("nightly_training", "nightly_training/1")


def begin(context: Context) -> int:
    return 1


def double(context: Context, number: int) -> int:
    return 2 * number


def count(context: Context) -> str:
    return "counted"


def decide(action: Any) -> Any:
    def gate(context: Context) -> Decided:
        decision = Decision(action, "drawn", "It was drawn.", ())
        return Decided(version="4", decision=decision, links={})

    return gate


def promote(context: Context, decided: Decided) -> None:
    if decided.decision.action != "promote":
        raise NothingToDoError(f"version {decided.version} is not promoted")


def fail(error: Exception) -> Any:
    def stage(context: Context) -> None:
        raise error

    return stage


@pytest.fixture
def context(warehouse: sa.Engine, settings: Settings) -> Context:
    return Context(RUN, settings, warehouse)


def test_stages_run_on_what_the_one_before_returned(context: Context) -> None:
    names: list[str] = []
    assert run_stages([begin, double, double], context, names.append) == 4
    assert names == ["begin", "double", "double"]
    assert run_stages([begin, count], context) == "counted"


@pytest.mark.parametrize(
    ("stage", "action", "version"),
    [
        (decide("promote"), "promote", "4"),
        (decide("hold"), "hold", "4"),
        (decide("reject"), "reject", "4"),
        (fail(NothingToDoError("no feedback")), "skip", None),
        (fail(ValidationFailedError("half of it is broken")), "fail", None),
    ],
    ids=["promote", "hold", "reject", "skip", "fail"],
)
def test_the_outcome_says_how_learning_ended(
    context: Context, stage: Any, action: str, version: str | None
) -> None:
    outcome = run_learning(Learning("nightly_training", (stage,), promote), context)
    assert (outcome.action, outcome.version) == (action, version)
    assert outcome.explanation


def test_a_context_closes_its_connections_also_after_an_error(settings: Settings) -> None:
    pids = []

    def connect_and_fail(context: Context) -> None:
        with context.engine.connect() as connection:
            pids.append(connection.scalar(sa.text("SELECT pg_backend_pid()")))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), open_context(RUN, settings) as context:
        connect_and_fail(context)
    with open_context(RUN, settings) as other, other.engine.connect() as connection:
        still_open = sa.text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
        assert connection.scalar(still_open, {"pid": pids[0]}) == 0


def test_without_a_champion_there_is_nothing_to_update(context: Context) -> None:
    with pytest.raises(NothingToDoError, match="no champion yet to update; run nightly_training first"):
        context.require_champion("to update")


def test_a_context_without_a_warehouse_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="RECSYS_WAREHOUSE_URL"), open_context(RUN, Settings()):
        pass
