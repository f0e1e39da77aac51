"""Compare `recsys ingest feedback` of a CSV file with a bare COPY FROM of the same file.

    python -m benchmarks.ingest --rows 5000000 --json F

Both load into the same empty, partitioned table with the same indexes. The events' users are not in the
warehouse yet, so the ingest also registers them. The time of the command includes its start. Bare COPY checks
nothing, does not detect duplicates, and is one transaction.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from benchmarks.made_warehouse import (
    ITEMS,
    SELECT_EVENTS,
    add_catalogue,
    event_parameters,
    made_warehouse,
    report,
    run_psql,
)
from recsys.warehouse.engine import connect
from recsys.warehouse.statements import render_literals

_COLUMNS = "event_id, user_id, item_id, event_type, value, comment, occurred_at"
_ROUNDS = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest")
    parser.add_argument("--rows", type=int, default=5_000_000, help="number of events")
    parser.add_argument("--users", type=int, help="number of users; default: one per 50 events")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder")
    options = parser.parse_args(arguments)
    users = options.users or max(options.rows // 50, 1)
    with made_warehouse(options.folder) as (server, url, root):
        add_catalogue(url, users=0, items=ITEMS)
        file = root / "events.csv"
        parameters = event_parameters(options.rows, users)
        with file.open("wb") as stream:
            run_psql(
                server, f"COPY ({render_literals(SELECT_EVENTS, parameters)}) TO STDOUT (FORMAT csv, HEADER)",
                output=stream,
            )  # fmt: skip
        _execute(url, "SELECT ensure_feedback_partitions('{first}', '{last}')".format(**parameters))
        copies, loads = [], []
        for _ in range(_ROUNDS):
            _empty(url)
            copy = f"COPY feedback ({_COLUMNS}) FROM STDIN (FORMAT csv, HEADER)"
            copies.append(run_psql(server, copy, source=file))
            _empty(url)
            loads.append(_ingest(url, file))
        figures = {
            "rows": options.rows,
            "users": users,
            "file_mib": file.stat().st_size / 2**20,
            "seconds": min(loads),
            "copy_seconds": min(copies),
            "ratio": min(copies) / min(loads),
            "rows_per_second": options.rows / min(loads),
        }
    report(figures, options.json)


def _ingest(url: str, file: Path) -> float:
    command = [sys.executable, "-m", "recsys.commands.main", "ingest", "feedback", str(file)]
    started = time.perf_counter()
    subprocess.run(
        command, env={**os.environ, "RECSYS_WAREHOUSE_URL": url}, stdout=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - started


def _empty(url: str) -> None:
    for statement in ("TRUNCATE feedback", "TRUNCATE users CASCADE", "VACUUM ANALYZE", "CHECKPOINT"):
        _execute(url, statement)


def _execute(url: str, statement: str) -> None:
    engine = connect(url).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


if __name__ == "__main__":
    main()
