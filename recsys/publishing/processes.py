"""Publish with several processes of this machine, which stage shards as tasks on many machines do."""

import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from multiprocessing import get_context, parent_process
from typing import Literal, Self

import sqlalchemy as sa

from recsys.errors import NothingToDoError, PublicationConflictError
from recsys.memory import require_memory
from recsys.promotion import ledger
from recsys.publishing.plans import Plan, claim_next, close_plans, load_plan, use_plan
from recsys.publishing.prepare import Prepared
from recsys.publishing.publish import PublishSummary
from recsys.publishing.servable import Servable, load_planned, load_servable
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
    load_beside: Load = load_planned,
    now: datetime | None = None,
) -> PublishSummary:
    """Do what `publish` does, with several processes that share the processors; this one is the first.

    The others start when there is something to plan, and load the champion meanwhile. A process that dies
    leaves its shard to this one. If this one dies, the others stop after their shard, and nothing that users
    see has changed.

    Parameters
    ----------
    processes
        Number of processes that score.
    scope, run_key, now
        As in `publish`.
    load, load_beside
        Loads a model version, in this process and in the others; the latter is a function of a module.

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
        with OtherProcesses(settings, processes - 1, load_beside) as others:
            worker = publish_or_plan(
                engine,
                settings,
                scope=scope,
                run_key=run_key,
                users_per_shard=users_per_shard,
                load=load,
                now=now,
                before_plan=others.begin,
            )
            if isinstance(worker, PublishSummary):
                return worker
            plan = worker.plan
            with _given_up_on_error(engine, plan):
                try:
                    stage_in_processes(engine, worker, others)
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


class OtherProcesses:
    """Processes beside this one that stage shards of a plan; the end of the block waits for them.

    Parameters
    ----------
    number
        How many there are.
    load
        Loads a model version; a function of a module, because they call it.
    """

    def __init__(self, settings: Settings, number: int, load: Load) -> None:
        self._settings, self._number, self._load = settings, number, load
        self.threads = max(1, len(os.sched_getaffinity(0)) // (number + 1))
        """Threads of each process, this one included."""
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def begin(self, prepared: Prepared) -> None:
        """Start them; they load the champion while this process makes the plan.

        Raises
        ------
        ConfigurationError
            So many models do not fit into memory.
        """
        if self._number == 0:
            return
        require_memory(
            f"{self._number} more processes that score {prepared.items} items each",
            {"models and catalogues": self._number * sum(prepared.serving_bytes.values())},
            "use fewer --processes",
        )
        self._pool = ProcessPoolExecutor(self._number, mp_context=get_context("spawn"))
        version = prepared.champion.model_version
        for _ in range(self._number):
            self._pool.submit(_load_early, self._settings, version, self.threads, self._load)

    def stage(self, plan_id: int) -> list[Future[None]]:
        """Let them stage shards of a plan.

        Raises
        ------
        BrokenProcessPool
            One of them was killed.
        """
        if self._pool is None:
            return []
        return [
            self._pool.submit(_stage_beside, self._settings, plan_id, self._load) for _ in range(self._number)
        ]


def stage_in_processes(engine: sa.Engine, worker: ShardWorker, others: OtherProcesses) -> None:
    """Stage the shards of a plan with this process, by its worker, and others; they share the processors."""
    import torch

    plan_id = worker.plan.plan_id
    before = torch.get_num_threads()
    torch.set_num_threads(others.threads)
    try:
        staging = others.stage(plan_id)
        _stage(engine, worker, taken_too=False)
        for process in staging:
            process.result()
    except BrokenProcessPool:
        logger.warning("a process was killed; what is left of plan %d is staged in this one", plan_id)
        _stage(engine, worker, taken_too=True)
    finally:
        torch.set_num_threads(before)


_loaded_early: dict[str, Servable] = {}
"""In a process that another one has started: what it has loaded while the plan was made."""


def _load_early(settings: Settings, version: str, threads: int, load: Load) -> None:
    """Load a version before there is a plan. An error comes again when a shard needs the version."""
    import torch

    torch.set_num_threads(threads)
    _loaded_early[version] = load(settings, version)


def _stage_beside(settings: Settings, plan_id: int, load: Load) -> None:
    """Stage shards in a process that another one has started."""

    def load_once(settings: Settings, version: str) -> Servable:
        return _loaded_early.pop(version, None) or load(settings, version)

    engine = connect(settings.require_warehouse_url())
    try:
        with engine.connect() as connection:
            plan = load_plan(connection, plan_id)
        _stage(engine, ShardWorker(settings, plan, load_once), taken_too=False)
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
