"""Time from opening a window to a Parquet snapshot on disk, compared with a bare COPY and with pandas.

    python -m benchmarks.extraction --rows 5000000 --json F

(a) is `COPY ... TO STDOUT (FORMAT binary)` of the same rows and columns of feedback, without the join with
users, read by psql and discarded. (b) is `pandas.read_sql` of the snapshot's columns, with keys, and
`to_parquet`. Each snapshot is taken in its own process, whose peak memory is reported. (a) and the snapshot
alternate, and the best run of each counts, because other work on the machine can only slow a run down.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.made_warehouse import (
    PSEUDONYM_KEY,
    add_catalogue,
    add_feedback,
    made_warehouse,
    report,
    run_psql,
)

_RAW_COLUMNS = "feedback_id, user_id, item_id, event_type, value, comment, occurred_at"
_RAW_COPY = f"COPY (SELECT {_RAW_COLUMNS} FROM feedback) TO STDOUT (FORMAT binary)"
_READ_SQL = """
SELECT feedback_id, user_key, item_id, event_type, value, comment, occurred_at
FROM feedback JOIN users USING (user_id) WHERE consent
"""
_ROUNDS = 3


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.extraction")
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--users", type=int, help="default: one for 50 events")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--skip-read-sql", action="store_true", help="it takes most of the time and memory")
    options = parser.parse_args(arguments)
    users = options.users or max(options.rows // 50, 1)
    with made_warehouse(options.folder) as (server, url, root):
        add_catalogue(url, users)
        add_feedback(url, options.rows, users)
        # The first snapshot also computes every user's key, once for each user.
        first = _child("snapshot", url, root)
        copies, taken = [], []
        postmaster = psutil.Process(int((server.data_dir / "postmaster.pid").read_text().split()[0]))
        copy_cpu, snapshot_cpu = [], []
        for _ in range(_ROUNDS):
            before = _cpu_seconds(postmaster)
            copies.append(run_psql(server, _RAW_COPY))
            between = _cpu_seconds(postmaster)
            taken.append(_child("snapshot", url, root))
            copy_cpu.append(between - before)
            snapshot_cpu.append(_cpu_seconds(postmaster) - between + taken[-1]["cpu_seconds"])
        best = min(taken, key=lambda run: float(run["seconds"]))
        figures = {
            "rows": options.rows,
            "rows_of_consenting_users": best["rows"],
            "users": users,
            "seconds": best["seconds"],
            "copy_seconds": min(copies),
            "ratio_to_copy": best["seconds"] / min(copies),
            "cpu_seconds_with_server": min(snapshot_cpu),
            "copy_cpu_seconds_of_server": min(copy_cpu),
            "load_average": os.getloadavg()[0],
            "peak_rss_mib": max(run["peak_rss_mib"] for run in (first, *taken)),
            "rss_before_mib": best["rss_before_mib"],
            "snapshot_mib": best["snapshot_mib"],
            "first_seconds_with_new_keys": first["seconds"],
        }
        if not options.skip_read_sql:
            figures["read_sql_seconds"] = _child("read_sql", url, root)["seconds"]
            figures["speedup_over_read_sql"] = figures["read_sql_seconds"] / figures["seconds"]
    report(figures, options.json)


def _cpu_seconds(postmaster: psutil.Process) -> float:
    """Return the CPU seconds of the server's processes that have ended, above all its backends."""
    time.sleep(0.2)  # until the server has reaped the last backend
    used = postmaster.cpu_times()
    return float(used.children_user + used.children_system)


def _child(what: str, url: str, root: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.extraction", f"--{what}", url, str(root / what)]
    shutil.rmtree(root / what, ignore_errors=True)
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    shutil.rmtree(root / what, ignore_errors=True)
    return dict(json.loads(output.splitlines()[-1]))


def _take_snapshot(url: str, folder: Path) -> dict[str, Any]:
    from recsys.settings import Settings
    from recsys.snapshot.full import take_full_snapshot
    from recsys.warehouse.engine import connect
    from recsys.warehouse.windows import open_window

    settings = Settings(home=folder, warehouse_url=url, pseudonym_key=PSEUDONYM_KEY)
    engine = connect(url)
    before = _peak_rss_mib()
    cpu_before = time.process_time()
    started = time.perf_counter()
    window = open_window(engine, "benchmark", f"run at {time.time_ns()}")
    ref = take_full_snapshot(engine, window, settings)
    seconds = time.perf_counter() - started
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {
        "rows": ref.rows,
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu_before,
        "rss_before_mib": before,
        "peak_rss_mib": _peak_rss_mib(),
        "snapshot_mib": size / 2**20,
    }


def _read_with_pandas(url: str, folder: Path) -> dict[str, Any]:
    import pandas as pd

    from recsys.warehouse.engine import connect

    folder.mkdir(parents=True)
    with connect(url).connect() as connection:
        started = time.perf_counter()
        pd.read_sql(_READ_SQL, connection).to_parquet(folder / "feedback.parquet")
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_rss_mib": _peak_rss_mib()}


def _peak_rss_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    children = {"--snapshot": _take_snapshot, "--read_sql": _read_with_pandas}
    if len(sys.argv) == 4 and sys.argv[1] in children:
        print(json.dumps(children[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))))
    else:
        main()
