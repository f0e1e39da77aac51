"""Compare publishing in shards with the bare matrix product and top-k, and with more workers.

    python -m benchmarks.publishing --users 20000 --items 100000 --shards 1,2,4 --json F

A warehouse with made-up feedback and a recommender with random weights, whose item texts need no encoding.
The floor is `torch.topk(users @ items.T, pool)` for as many users, in blocks of the fastest size on this
machine, with all threads. Ours is everything from the history to the swapped list: reading, encoding, scores,
what is off a list, pools, reasons, staging, swap. `ratio_to_product` is the time of one process with all
threads over that of the floor, and `processor_ratio` the same of processor time, of Postgres too, which other
processes on the machine hardly change.

Workers get a core each, as far as there are cores: one worker is bound to one, two to two. `speedup_2` is how
much faster two are, and `most_speedup_2` how much faster they would be if only staging took half as long.
`identical` says whether lists, pools and vectors of all runs are the same bytes.
On a machine that does other things, `processor_speedup_2` says the same from processor time, of Postgres too,
as if nobody waited: planning, half of what both workers take, and the swap.
"""

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import scipy.sparse
import sqlalchemy as sa
import torch
from pydantic import SecretStr

from benchmarks.made_warehouse import (
    LAST_TIME,
    PSEUDONYM_KEY,
    add_catalogue,
    add_feedback,
    made_warehouse,
    report,
    vacuum,
)
from benchmarks.scoring import TEXT_WIDTH, floor_block, floor_seconds
from recsys.local.postgres import PostgresServer
from recsys.model.base_encoder import EncoderIdentity
from recsys.model.checkpoint import load_recommender, save_recommender
from recsys.model.collaborative import EASE, Popularity
from recsys.model.recent import RecentPopularity
from recsys.model.recommender import Recommender
from recsys.promotion import ledger
from recsys.publishing.histories import read_catalogue, read_event_types
from recsys.publishing.processes import OtherProcesses, stage_in_processes
from recsys.publishing.publish import publish
from recsys.publishing.servable import Servable, explain_in_sentences
from recsys.publishing.shards import ShardWorker, publish_or_plan, swap_shards
from recsys.serving.install import install_serving
from recsys.settings import ModelSettings, PublishingSettings, Settings
from recsys.snapshot.sequences import microseconds
from recsys.warehouse.engine import connect

EVENTS = 20
"""Events a user."""
NEIGHBOURS = 84
"""Items with a weight of collaborative filtering for an item."""
_FLOOR_USERS = 4_096
_CHECKPOINT = "made"
_SEEN = (
    "select md5(string_agg(md5(row(user_id, item_ids, scores, propensities, reasons, titles, pool_item_ids,"
    " pool_scores)::text), '' order by user_id)) from recommendation_lists",
    "select md5(string_agg(md5(row(user_id, vector)::text), '' order by user_id)) from user_vectors",
    "select md5(string_agg(md5(row(item_id, vector)::text), '' order by item_id)) from item_vectors",
)
STAGED_BYTES = (
    "select sum(pg_total_relation_size(oid)) from pg_class"
    " where relnamespace = 'staging'::regnamespace and relkind = 'r'"
)
"""Selects how large what is staged is."""
_VALIDATED = """
with opened as (
    insert into windows (consumer, run_key, lower_transaction_id, upper_transaction_id, arrived)
    select 'benchmark', 'all', 0, warehouse_horizon(), 1 returning window_id
)
insert into validation_results (window_id, expectation, success, severity, observed, expected)
select window_id, 'valid_share', true, 'critical', '{}', '{}' from opened
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publishing")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--shards", default="1,2", help="numbers of workers to compare, with commas")
    parser.add_argument("--folder", type=Path, help="where the warehouse lies while the benchmark runs")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args(arguments)
    workers = [int(number) for number in options.shards.split(",")]
    with publishable(options.folder, options.users, options.items) as (engine, settings, server):
        report(_figures(engine, settings, options.users, workers, Processor(server)), options.json)


@contextmanager
def publishable(
    folder: Path | None, users: int, items: int
) -> Iterator[tuple[sa.Engine, Settings, PostgresServer]]:
    """Yield a warehouse with a champion for `load_made`, whose feedback is validated."""
    with made_warehouse(folder) as (server, url, root):
        settings = Settings(
            home=root / "home",
            warehouse_url=SecretStr(url),
            pseudonym_key=SecretStr(PSEUDONYM_KEY),
            # What is similar to items is found once for a version, whatever the number of users.
            publishing=PublishingSettings(similar_items=0),
        )
        add_catalogue(url, users, items)
        add_feedback(url, EVENTS * users, users, items=items)
        engine = connect(url)
        install_serving(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql(_VALIDATED)
        _save_made(settings, engine)
        ledger.change_champion(
            engine, action="promote", version="made", expected_champion=None, reason="benchmark",
            explanation="It is a benchmark.", actor="benchmark",
        )  # fmt: skip
        yield engine, settings, server
        engine.dispose()


def load_made(settings: Settings, _version: str) -> Servable:
    """Load the recommender of `publishable`, as workers load a version."""
    return Servable(load_recommender(settings.home / _CHECKPOINT), "full", None, explain_in_sentences)


def _save_made(settings: Settings, engine: sa.Engine) -> None:
    """Write the checkpoint of a recommender with random weights on the warehouse's catalogue."""
    with engine.connect() as connection:
        catalogue, types = read_catalogue(connection), read_event_types(connection)
    torch.manual_seed(0)
    items = len(catalogue)
    encoder = EncoderIdentity("made", "", TEXT_WIDTH)
    model = Recommender(
        ModelSettings(base_encoder="made"), catalogue, types, encoder, torch.randn(items, TEXT_WIDTH)
    ).eval()
    rng = np.random.default_rng(0)
    model.items.trained[:] = True
    model.popularity = Popularity((1e5 / (1 + rng.permutation(items))).astype(np.float32))
    model.collaborative = _made_collaborative(items, rng)
    model.recent = RecentPopularity(rng.exponential(size=items), microseconds(LAST_TIME), half_life_days=7)
    save_recommender(model, settings.home / _CHECKPOINT)


def _made_collaborative(items: int, rng: np.random.Generator) -> EASE:
    """Return random weights of as many neighbours as items have in `benchmarks.collaborative`."""
    each = min(NEIGHBOURS, items - 1)
    others = np.sort(rng.integers(0, items, (items, each), dtype=np.int32), axis=1)
    weights = rng.exponential(0.05, others.size).astype(np.float32)
    starts = np.arange(items + 1, dtype=np.int64) * each
    matrix = scipy.sparse.csr_matrix((weights, others.ravel(), starts), shape=(items, items))
    matrix.sum_duplicates()
    return EASE(matrix)


class Processor:
    """Processor time of this process, of processes that it has started, and of a Postgres server.

    Parameters
    ----------
    server
        The Postgres server.
    own
        False: of the server only.
    """

    def __init__(self, server: PostgresServer, *, own: bool = True) -> None:
        pid = int((server.data_dir / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])
        self._postgres = psutil.Process(pid)
        self._own = [psutil.Process()] if own else []

    def seconds(self) -> float:
        """Return seconds since the start of all of them; of other processes once they have ended."""
        total = 0.0
        for process in (*self._own, self._postgres, *self._postgres.children()):
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])
        return total


@dataclass
class Run:
    """Seconds of one publication, of processor time too, and what readers see."""

    plan: float
    stage: float
    swap: float
    plan_processor: float
    stage_processor: float
    swap_processor: float
    staged_mib: float
    swap_wal_mib: float
    seen: list[str]

    @property
    def seconds(self) -> float:
        """Seconds from the history to the swapped list."""
        return self.plan + self.stage + self.swap

    def processor(self, workers: int = 1) -> float:
        """Seconds of processor time if so many workers divide that of staging."""
        return self.plan_processor + self.stage_processor / workers + self.swap_processor


def _figures(
    engine: sa.Engine,
    settings: Settings,
    users: int,
    workers: Sequence[int],
    processor: Processor,
) -> dict[str, Any]:
    url = settings.require_warehouse_url()
    model = load_made(settings, "made").model
    table = torch.from_numpy(model.scorer().item_vectors)
    vectors = torch.randn(min(_FLOOR_USERS, users), table.shape[1])
    pool = settings.publishing.pool
    block = floor_block(vectors, table, pool)

    def floor_again() -> tuple[float, float]:
        used = time.process_time()
        return floor_seconds(vectors, table, pool, block), time.process_time() - used

    floors = [floor_again() for _ in range(3)]
    _forget(engine, url)
    started, used = time.perf_counter(), processor.seconds()
    publish(engine, settings, scope="all", run_key="benchmark", load=load_made)
    whole, work = time.perf_counter() - started, processor.seconds() - used
    seen = _seen(engine)
    floors += [floor_again() for _ in range(3)]
    floor, floor_work = np.median(floors, axis=0) / len(vectors) * users
    runs = {}
    for number in workers:
        _forget(engine, url)
        with _cores(number):
            runs[number] = _in_shards(engine, settings, number, processor)
    figures: dict[str, Any] = {
        "users": users,
        "items": len(table),
        "pool": pool,
        "threads": torch.get_num_threads(),
        "floor_users_per_second": users / floor,
        "users_per_second": users / whole,
        "ratio_to_product": whole / floor,
        "processor_ratio": work / floor_work,
        "processor_ms_per_user": 1e3 * work / users,
        "identical": all(run.seen == seen for run in runs.values()),
    }
    for number, run in runs.items():
        figures |= {f"{name}_{number}": value for name, value in vars(run).items() if name != "seen"}
        figures[f"processor_{number}"] = run.processor()
        figures[f"users_per_second_{number}"] = users / run.seconds
    one = runs[workers[0]]
    for number in workers[1:]:
        figures[f"speedup_{number}"] = one.seconds / runs[number].seconds
        figures[f"processor_speedup_{number}"] = one.processor(workers[0]) / runs[number].processor(number)
        figures[f"speedup_of_staging_{number}"] = one.stage / runs[number].stage
        fraction = workers[0] / number
        figures[f"most_speedup_{number}"] = one.seconds / (one.plan + fraction * one.stage + one.swap)
    return figures


def _in_shards(engine: sa.Engine, settings: Settings, workers: int, processor: Processor) -> Run:
    begun = [(time.perf_counter(), processor.seconds())]
    with OtherProcesses(settings, workers - 1, load_made) as others:
        worker = publish_or_plan(
            engine,
            settings,
            scope="all",
            run_key="benchmark",
            users_per_shard=lambda users: -(-users // (4 * workers)),
            load=load_made,
            before_plan=others.begin,
        )
        assert isinstance(worker, ShardWorker)
        begun.append((time.perf_counter(), processor.seconds()))
        stage_in_processes(engine, worker, others)
    # The processor time of the others counts from here, when they have ended.
    begun.append((time.perf_counter(), processor.seconds()))
    with engine.connect() as connection:
        size = connection.exec_driver_sql(STAGED_BYTES).scalar_one()
        before = connection.exec_driver_sql("select pg_current_wal_lsn()").scalar_one()
        swap_shards(engine, worker.plan.plan_id)
        begun.append((time.perf_counter(), processor.seconds()))
        written = connection.exec_driver_sql(f"select pg_current_wal_lsn() - '{before}'").scalar_one()
    (plan, plan_processor), (stage, stage_processor), (swap, swap_processor) = np.diff(begun, axis=0).tolist()
    return Run(
        plan=plan,
        stage=stage,
        swap=swap,
        plan_processor=plan_processor,
        stage_processor=stage_processor,
        swap_processor=swap_processor,
        staged_mib=float(size) / 2**20,
        swap_wal_mib=float(written) / 2**20,
        seen=_seen(engine),
    )


@contextmanager
def _cores(workers: int) -> Iterator[None]:
    """Bind this process, and those that it starts, to as many cores as there are workers."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(own)[:workers])
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


def _forget(engine: sa.Engine, url: str) -> None:
    """Remove what is published."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "truncate recommendation_lists, user_vectors, item_vectors, published_items, publications cascade"
        )
    vacuum(url)


def _seen(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return [connection.exec_driver_sql(statement).scalar_one() for statement in _SEEN]


if __name__ == "__main__":
    main()
