"""The loop's stages, one function for each DAG task: a reference in, a reference out.

A reference is a small dict of ids, URIs and figures that fits an XCom; data stays in Postgres, in
snapshots and in the registry. Every stage can be killed at any point and run again. Heavy libraries
load inside the functions, so that a DAG file can import this package.
"""

from recsys.pipeline.context import Reference, Run
from recsys.pipeline.deciding import approve, gate, promote, roll_back
from recsys.pipeline.feedback import open_window, take_full_snapshot, take_micro_snapshot, validate
from recsys.pipeline.housekeeping import keep_house, prune_registry, reconcile_registry
from recsys.pipeline.learning import evaluate, fine_tune, micro_update, register
from recsys.pipeline.publishing import publish, refresh_analytics, refresh_users

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
