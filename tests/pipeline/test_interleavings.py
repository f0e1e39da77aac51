"""Whatever comes in between, champions form one line that learns everything once; and this can fail.

`RECSYS_TEST_EXAMPLES=200` explores at random; otherwise the runs are always the same.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as examples
from hypothesis.stateful import run_state_machine_as_test

from recsys.promotion import ledger, promote
from recsys.registry import registration
from recsys.snapshot import micro
from recsys.snapshot import write as snapshot_write
from recsys.warehouse import windows
from tests.pipeline import learning_loop
from tests.pipeline.learning_loop import LearningLoop, World

pytestmark = pytest.mark.usefixtures("mlflow_database")

EXAMPLES = int(os.environ.get("RECSYS_TEST_EXAMPLES", "0"))


@pytest.fixture
def world(postgres, warehouse_template, settings) -> None:
    """What the machine needs."""

    def new_warehouse(name: str) -> str:
        postgres.create_database(name, template=warehouse_template)
        return str(postgres.url(name))

    update = settings.micro_update.model_copy(update={"min_fresh_events": 1, "guard_share": 0.3})
    evaluation = settings.evaluation.model_copy(update={"holdout_share": 0.3})
    World.new_warehouse = staticmethod(new_warehouse)
    World.settings = settings.model_copy(update={"micro_update": update, "evaluation": evaluation})


@pytest.mark.usefixtures("world")
def test_whatever_comes_in_between_champions_form_one_line_that_learns_everything_once():
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        LearningLoop,
        settings=examples(
            max_examples=EXAMPLES or 6,
            stateful_step_count=12,
            derandomize=not EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def _tell_a_story() -> None:
    """Let the machine go through what matters: deaths, a held update, a night that overtakes an hour."""
    loop = LearningLoop()
    everybody = [*range(8)]
    sound, late, broken = (False, False), (True, False), (False, True)
    dies_at = {"open_window": (0, True), "register": (2, True), "promote": (1, True)}
    for act in (
        lambda: loop.feedback_arrives(3 * everybody, *sound),
        lambda: loop.a_night_goes_on(7, None, "promote"),
        # Each of these stages dies and is run again.
        lambda: loop.feedback_arrives(everybody, *broken),
        lambda: loop.an_hour_goes_on(1, dies_at["open_window"], "promote"),
        lambda: loop.feedback_arrives(everybody, *sound),
        lambda: loop.an_hour_goes_on(5, dies_at["register"], "promote"),
        lambda: loop.an_hour_goes_on(3, dies_at["promote"], "promote"),
        loop.housekeeping,
        lambda: loop.an_hour_goes_on(1, None, "promote"),
        # An update is held; the next one learns what it had learned.
        lambda: loop.feedback_arrives(everybody, *sound),
        lambda: loop.feedback_arrives(everybody, *late),
        lambda: loop.an_hour_goes_on(7, None, "hold"),
        # Feedback arrives in an open window's run, and a night overtakes the hour.
        lambda: loop.feedback_arrives(everybody, *sound),
        lambda: loop.an_hour_goes_on(2, None, "promote"),
        lambda: loop.feedback_arrives(everybody, *sound),
        lambda: loop.an_hour_goes_on(4, None, "promote"),
        lambda: loop.a_night_goes_on(7, None, "promote"),
        lambda: loop.an_hour_goes_on(1, None, "promote"),
        lambda: loop.somebody_steps_in("killed rollback"),
        loop.housekeeping,
    ):
        act()
        loop.champions_form_one_line()
    loop.teardown()


@pytest.mark.usefixtures("world")
def test_the_story_holds_without_a_fault():
    _tell_a_story()


# Each takes what it stands in for and returns it with a fault that a programmer might make.


def _promotes_whoever_is_champion(change_champion: Any) -> Any:
    def mutant(engine: Any, **options: Any) -> Any:
        current = ledger.champion(engine)
        expected = current.model_version if current else None
        return change_champion(engine, **(options | {"expected_champion": expected}))

    return mutant


def _promotes_again_on_retry(change_champion: Any) -> Any:
    def mutant(engine: Any, *, version: str, run_key: str | None, **options: Any) -> Any:
        current = ledger.champion(engine)
        if current is None or current.model_version != version:
            return change_champion(engine, version=version, run_key=run_key, **options)
        with engine.begin() as connection:
            return ledger._insert(
                connection,
                action="promote",
                model_version=version,
                previous_champion=version,
                champion_sequence=current.sequence + 1,
                reason=options["reason"],
                explanation=options["explanation"],
                checks=[],
                actor=options["actor"],
                run_key=None,
            )

    return mutant


def _starts_at_its_window(micro_snapshot_parameters: Any) -> Any:
    def mutant(window: Any, settings: Any, parent: Any) -> Any:
        lower = replace(parent, transaction_id=window.lower_transaction_id)
        return micro_snapshot_parameters(window, settings, lower)

    return mutant


def _starts_at_the_beginning(micro_snapshot_parameters: Any) -> Any:
    return lambda window, settings, parent: micro_snapshot_parameters(
        window, settings, replace(parent, transaction_id=0)
    )


def _forgets_what_the_parent_held_out(micro_snapshot_parameters: Any) -> Any:
    def mutant(window: Any, settings: Any, parent: Any) -> Any:
        return micro_snapshot_parameters(
            window, settings, replace(parent, occurred_before=parent.occurred_before.replace(year=9000))
        )

    return mutant


def _reads_past_its_window(take: Any) -> Any:
    def mutant(engine: Any, window: Any, settings: Any, plan: Any, parent: Any) -> Any:
        beyond = {**plan.parameters, "upper_transaction_id": 2**60}
        return take(engine, window, settings, replace(plan, parameters=beyond), parent)

    return mutant


def _claims_more_than_it_read(trained_through: Any) -> Any:
    return lambda transaction_id, before: trained_through(transaction_id + 1000, before)


def _has_no_guard_users(guard_bound: Any) -> Any:
    return lambda share: 0 * guard_bound(share)


def _opens_another_window_on_retry(open_window: Any) -> Any:
    opened: list[str] = []

    def mutant(engine: Any, consumer: str, run_key: str, *arguments: Any, **options: Any) -> Any:
        opened.append(run_key)
        again = opened.count(run_key)
        return open_window(
            engine, consumer, f"{run_key} {again}" if again > 1 else run_key, *arguments, **options
        )

    return mutant


def _leaves_broken_rows(quarantine_window: Any) -> Any:
    return lambda *_: None


def _registers_again_on_retry(find: Any) -> Any:
    return lambda *_: None


def _leaves_the_alias(reconcile_alias: Any) -> Any:
    return lambda engine, settings: None


FAULTS = [
    (ledger, "change_champion", _promotes_whoever_is_champion),
    (ledger, "change_champion", _promotes_again_on_retry),
    (micro, "micro_snapshot_parameters", _starts_at_its_window),
    (micro, "micro_snapshot_parameters", _starts_at_the_beginning),
    (micro, "micro_snapshot_parameters", _forgets_what_the_parent_held_out),
    (micro, "_take", _reads_past_its_window),
    (snapshot_write, "TrainedThrough", _claims_more_than_it_read),
    (micro, "guard_bound", _has_no_guard_users),
    (windows, "open_window", _opens_another_window_on_retry),
    (learning_loop, "quarantine_window", _leaves_broken_rows),
    (registration, "_find", _registers_again_on_retry),
    (promote, "reconcile_alias", _leaves_the_alias),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "mutant"), FAULTS, ids=[mutant.__name__.strip("_") for *_, mutant in FAULTS]
)
@pytest.mark.usefixtures("world")
def test_a_fault_in_the_loop_is_found(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, mutant: Callable[[Any], Any]
):
    monkeypatch.setattr(module, name, mutant(getattr(module, name)))
    with pytest.raises(AssertionError):
        _tell_a_story()
