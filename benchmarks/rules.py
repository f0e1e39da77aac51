"""Compare `serving.recommend` under rules with the same call without rules.

    python -m benchmarks.rules --json F

For each kind, 1, 100 and 1,000 rules hold at once. Calls with them and calls without any take turns on one
connection; each figure is a ratio of medians. The lists are those of `benchmarks.reading`: pools of 200,
nobody has reacted.

Keys: `KIND_N` for each kind and number of rules, and `ended_1000` for rules that no longer hold.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import sqlalchemy as sa

from benchmarks.made_warehouse import made_warehouse, report
from benchmarks.reading import fill
from recsys.warehouse.engine import connect

_NUMBERS = (1, 100, 1_000)
_KINDS = {
    "exclude": ("filter", "jsonb_build_object('genre', 'none-' || n)"),
    "pin": ("item_ids, position", "ARRAY['item-' || n], 1 + n % 1000"),
    "at_most": ("filter, number", "jsonb_build_object('genre', 'genre-' || n % 8), 2 + n % 9"),
    "at_least": ("filter, number", "jsonb_build_object('genre', 'genre-' || n % 8), 1"),
    "boost": ("filter, factor", "jsonb_build_object('genre', 'genre-' || n % 8), 2"),
}
_SIZE = 2_000
"""Users and items. The cost of rules depends on the pool, not on them."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rules")
    parser.add_argument("--calls", type=int, default=40, help="calls that a figure is the median of")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder")
    options = parser.parse_args(arguments)
    with made_warehouse(options.folder) as (_, url, _root):
        fill(url, _SIZE, _SIZE)
        engine = connect(url)
        figures: dict[str, float] = {}
        for kind, (columns, values) in _KINDS.items():
            for number in _NUMBERS:
                rules = f"SELECT '{kind} ' || n, '{kind}', '-infinity', NULL, {values}"
                figures[f"{kind}_{number}"] = _ratio(engine, columns, rules, number, options.calls)
        ended = "SELECT 'ended ' || n, 'exclude', '-infinity', now(), ARRAY['item-' || n]"
        figures["ended_1000"] = _ratio(engine, "item_ids", ended, 1_000, options.calls)
        engine.dispose()
    report(figures, options.json)


def _ratio(engine: sa.Engine, columns: str, rules: str, number: int, calls: int) -> float:
    """Return how many times as long a call takes while these rules hold."""
    insert = f"INSERT INTO placement_rules (rule, kind, valid_from, valid_until, {columns})"
    seconds: dict[bool, list[float]] = {True: [], False: []}
    options = {"isolation_level": "AUTOCOMMIT", "no_parameters": True}
    with engine.connect().execution_options(**options) as connection:
        connection.exec_driver_sql("PREPARE list AS SELECT * FROM serving.recommend('user-11')")
        for turn in range(8):
            is_ruled = turn % 2 == 0
            connection.exec_driver_sql("DELETE FROM placement_rules")
            if is_ruled:
                connection.exec_driver_sql(f"{insert} {rules} FROM generate_series(1, {number}) AS n")
            connection.exec_driver_sql("VACUUM ANALYZE placement_rules")
            for _ in range(3):
                connection.exec_driver_sql("EXECUTE list").all()
            for _ in range(calls // 4):
                started = time.perf_counter()
                connection.exec_driver_sql("EXECUTE list").all()
                seconds[is_ruled].append(time.perf_counter() - started)
        connection.exec_driver_sql("DEALLOCATE list")
    return round(median(seconds[True]) / median(seconds[False]), 2)


if __name__ == "__main__":
    main()
