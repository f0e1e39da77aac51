"""Publish with several processes of this machine, which stage shards as tasks on many machines do."""

import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from multiprocessing import get_context, parent_process
from typing import Literal

import sqlalchemy as sa

from recsys.errors import NothingToDoError, PublicationConflictError
from recsys.memory import require_memory
from recsys.promotion import ledger
from recsys.publishing.plans import Plan, claim_next, close_plans, load_plan, use_plan
from recsys.publishing.publish import PublishSummary
from recsys.publishing.servable import load_servable
from recsys.publishing.shards import Load, ShardWorker, publish_or_plan, swap_shards
from recsys.publishing.staging import SHARD_TABLES, publishing_session, staging_session
from recsys.settings import Settings
from recsys.warehouse.engine import connect

logger = logging.getLogger(__name__)

_SHARDS_PER_PROCESS = 4
"""So that a process that is done early finds work; it loads the model once, whatever their number."""
_ATTEMPTS = 2


def publish_in_processes(
    engine: sa.Engine,
    settings: Settings,
    *,
    processes: int,
    scope: Literal["all", "affected", "auto"] = "auto",
    run_key: str,
    load: Load = load_servable,
    now: datetime | None = None,
) -> PublishSummary:
    """Do what `publish` does, with several processes that share the processors; this one is the first.

    A process that dies leaves its shard to this one. If this one dies, the others stop after their shard, and
    nothing that users see has changed.

    Parameters
    ----------
    processes
        Number of processes that score.
    scope, run_key, now
        As in `publish`.
    load
        Loads a model version; a function of a module, because other processes call it.

    Raises
    ------
    NothingToDoError
        As in `publish`.
    PublicationConflictError
        The champion changed twice while users were being scored.
    ConfigurationError
        So many models do not fit into memory.
    """

    def users_per_shard(users: int) -> int:
        return min(settings.publishing.users_per_shard, -(-users // (processes * _SHARDS_PER_PROCESS)))

    started = time.monotonic()
    for _ in range(_ATTEMPTS):
        worker = publish_or_plan(
            engine,
            settings,
            scope=scope,
            run_key=run_key,
            users_per_shard=users_per_shard,
            load=load,
            now=now,
        )
        if isinstance(worker, PublishSummary):
            return worker
        plan = worker.plan
        with _given_up_on_error(engine, plan):
            require_memory(
                f"{processes - 1} more processes that score {plan.items} items each",
                {"models and catalogues": (processes - 1) * plan.serving_bytes},
                "use fewer --processes",
            )
            try:
                stage_in_processes(engine, settings, worker, processes, load)
                summary = swap_shards(engine, plan.plan_id)
                return replace(summary, seconds=round(time.monotonic() - started, 3))
            except NothingToDoError:
                champion = ledger.champion(engine)
                if champion is None or champion.sequence == plan.champion_sequence:
                    raise
                logger.warning("version %s was replaced as champion during scoring", plan.model_version)
    raise PublicationConflictError("the champion changed twice during scoring; publish again")


@contextmanager
def _given_up_on_error(engine: sa.Engine, plan: Plan) -> Iterator[None]:
    """Close the plan if the block fails, so that nobody waits for it."""
    try:
        yield
    except BaseException:
        with suppress(sa.exc.SQLAlchemyError), publishing_session(engine, run_key=plan.run_key) as connection:
            if load_plan(connection, plan.plan_id).state == "staging":
                close_plans(connection)
        raise


def stage_in_processes(
    engine: sa.Engine, settings: Settings, worker: ShardWorker, processes: int, load: Load
) -> None:
    """Stage the shards of a plan with this process, by its worker, and others; they share the processors."""
    import torch

    plan_id = worker.plan.plan_id
    before = torch.get_num_threads()
    threads = max(1, len(os.sched_getaffinity(0)) // processes)
    with ExitStack() as stack:
        others = []
        if processes > 1:
            pool = stack.enter_context(ProcessPoolExecutor(processes - 1, mp_context=get_context("spawn")))
            others = [
                pool.submit(_stage_beside, settings, plan_id, threads, load) for _ in range(processes - 1)
            ]
        torch.set_num_threads(threads)
        stack.callback(torch.set_num_threads, before)
        _stage(engine, worker, taken_too=False)
        try:
            for process in others:
                process.result()
        except BrokenProcessPool:
            logger.warning("a process was killed; what is left of plan %d is staged in this one", plan_id)
            _stage(engine, worker, taken_too=True)


def _stage_beside(settings: Settings, plan_id: int, threads: int, load: Load) -> None:
    """Stage shards in a process that another one has started."""
    import torch

    torch.set_num_threads(threads)
    engine = connect(settings.require_warehouse_url())
    try:
        with engine.connect() as connection:
            plan = load_plan(connection, plan_id)
        _stage(engine, ShardWorker(settings, plan, load), taken_too=False)
    finally:
        engine.dispose()


def _stage(engine: sa.Engine, worker: ShardWorker, *, taken_too: bool) -> None:
    """Stage shards of a plan until none is left, or the process that started this one has ended."""
    parent = parent_process()
    with staging_session(engine, SHARD_TABLES) as connection:
        use_plan(connection, worker.plan.plan_id)
        while parent is None or parent.is_alive():
            taken = claim_next(connection, worker.plan.plan_id, taken_too=taken_too)
            if taken is None:
                return
            worker.stage(connection, taken)
