"""Whether the hourly path keeps its speed as the warehouse grows.

    python -m benchmarks.growth --json F

Two warehouses differ only in how much feedback they hold: six months of it, fifty events a user. To each
come 100,000 fresh events of 10,000 users, in a month that has a sixth of the feedback already, and the
time to open the window and take the micro snapshot (fresh events, their users' history, replay and guard
users) is measured, again and again with new fresh events; the median counts. `--small` and `--large` set
the sizes.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.made_warehouse import (
    ITEMS,
    PSEUDONYM_KEY,
    add_catalogue,
    add_feedback,
    made_warehouse,
    report,
)
from recsys.settings import Settings
from recsys.snapshot.reference import TrainedThrough
from recsys.snapshot.write import micro_snapshot_parameters, take_micro_snapshot
from recsys.warehouse.engine import connect
from recsys.warehouse.literals import render_literals
from recsys.warehouse.pseudonyms import fill_user_keys
from recsys.warehouse.statements import read_statement
from recsys.warehouse.windows import Window, open_window

_FRESH = """
INSERT INTO feedback (event_id, user_id, item_id, event_type, occurred_at)
SELECT
    'fresh-' || :round || '-' || n,
    'user-' || 1 + (n * 7919 % 10000) * (:users / 10000),
    'item-' || 1 + floor(:items * random())::int,
    'view',
    CAST(:start AS timestamptz) + n * interval '30 milliseconds'
FROM generate_series(1, :fresh) AS n
"""
_FIRST_HOUR = datetime(2026, 6, 30, 12, tzinfo=UTC)
_ROUNDS = 4


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth")
    parser.add_argument("--small", type=int, default=1_000_000, help="rows of the small table")
    parser.add_argument("--large", type=int, default=50_000_000, help="rows of the large table")
    parser.add_argument("--fresh", type=int, default=100_000, help="rows that arrive")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--explain", type=Path, help="file for the plans of the large table")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    options = parser.parse_args(arguments)
    small = _measure(options.small, options.fresh, options.folder, None)
    large = _measure(options.large, options.fresh, options.folder, options.explain)
    figures = {
        "fresh_rows": options.fresh,
        **{f"small_{name}": value for name, value in small.items()},
        **{f"large_{name}": value for name, value in large.items()},
        "ratio": large["seconds"] / small["seconds"],
    }
    report(figures, options.json)


def _measure(rows: int, fresh: int, folder: Path | None, explain: Path | None) -> dict[str, Any]:
    users = max(rows // 50, 10_000)
    with made_warehouse(folder) as (_, url, root):
        add_catalogue(url, users)
        engine = connect(url)
        fill_user_keys(engine, PSEUDONYM_KEY.encode())
        # With the vacuum that housekeeping does every day.
        add_feedback(url, rows, users, until=_FIRST_HOUR)
        settings = Settings(home=root / "home", warehouse_url=url, pseudonym_key=PSEUDONYM_KEY)
        figures = _hours(engine, settings, users, fresh, explain)
        engine.dispose()
    return {"rows": rows, "users": users, **figures}


def _hours(
    engine: sa.Engine, settings: Settings, users: int, fresh: int, explain: Path | None
) -> dict[str, Any]:
    """Let fresh events arrive and take a micro snapshot of them, hour by hour."""
    parent = _everything(engine)
    rounds = []
    for number in range(_ROUNDS):
        start = _FIRST_HOUR + timedelta(hours=number)
        with engine.begin() as connection:
            connection.execute(
                sa.text(_FRESH),
                {"round": number, "users": users, "items": ITEMS, "start": start, "fresh": fresh},
            )
        started = time.perf_counter()
        window = open_window(engine, "hourly", f"hour {number}")
        opened = time.perf_counter()
        ref = take_micro_snapshot(engine, window, settings, parent)
        rounds.append((time.perf_counter() - started, opened - started, ref.rows))
        print(f"{users:,} users, hour {number}: {rounds[-1][0]:.2f} s", flush=True)
        if explain is not None and number == _ROUNDS - 1:
            explain.write_text(_plan(engine, window, parent, settings))
        # Training through everything that has arrived, as a chain of updates does.
        parent = replace(_everything(engine), occurred_before=start + timedelta(hours=1))
    # The first round finds cold caches and no statistics of the month.
    timed = rounds[1:]
    return {
        "seconds": statistics.median(seconds for seconds, _, _ in timed),
        "first_seconds": rounds[0][0],
        "open_window_seconds": statistics.median(opened for _, opened, _ in timed),
        "snapshot_rows": timed[-1][2],
    }


def _everything(engine: sa.Engine) -> TrainedThrough:
    with engine.connect() as connection:
        horizon = connection.scalar(sa.text("SELECT warehouse_horizon()"))
    return TrainedThrough(int(horizon), _FIRST_HOUR)


def _plan(engine: sa.Engine, window: Window, parent: TrainedThrough, settings: Settings) -> str:
    parameters = micro_snapshot_parameters(window, settings, parent)
    statement = render_literals(read_statement("select_micro_snapshot"), parameters)
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {statement}")
        return "\n".join(line for (line,) in plan) + "\n"


if __name__ == "__main__":
    main()
