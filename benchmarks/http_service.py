"""Compare lists over HTTP with the SQL function that answers them, with 16 clients at once.

    python -m benchmarks.http_service --requests 1000 --json F

A temporary warehouse with 1,000 users and pools of 200, or with `--warehouse URL` one that exists, such as
the demo's, which is only read; and `recsys serve` as a process of its own. The same threads ask
`serving.recommend` over as many connections as the service has, and then the service. Requests that are not
answered with a full list are lost.

Keys: `lost`, `http_p50_ms`, `http_p99_ms`, `http_rate` (a second), the same with `sql`, `p50_ratio` and
`p99_ratio` (HTTP to SQL), and `http_cpu_ms`, the CPU time of the service per request.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psutil
import sqlalchemy as sa

from benchmarks.made_warehouse import made_warehouse, report
from recsys.serving.http.lists import call
from recsys.serving.http.server import CONNECTIONS
from recsys.serving.install import install_serving
from recsys.warehouse.engine import connect

_SELECT_USERS = "SELECT user_id FROM recommendation_lists ORDER BY user_id LIMIT 1000"
_LENGTH = 10
_WARM_UP = 10
"""Requests of each client before the measurement: they open connections."""
_FILL = """
INSERT INTO items (item_id, title)
SELECT 'item-' || n, 'Title of item ' || n FROM generate_series(1, 5000) AS n;
INSERT INTO users (user_id) SELECT 'user-' || n FROM generate_series(1, 1000) AS n;
INSERT INTO publications (run_key, model_version, scope, users, items, through_transaction_id)
VALUES ('benchmark', '1', 'all', 1000, 5000, warehouse_horizon());
INSERT INTO recommendation_lists (
    user_id, publication_id, model_version, item_ids, scores, propensities, reasons, pool_item_ids,
    pool_scores
)
SELECT
    'user-' || n, (SELECT max(publication_id) FROM publications), '1', ids[:20], scores[:20],
    array_fill(1::real, ARRAY[20]),
    (SELECT jsonb_agg('Because you liked "Title of item ' || i || '"') FROM generate_series(1, 20) AS i),
    ids, scores
FROM generate_series(1, 1000) AS n
CROSS JOIN LATERAL (
    SELECT
        array_agg('item-' || 1 + (n * 7919 + i * 104729) % 5000 ORDER BY i) AS ids,
        array_agg((5 - i * 0.01)::real ORDER BY i) AS scores
    FROM generate_series(1, 200) AS i
) AS pool;
ANALYZE;
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http_service")
    parser.add_argument("--requests", type=int, default=1_000, help="number of requests")
    parser.add_argument("--clients", type=int, default=16, help="number of clients at once")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--warehouse", help="URL of a warehouse with lists; default: a made one")
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder")
    options = parser.parse_args(arguments)
    with _warehouse(options.warehouse, options.folder) as (url, root):
        engine = connect(url, pool_size=CONNECTIONS, max_overflow=0)
        with engine.connect() as connection:
            users = list(connection.exec_driver_sql(_SELECT_USERS).scalars())
        with _service(url, root) as (address, service):
            sql = _measure(_over_sql(engine), users, options.requests, options.clients)
            before = _cpu_seconds(service)
            http = _measure(_over_http(address), users, options.requests, options.clients)
            asked = options.requests + _WARM_UP * options.clients
            cpu = (_cpu_seconds(service) - before) / asked
        engine.dispose()
    figures = {
        f"{side}_{name}": value
        for side, found in (("sql", sql), ("http", http))
        for name, value in found.items()
    }
    figures["http_cpu_ms"] = 1_000 * cpu
    figures["lost"] = figures.pop("http_lost") + figures.pop("sql_lost")
    for quantile in ("p50", "p99"):
        figures[f"{quantile}_ratio"] = figures[f"http_{quantile}_ms"] / figures[f"sql_{quantile}_ms"]
    report(figures, options.json)


@contextmanager
def _warehouse(url: str | None, folder: Path | None) -> Iterator[tuple[str, Path]]:
    """Yield the URL of a warehouse with lists, and an empty folder."""
    if url is not None:
        with tempfile.TemporaryDirectory(dir=folder) as root:
            yield url, Path(root)
        return
    with made_warehouse(folder) as (_, made, root):
        engine = connect(made)
        with engine.begin() as connection:
            connection.exec_driver_sql(_FILL, execution_options={"no_parameters": True})
        install_serving(engine)
        engine.dispose()
        yield made, root


def _over_http(address: str) -> Callable[[str], bool]:
    """Ask over one connection a thread, with a client that costs little time of its own."""
    connections = threading.local()

    def ask(user: str) -> bool:
        if not hasattr(connections, "own"):
            connections.own = HTTPConnection(address.removeprefix("http://"), timeout=60)
        connections.own.request("GET", f"/recommendations/{quote(user, safe='')}")
        answer = connections.own.getresponse()
        body = answer.read()
        return answer.status == 200 and len(json.loads(body)["items"]) == _LENGTH

    return ask


def _over_sql(engine: sa.Engine) -> Callable[[str], bool]:
    return lambda user: len(call(engine, "recommend", user_id=user).items) == _LENGTH


def _measure(
    ask: Callable[[str], bool], users: Sequence[str], requests: int, clients: int
) -> dict[str, float]:
    """Ask for the lists of users in turn; return quantiles in milliseconds, the rate, and what was lost."""

    def timed(number: int) -> tuple[float, bool]:
        started = time.perf_counter()
        try:
            answered = ask(users[number % len(users)])
        except (OSError, HTTPException):
            answered = False
        return time.perf_counter() - started, answered

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(timed, range(_WARM_UP * clients)))
        started = time.perf_counter()
        results = list(pool.map(timed, range(requests)))
        elapsed = time.perf_counter() - started
    p50, p99 = np.quantile([seconds for seconds, _ in results], [0.5, 0.99]) * 1_000
    lost = sum(not answered for _, answered in results)
    return {"p50_ms": float(p50), "p99_ms": float(p99), "rate": requests / elapsed, "lost": float(lost)}


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def _service(url: str, root: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Run `recsys serve` on a free port; yield its address and its process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "recsys.commands.main", "serve", "--port", "0"],
        env=os.environ | {"RECSYS_WAREHOUSE_URL": url, "RECSYS_HOME": str(root / "home")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip().removeprefix("listening on ")
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
