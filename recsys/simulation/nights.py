"""A night that trains a candidate, and what the gate, or users in an experiment, decide about it."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from recsys.errors import SimulationError
from recsys.experiments import experiment as experiments
from recsys.pipeline.run import Outcome
from recsys.promotion import ledger
from recsys.promotion.experiment_required import REASON as WAITS
from recsys.simulation.candidates import Candidate, expected_clicks
from recsys.simulation.dag_runs import learn_nightly, publish_for_all, read_experiment
from recsys.simulation.system import System
from recsys.simulation.world import World
from recsys.warehouse.statements import read_statement

OnStage = Callable[[str], None]

_BAD: Mapping[str, Mapping[str, Any]] = {
    "training": {"epochs": 1, "learning_rate": 1e-6},
    "model": {"collaborative_pairs": 0},
}
"""Settings of a bad night, as a careless change may bring them: little more than popularity is learned."""
_USERS_DECIDE: Mapping[str, Mapping[str, Any]] = {"gate": {"require_experiment": True}}
"""Without it neither does the gate wait for an experiment, nor is its winner promoted."""
_DAYS = 1
_ACTOR = "simulation"


def pass_night(
    system: System,
    world: World,
    *,
    day: int,
    morning: datetime,
    is_bad: bool,
    experiment: bool,
    positions: int,
    on_stage: OnStage,
) -> tuple[Outcome, Candidate | None]:
    """Train and decide before a day, start an experiment if users are to decide, and publish for everybody.

    Parameters
    ----------
    world
        Users as they are on the day.
    morning
        Simulated moment from which the lists are shown.
    is_bad
        Whether to train with settings that make a bad model.
    experiment
        Whether users decide on what the gate lets through.
    positions
        Items shown of a list.

    Returns
    -------
    tuple
        How the night ended, and its candidate; None: it trained nothing that could be compared.
    """
    key = f"night {day}"
    nightly = system.changed(_USERS_DECIDE) if experiment else system
    with system.engine() as engine:
        champion = ledger.champion(engine)
        outcome = learn_nightly(nightly.changed(_BAD) if is_bad else nightly, key, on_stage)
        if outcome.version is None or champion is None:
            publish_for_all(system, key, on_stage)
            return outcome, None
        decided = ledger.decision_of_run(engine, f"nightly_training/{key}")
        if decided is None:
            raise SimulationError(f"the ledger has no decision of night {day}")
        on_stage("true values")
        value, champion_value = (
            expected_clicks(engine, system.settings, world, version, positions).mean()
            for version in (outcome.version, champion.model_version)
        )
        waits = decided.reason == WAITS
        if waits:
            _start_experiment(engine, system, outcome.version, day, morning)
        publish_for_all(system, key, on_stage)
        if waits:
            with engine.begin() as connection:
                connection.execute(sa.text(read_statement("simulation/date_experiment")), {"moment": morning})
    promoted = decided.action == "promote"
    return outcome, Candidate(
        day, outcome.version, is_bad, passed=promoted or waits, waits=waits, promoted=promoted,
        decision=decided.reason, value=float(value), champion_value=float(champion_value),
    )  # fmt: skip


def let_users_decide(system: System, candidate: Candidate, key: str, at: datetime, on_stage: OnStage) -> None:
    """Look at the experiment with a candidate at a simulated moment, and note on the candidate if it ends."""
    ended = read_experiment(system.changed(_USERS_DECIDE), key, at, on_stage)
    if ended is None:
        return
    with system.engine() as engine:
        champion = ledger.champion(engine)
    candidate.waits, candidate.decision = False, ended
    candidate.promoted = champion is not None and champion.model_version == candidate.version


def _start_experiment(engine: sa.Engine, system: System, version: str, day: int, morning: datetime) -> None:
    """Give half of the users the candidate's lists for a day.

    How often users come does not depend on their lists here, so there is nothing for a guardrail to guard.
    """
    experiments.start(
        engine, system.settings, f"night {day}", version, share=0.5, guardrails={}, days=_DAYS,
        actor=_ACTOR, now=morning,
    )  # fmt: skip
