"""The loop's stages, one function for each DAG task: a reference in, a reference out.

A reference is a small dict of ids, URIs and figures that fits an XCom; data stays in Postgres, in
snapshots and in the registry. Every stage can be killed at any point and run again. Heavy libraries
load inside the functions, so that a DAG file can import this package.
"""

from recsys.stages.deciding import approve, gate, promote, roll_back
from recsys.stages.feedback import open_window, take_full_snapshot, take_micro_snapshot, validate
from recsys.stages.housekeeping import keep_house, prune_registry, reconcile_registry
from recsys.stages.learning import evaluate, fine_tune, micro_update, register
from recsys.stages.publishing import publish, refresh_analytics, refresh_users
from recsys.stages.run import Reference, Run

__all__ = [
    "Reference",
    "Run",
    "approve",
    "evaluate",
    "fine_tune",
    "gate",
    "keep_house",
    "micro_update",
    "open_window",
    "promote",
    "prune_registry",
    "publish",
    "reconcile_registry",
    "refresh_analytics",
    "refresh_users",
    "register",
    "roll_back",
    "take_full_snapshot",
    "take_micro_snapshot",
    "validate",
]
