"""Measure the transaction that replaces everybody's lists, pools and vectors, without scoring anybody.

    python -m benchmarks.swap --users 1000000 --items 100000 --json F

Made-up lists of 20 items, pools of 200 and vectors are staged as shards stage them, each user has one
reaction that the lists have read, and the swap runs: into empty tables, and then once more, over the lists of
the first. Meanwhile a reader asks for one list after the other; `waits` counts how often it would have waited
for a lock.

`seconds` and `processor` (of Postgres) include the check that nothing is missing. `staged_mib` is what was
staged, `wal_mib` the write-ahead log of the swap, and `statements` the seconds of each statement that took a
hundredth of the time or more.
"""

import argparse
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.made_warehouse import add_catalogue, made_warehouse, report, vacuum
from benchmarks.publishing import STAGED_BYTES, Processor
from recsys.promotion import ledger
from recsys.publishing.plans import use_plan
from recsys.publishing.shards import swap_shards
from recsys.serving.install import install_serving
from recsys.settings import PublishingSettings
from recsys.warehouse.engine import connect
from recsys.warehouse.statements import read_statement

_DIM = 64
_DIFFERENT = 1_000
"""Different lists; to make up each user's own would take longer than to swap them."""
_STAGE = (
    """
    create temporary table made on commit drop as
    select
        n,
        list.ids,
        list.titles,
        list.scores,
        (select jsonb_agg('Because you liked item ' || i * n) from generate_series(1, :k) as i) as reasons,
        (select array_agg(random()) from generate_series(1, :dim) where n is not null)::vector as vector
    from generate_series(0, :different - 1) as n
    cross join lateral (
        select
            array_agg('item-' || item order by place) as ids,
            array_agg('Title of item ' || item order by place) as titles,
            array_agg((5 - place * 0.01 * random())::real order by place) as scores
        from generate_series(1, :pool) as place,
            lateral (select 1 + (n * 7919::bigint + place * 104729::bigint) % :items as item) as chosen
    ) as list
    """,
    """
    insert into staging.staged_users (position, user_id)
    select row_number() over (order by user_id) - 1, user_id from users
    """,
    """
    insert into staging.staged_lists (
        position, item_ids, scores, propensities, reasons, titles, language
    )
    select
        position, ids[:(:k)], scores[:(:k)], array_fill(1::real, array[:k]), reasons, titles[:(:k)], 'en'
    from staging.staged_users join made on n = position % :different
    """,
    """
    insert into staging.staged_pools (position, item_ids, scores)
    select position, ids, scores from staging.staged_users join made on n = position % :different
    """,
    """
    insert into staging.staged_user_vectors (position, vector)
    select position, vector from staging.staged_users join made on n = position % :different
    """,
    """
    insert into staging.staged_items (position, item_id)
    select row_number() over (order by item_id) - 1, item_id from items
    """,
    """
    insert into staging.staged_item_vectors (position, vector)
    select position, vector from staging.staged_items join made on n = position % :different
    """,
    """
    insert into staging.staged_catalogue (item_id, title, text_digest, available)
    select item_id, title, md5(title), true from items
    """,
    "update staging.shards set state = 'staged'",
)
_REACT = """
insert into fresh_feedback (user_id, transaction_id, feedback_id, item_id, event_type, occurred_at)
select user_id, 1, row_number() over (), 'item-1', 'view', now() from users
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.swap")
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the warehouse lies while the benchmark runs")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args(arguments)
    figures: dict[str, Any] = {"users": options.users, "items": options.items}
    with made_warehouse(options.folder) as (server, url, _):
        add_catalogue(url, options.users, options.items)
        engine = connect(url)
        install_serving(engine)
        champion = ledger.change_champion(
            engine, action="promote", version="made", expected_champion=None, reason="benchmark",
            explanation="It is a benchmark.", actor="benchmark",
        )  # fmt: skip
        for name in ("first", "second"):
            plan_id = _stage(engine, champion.champion_sequence or 1, options.users, options.items, name)
            vacuum(url)
            swapped = _swap(engine, plan_id, Processor(server, own=False))
            figures |= {f"{key}_{name}": value for key, value in swapped.items()}
        engine.dispose()
    report(figures, options.json)


def _stage(engine: sa.Engine, champion_sequence: int, users: int, items: int, run_key: str) -> int:
    """Stage everything of a plan; return its id."""
    publishing = PublishingSettings()
    made = {"k": publishing.k, "pool": publishing.pool, "items": items, "dim": _DIM, "different": _DIFFERENT}
    with engine.connect() as connection:
        with connection.begin():
            connection.exec_driver_sql(_REACT)
            plan_id = connection.execute(
                sa.text(read_statement("publishing/insert_plan")),
                {
                    "experiment_id": None,
                    "challenger": None,
                    "challenger_first": None,
                    "run_key": run_key,
                    "model_version": "made",
                    "champion_sequence": champion_sequence,
                    "everyone": True,
                    "through_transaction_id": 2,
                    "moment": "2026-07-01",
                    "settings": publishing.model_dump_json(),
                    "users": users,
                    "items": items,
                    "users_per_shard": publishing.users_per_shard,
                    "serving_bytes": 0,
                },
            ).scalar_one()
        use_plan(connection, plan_id)
        with connection.begin():
            connection.exec_driver_sql(read_statement("publishing/open_plan"))
            for statement in _STAGE:
                connection.execute(sa.text(statement), made)
    return int(plan_id)


def _swap(engine: sa.Engine, plan_id: int, processor: Processor) -> dict[str, Any]:
    reader = _Reader(engine)
    with engine.connect() as connection:
        staged = connection.exec_driver_sql(STAGED_BYTES).scalar_one()
        before = connection.exec_driver_sql("select pg_current_wal_lsn()").scalar_one()
        used, started = processor.seconds(), time.perf_counter()
        with reader, _statements(engine) as statements:
            swap_shards(engine, plan_id)
        seconds, used = time.perf_counter() - started, processor.seconds() - used
        written = connection.exec_driver_sql(f"select pg_current_wal_lsn() - '{before}'").scalar_one()
    return {
        "seconds": seconds,
        "processor": used,
        "staged_mib": float(staged) / 2**20,
        "wal_mib": float(written) / 2**20,
        "reads": reader.reads,
        "longest_read": reader.longest,
        "waits": reader.waits,
        "statements": {
            name: round(took, 2) for name, took in statements.most_common() if took >= seconds / 100
        },
    }


class _Reader:
    """Reads the lists of users while a block runs, and counts how often it would have waited for a lock."""

    def __init__(self, engine: sa.Engine) -> None:
        self.longest, self.reads, self.waits = 0.0, 0, 0
        self._engine, self._end = engine, threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _read(self) -> None:
        with self._engine.connect() as connection:
            connection.exec_driver_sql("set lock_timeout = 1")
            connection.commit()
            while not self._end.wait(0.01):
                self.reads += 1
                started = time.perf_counter()
                try:
                    connection.exec_driver_sql(
                        f"select count(*) from serving.recommend('user-{self.reads}')"
                    ).scalar_one()
                except sa.exc.OperationalError:
                    self.waits += 1
                connection.rollback()
                self.longest = max(self.longest, time.perf_counter() - started)
            connection.exec_driver_sql("reset lock_timeout")


@contextmanager
def _statements(engine: sa.Engine) -> Iterator[Counter[str]]:
    """Yield a counter that gets the seconds of statements that write or check while the block runs."""
    took: Counter[str] = Counter()

    def begin(
        _connection: sa.Connection, _cursor: Any, _sql: str, _args: Any, context: Any, _m: bool
    ) -> None:
        context.begun = time.perf_counter()

    def end(_connection: sa.Connection, _cursor: Any, sql: str, _args: Any, context: Any, *_: Any) -> None:
        lines = [line for line in sql.splitlines() if not line.startswith("--")]
        if not lines[0].startswith("select"):
            took[lines[0][:40]] += time.perf_counter() - context.begun

    sa.event.listen(engine, "before_cursor_execute", begin)
    sa.event.listen(engine, "after_cursor_execute", end)
    try:
        yield took
    finally:
        sa.event.remove(engine, "before_cursor_execute", begin)
        sa.event.remove(engine, "after_cursor_execute", end)


if __name__ == "__main__":
    main()
