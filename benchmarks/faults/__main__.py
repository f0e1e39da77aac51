"""Run the loop hour by hour while everything breaks that can break, and count what was lost.

Each hour an application writes feedback. Then the stages of the hour's DAG run one after the other, each in
a process of its own as under Airflow, and each is repeated until it succeeds. Meanwhile chance kills the
process (`kill -9`), restarts or kills Postgres and MLflow, fills the disk of snapshots and training runs,
lets the database's clock jump, holds a transaction open, and runs the stage twice at once. A reader looks all
the time for a publication that is visible by half. A last night without faults must find all in order.

    python -m benchmarks.faults --hours 200 --json faults.json
"""

import argparse
import json
import logging
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.faults.run import FaultRun


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults")
    parser.add_argument("--hours", type=int, default=200, help="simulated hours; every 24th is a night")
    parser.add_argument("--seed", type=int, default=0, help="seed of the feedback and of the faults")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    # A run that is stopped stops its servers and releases its disk.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="recsys-faults-", dir=options.folder) as folder:
        Path(folder).chmod(0o755)
        with FaultRun(Path(folder), options.seed) as run:
            for hour in range(options.hours):
                run.hour(hour)
                print(f"hour {hour}: {run.describe()}", flush=True)
            figures = run.close_books(options.hours)
    figures["seconds"] = round(time.monotonic() - started)
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
