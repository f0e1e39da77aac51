"""Supervisor process of the embedded stack: `python -m recsys.commands.supervise --home FOLDER`.

`recsys up` starts it in the background. It stops on SIGTERM.
"""

import argparse
import os
import sys
from pathlib import Path

from recsys.local.components import real_stack
from recsys.local.home import StackHome
from recsys.local.supervisor import Supervisor, supervise


def main() -> int:
    """Run the supervisor; return the exit code of the process."""
    parser = argparse.ArgumentParser(prog="python -m recsys.commands.supervise", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--no-schedules", action="store_true")
    parser.add_argument("--airflow-port", type=int)
    parser.add_argument("--mlflow-port", type=int)
    options = parser.parse_args()
    home = StackHome(options.home)

    def make_supervisor() -> Supervisor:
        components, state = real_stack(
            home,
            os.environ,
            schedules=not options.no_schedules,
            airflow_port=options.airflow_port,
            mlflow_port=options.mlflow_port,
        )
        return Supervisor(home, components, state)

    return supervise(home, make_supervisor)


if __name__ == "__main__":
    sys.exit(main())
