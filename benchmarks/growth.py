"""Time of the hourly path in a small and in a large warehouse.

    python -m benchmarks.growth --json F

The two warehouses differ only in the amount of feedback: six months, fifty events a user. A night takes the
full snapshot and its reservoir. Then 100,000 fresh events of 10,000 users arrive each hour, in a month that
already has a sixth of the feedback. The benchmark measures the time to open the window and to take the micro
snapshot (fresh events, their users' history, replay and guard events). `--small` and `--large` set the sizes.
If there are enough users, each hour has other users, so it cannot profit from what the last hour read.

The warehouse's files are read once before its hours. So pages are in the machine's memory as far as they fit,
as on a server that has run for days. `--cold` skips that and measures the disk's random reads. The reported
time (`seconds`) is the median of the hours after the first, because a warehouse runs hour after hour. The
first hour is reported as `first_seconds`; there are no statistics of its fresh events yet. On a shared
machine CPU time (`cpu_ratio`) is more reliable than wall time but does not include the disk. With `--keep` an
earlier call makes the feedback, and each call continues with the next hours.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from benchmarks.made_warehouse import (
    ITEMS,
    PSEUDONYM_KEY,
    add_catalogue,
    add_feedback,
    kept_warehouse,
    made_warehouse,
    report,
)
from recsys.local.postgres import PostgresServer
from recsys.settings import Settings
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.micro import micro_snapshot_parameters, take_micro_snapshot
from recsys.snapshot.reference import TrainedThrough
from recsys.snapshot.reservoir import write_reservoir
from recsys.warehouse.engine import connect
from recsys.warehouse.pseudonyms import fill_user_keys
from recsys.warehouse.statements import read_statement, render_literals
from recsys.warehouse.windows import Window, open_window

_FRESH = """
INSERT INTO feedback (event_id, user_id, item_id, event_type, occurred_at)
SELECT
    'fresh-' || :round || '-' || n,
    'user-' || 1 + ((n * 7919 % 10000) * (:users / 10000) + :round * :apart) % :users,
    'item-' || 1 + floor(:items * random())::int,
    'view',
    CAST(:start AS timestamptz) + n * interval '30 milliseconds'
FROM generate_series(1, :fresh) AS n
"""
_FIRST_HOUR = datetime(2026, 6, 30, 12, tzinfo=UTC)
_ROUNDS = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth")
    parser.add_argument("--small", type=int, default=1_000_000, help="rows of the small table")
    parser.add_argument("--large", type=int, default=50_000_000, help="rows of the large table")
    parser.add_argument("--fresh", type=int, default=100_000, help="rows that arrive")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--explain", type=Path, help="file for the query plans of the large table")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--keep", type=Path, help="folder for the warehouses; existing ones are reused")
    parser.add_argument("--cold", action="store_true", help="do not read the files into memory first")
    parser.add_argument("--make-only", action="store_true", help="only make the warehouses; with --keep")
    options = parser.parse_args(arguments)
    measured = {}
    for name, rows, explain in (("small", options.small, None), ("large", options.large, options.explain)):
        with ExitStack() as stack:
            if options.keep is None:
                server, url, root = stack.enter_context(made_warehouse(options.folder))
            else:
                server, url, root = stack.enter_context(kept_warehouse(options.keep / str(rows)))
            made = _make(url, root, rows)
            if not options.make_only:
                if not options.cold:
                    _read_files(server)
                hours = _hours(server, url, made, root, options.fresh, explain)
                measured[name] = {"rows": rows, **made, **hours}
    if not options.make_only:
        figures = {
            "fresh_rows": options.fresh,
            **{f"{name}_{key}": value for name, found in measured.items() for key, value in found.items()},
            "ratio": measured["large"]["seconds"] / measured["small"]["seconds"],
            "cpu_ratio": measured["large"]["cpu_seconds"] / measured["small"]["cpu_seconds"],
        }
        report(figures, options.json)


def _make(url: str, root: Path, rows: int) -> dict[str, Any]:
    """Fill a warehouse unless an earlier call did, and return the figures of its night."""
    made = root / "made.json"
    if not made.exists():
        users = max(rows // 50, 10_000)
        engine = connect(url)
        add_catalogue(url, users)
        fill_user_keys(engine, PSEUDONYM_KEY.encode())
        # Includes the vacuum that housekeeping runs every day.
        add_feedback(url, rows, users, until=_FIRST_HOUR)
        made.write_text(json.dumps({"users": users, **_night(engine, _settings(url, root))}))
        engine.dispose()
    found: dict[str, Any] = json.loads(made.read_text())
    return found


def _read_files(server: PostgresServer) -> None:
    for path in (server.data_dir / "base").glob("*/*"):
        with suppress(FileNotFoundError), path.open("rb") as file:
            while file.read(1 << 20):
                pass


def _settings(url: str, root: Path) -> Settings:
    return Settings(home=root / "home", warehouse_url=url, pseudonym_key=PSEUDONYM_KEY)


def _night(engine: sa.Engine, settings: Settings) -> dict[str, float]:
    """Take the full snapshot and its reservoir, as every night does."""
    started = time.perf_counter()
    full = take_full_snapshot(engine, open_window(engine, "nightly", "night"), settings)
    taken = time.perf_counter()
    reservoir = write_reservoir(engine, full, settings)
    return {
        "full_snapshot_seconds": taken - started,
        "reservoir_seconds": time.perf_counter() - taken,
        "reservoir_rows": reservoir.rows,
    }


def _hours(
    server: PostgresServer, url: str, made: dict[str, Any], root: Path, fresh: int, explain: Path | None
) -> dict[str, Any]:
    """Add fresh events and take a micro snapshot of them, hour by hour."""
    engine, settings, users = connect(url), _settings(url, root), made["users"]
    with engine.connect() as connection:
        past = connection.scalar(sa.text("SELECT count(*) FROM windows WHERE consumer = 'hourly'"))
    rounds = []
    for number in range(past, past + _ROUNDS):
        start = _FIRST_HOUR + timedelta(hours=number)
        # It has trained on everything so far, like the last model of a chain of updates.
        parent = TrainedThrough(_horizon(engine), start)
        with engine.begin() as connection:
            connection.execute(
                sa.text(_FRESH),
                {
                    "round": number,
                    "apart": max(users // (10_000 * _ROUNDS), 1),
                    "users": users,
                    "items": ITEMS,
                    "start": start,
                    "fresh": fresh,
                },
            )
        started, used = time.perf_counter(), _cpu_seconds(server)
        window = open_window(engine, "hourly", f"hour {number}")
        opened = time.perf_counter()
        ref = take_micro_snapshot(engine, window, settings, parent)
        seconds, cpu = time.perf_counter() - started, _cpu_seconds(server) - used
        rounds.append((seconds, cpu, opened - started, ref.rows))
        print(f"{users:,} users, hour {number}: {seconds:.2f} s, CPU time {cpu:.2f} s", flush=True)
    if explain is not None:
        explain.write_text(_plan(engine, window, parent, settings))
    engine.dispose()
    seconds, cpu_seconds, open_seconds, snapshot_rows = zip(*rounds, strict=True)
    return {
        "seconds": statistics.median(seconds[1:]),
        "first_seconds": seconds[0],
        "cpu_seconds": statistics.median(cpu_seconds[1:]),
        "open_window_seconds": statistics.median(open_seconds[1:]),
        "snapshot_rows": snapshot_rows[-1],
    }


def _cpu_seconds(server: PostgresServer) -> float:
    """Return the CPU seconds of this process and of Postgres so far, including processes that ended."""
    parents = [psutil.Process(), psutil.Process(server.process.pid)]
    processes = [process for parent in parents for process in (parent, *parent.children(recursive=True))]
    used = 0.0
    for process in {process.pid: process for process in processes}.values():
        with suppress(psutil.NoSuchProcess):
            used += sum(process.cpu_times()[:4])
    return used


def _horizon(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(sa.text("SELECT warehouse_horizon()")))


def _plan(engine: sa.Engine, window: Window, parent: TrainedThrough, settings: Settings) -> str:
    parameters = micro_snapshot_parameters(window, settings, parent)
    statement = render_literals(read_statement("snapshot/select_micro_snapshot"), parameters)
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {statement}")
        return "\n".join(line for (line,) in plan) + "\n"


if __name__ == "__main__":
    main()
