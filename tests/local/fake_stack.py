"""Supervisor of small fake programs, to test how processes are started and stopped.

Run it as `python fake_stack.py HOME SCENARIO`. The programs are real processes that misbehave like the real
ones: a worker ignores SIGTERM, has its own session and survives its parent.
"""

import os
import sys
from datetime import datetime
from pathlib import Path

from recsys.local.component import Component
from recsys.local.home import StackHome
from recsys.local.postgres import PostgresServer
from recsys.local.state import StackPhase, StackState
from recsys.local.supervisor import Supervisor, supervise

_SLEEP = "import time; time.sleep(600)"
_STUBBORN_WORKER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
_EXECUTOR = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {_STUBBORN_WORKER!r}], start_new_session=True)
time.sleep(600)
"""
_CRASH_ONCE = """
import pathlib, sys, time
mark = pathlib.Path("crashed")
if not mark.exists():
    mark.touch()
    sys.exit("first start fails")
pathlib.Path("running").touch()
time.sleep(600)
"""


def components(home: StackHome, scenario: str) -> list[Component]:
    environment = dict(os.environ)

    def program(name: str, code: str, **options: object) -> Component:
        command = [sys.executable, "-c", code]
        return Component(name=name, command=lambda: command, environment=environment, **options)  # type: ignore[arg-type]

    def never(_: datetime) -> bool:
        return False

    def fails(_: datetime) -> bool:
        raise OSError("connection refused")

    web = program("web", _SLEEP)
    executor = program("executor", _EXECUTOR, stop_order=2)
    if scenario == "healthy":
        once = program("once", "print('prepared')", once=True)
        return [once, program("web", _SLEEP, needs=("once",)), executor]
    if scenario == "slow":
        return [executor, program("web", _SLEEP, is_healthy=never)]
    if scenario == "never healthy":
        return [executor, program("web", "print('no port'); " + _SLEEP, is_healthy=fails, start_seconds=1)]
    if scenario == "crashes once":
        running = home.path / "running"
        return [program("flaky", _CRASH_ONCE, is_healthy=lambda _: running.exists()), web]
    if scenario == "always crashes":
        return [executor, program("broken", "raise SystemExit('no such module')", is_healthy=never)]
    if scenario == "preparation fails":
        return [program("once", "import sys; sys.exit('disk full')", once=True), web]
    if scenario == "postgres":
        server = PostgresServer(home.postgres_data, {"fsync": "off"}, home.log_file("postgres"))

        def command() -> list[str]:
            server.prepare()
            return server.command()

        postgres = Component(
            name="postgres",
            command=command,
            environment=environment,
            is_healthy=lambda _: server.is_ready(),
            stop_order=0,
            stop=server.stop,
        )
        return [postgres, program("web", _SLEEP, needs=("postgres",))]
    raise ValueError(scenario)


if __name__ == "__main__":
    home, scenario = StackHome(Path(sys.argv[1])), sys.argv[2]
    sys.exit(
        supervise(
            home,
            lambda: Supervisor(
                home,
                components(home, scenario),
                StackState(phase=StackPhase.STARTING, airflow_url="http://127.0.0.1:1"),
                poll_seconds=0.05,
                health_seconds=0.1,
            ),
        )
    )
