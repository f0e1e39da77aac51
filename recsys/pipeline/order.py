"""The order of the stages.

DAG files, the simulation, benchmarks and tests all take it from here. A stage takes the context and what
the stage before it returned. It can be killed at any point and run again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

from recsys.pipeline import deciding, experimenting, feedback, housekeeping, learning, publishing, tuning

Stage = Callable[..., Any]


def takes(stage: Stage) -> bool:
    """Return whether a stage takes what the stage before it returned, besides the context."""
    return len(signature(stage).parameters) > 1


@dataclass(frozen=True)
class Learning:
    """The way from new feedback to a decision about the champion.

    Attributes
    ----------
    until_decision
        The last one is the gate; a person may be asked after it.
    promote
        Carries out the decision.
    afterwards
        Run whatever was decided; the first one receives the new champion, if there is one.
    """

    dag_id: str
    until_decision: tuple[Stage, ...]
    promote: Stage = deciding.promote
    afterwards: tuple[Stage, ...] = ()


@dataclass(frozen=True)
class Publication:
    """The way from the champion to what users see.

    Attributes
    ----------
    publish
        Publishes, or returns shards.
    stage_shard
        Runs once for each shard, on as many workers as there are.
    swap_shards
        Takes the shards when all are staged.
    afterwards
        Run when something was published.
    at_once
        Does the same as the three stages in one process.
    """

    publish: Stage
    stage_shard: Stage
    swap_shards: Stage
    afterwards: tuple[Stage, ...]
    at_once: Stage


@dataclass(frozen=True)
class Search:
    """The way from the settings in force to better ones, if there are any.

    Attributes
    ----------
    begin
        Returns the trials.
    run_trial
        Runs once for each trial, on as many workers as the settings allow.
    until_decision
        From the best trial to the gate's decision about it; a person may be asked after it.
    promote
        Carries out the decision.
    """

    begin: Stage
    run_trial: Stage
    until_decision: tuple[Stage, ...]
    promote: Stage


NIGHTLY = Learning(
    "nightly_training",
    (
        feedback.open_window,
        feedback.validate,
        feedback.take_full_snapshot,
        learning.fine_tune,
        learning.evaluate,
        learning.register,
        deciding.gate,
    ),
)

HOURLY = Learning(
    "hourly_micro_update",
    (
        feedback.open_window,
        feedback.validate,
        feedback.take_micro_snapshot,
        learning.micro_update,
        learning.evaluate,
        learning.register,
        deciding.gate,
    ),
    afterwards=(publishing.refresh_users, publishing.refresh_analytics),
)

PUBLISH = Publication(
    publishing.publish,
    publishing.stage_shard,
    publishing.swap_shards,
    afterwards=(publishing.refresh_analytics,),
    at_once=publishing.publish_at_once,
)
REFRESH = (publishing.refresh_active_users,)
SUMMARIES = (publishing.write_summaries,)
EXPERIMENT = (experimenting.read_experiment, experimenting.promote_winner)
SEARCH = Search(
    tuning.begin_search,
    tuning.run_trial,
    (tuning.confirm_winner, learning.evaluate, learning.register, deciding.gate),
    deciding.promote,
)
ROLL_BACK = (deciding.roll_back,)
WAREHOUSE_UPKEEP = (
    housekeeping.keep_house,
    publishing.refresh_analytics,
    housekeeping.find_item_phrases,
)
MONITORING = (housekeeping.monitor,)
REGISTRY_UPKEEP = (housekeeping.reconcile_registry, housekeeping.prune_registry)
