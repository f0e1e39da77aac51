"""Start, stop and ask the embedded stack of a home folder."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import psutil

from recsys.errors import StackError
from recsys.local.home import StackHome
from recsys.local.packages import require_packages
from recsys.local.postgres import PostgresServer
from recsys.local.processes import end_processes, marked_processes
from recsys.local.state import ComponentPhase, StackPhase, StackState
from recsys.local.supervisor import ANOTHER_SUPERVISOR

_POLL_SECONDS = 0.2
_SUPERVISOR_STOP_SECONDS = 60.0
_GRACE_SECONDS = 3.0
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Progress = Callable[[StackState], None]


def start_stack(
    home: Path,
    *,
    schedules: bool = True,
    progress: Progress | None = None,
    airflow_port: int | None = None,
    mlflow_port: int | None = None,
    supervisor: Sequence[str] | None = None,
) -> StackState:
    """Start the stack and return when all of it is healthy; join in when it is up or starting.

    Interrupted, or when a component fails, everything is ended again.

    Parameters
    ----------
    home
        Home folder; made when missing.
    schedules
        False: DAGs run only by hand or by an asset.
    progress
        Called with the state while it starts.
    airflow_port, mlflow_port
        Insist on a port; default: last time's, the usual one, or any that is free.
    supervisor
        Command of another supervisor than the real stack's.

    Raises
    ------
    StackError
        When something cannot be started; the message holds the last log lines.
    """
    stack = StackHome(home)
    stack.create()
    if supervisor is None:
        require_packages()
        supervisor = [sys.executable, "-m", "recsys.local.supervisor", "--home", str(stack.path)]
        supervisor += [] if schedules else ["--no-schedules"]
        supervisor += [] if airflow_port is None else ["--airflow-port", str(airflow_port)]
        supervisor += [] if mlflow_port is None else ["--mlflow-port", str(mlflow_port)]
    if stack.supervisor_pid() is not None:
        return _wait_until_healthy(stack, None, progress)
    _clean_up(stack)
    process = None
    with interrupted_once():
        try:
            with stack.log_file("supervisor").open("ab") as log:
                process = subprocess.Popen(
                    supervisor, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            return _wait_until_healthy(stack, process, progress)
        except BaseException:
            # It may not have come far enough to be found through its lock.
            if process is not None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_SUPERVISOR_STOP_SECONDS)
            stop_stack(home)
            raise


def stop_stack(home: Path, progress: Progress | None = None) -> StackState:
    """End every process of the stack, whatever became of its supervisor; Postgres is ended last, cleanly."""
    stack = StackHome(home)
    pid = stack.supervisor_pid()
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _SUPERVISOR_STOP_SECONDS
        while stack.supervisor_pid() == pid and time.monotonic() < deadline:
            if progress is not None:
                progress(StackState.read(stack.state_file))
            time.sleep(_POLL_SECONDS)
        if stack.supervisor_pid() == pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    _clean_up(stack)
    return stack_state(home)


def stack_state(home: Path) -> StackState:
    """Return what the stack is doing, checked against the processes that really live."""
    stack = StackHome(home)
    state = StackState.read(stack.state_file)
    if stack.supervisor_pid() is not None:
        return state
    left = _left_over(stack)
    state.supervisor_pid = None
    if left:
        state.phase = StackPhase.DEGRADED
        state.message = f"the supervisor is gone and {left} processes are left; `recsys down` ends them"
        for component in state.components:
            if component.pid is not None and not psutil.pid_exists(component.pid):
                component.phase, component.pid = ComponentPhase.STOPPED, None
    elif state.phase is not StackPhase.FAILED:
        state.phase, state.message = StackPhase.STOPPED, ""
        for component in state.components:
            component.phase, component.pid = ComponentPhase.STOPPED, None
    return state


def _wait_until_healthy(
    stack: StackHome, process: subprocess.Popen[bytes] | None, progress: Progress | None
) -> StackState:
    """Follow the state file of the supervisor just started, or of the one that another command started."""
    while True:
        # First whether it lives, then what it wrote: the other way round its last words would be missed.
        ended = stack.supervisor_pid() is None if process is None else process.poll() is not None
        state = StackState.read(stack.state_file)
        ours = process is None or state.supervisor_pid == process.pid
        if ours and progress is not None:
            progress(state)
        if ours and state.phase in (StackPhase.HEALTHY, StackPhase.DEGRADED):
            return state
        if ours and state.phase is StackPhase.FAILED:
            raise StackError(state.message)
        if process is not None and ended and process.returncode == ANOTHER_SUPERVISOR:
            return _wait_until_healthy(stack, None, progress)
        if ended:
            log_file = stack.log_file("supervisor")
            last = "\n".join(log_file.read_text(errors="replace").splitlines()[-12:])
            raise StackError(f"the supervisor ended while starting; {log_file} ends with:\n{last}")
        time.sleep(_POLL_SECONDS)


def _clean_up(stack: StackHome) -> None:
    """End what a killed supervisor left behind."""
    stack_id = stack.stack_id()
    if stack_id is not None:
        end_processes(lambda: marked_processes(stack_id, spare=["postgres"]), _GRACE_SECONDS)
    if stack.postgres_data.exists():
        PostgresServer(stack.postgres_data).stop()
    if stack_id is not None:
        end_processes(lambda: marked_processes(stack_id), grace_seconds=0)


def _left_over(stack: StackHome) -> int:
    stack_id = stack.stack_id()
    return len(marked_processes(stack_id)) if stack_id is not None else 0


@contextlib.contextmanager
def interrupted_once() -> Iterator[None]:
    """Let the first Ctrl-C, SIGTERM or closed terminal interrupt; the next must not leave half behind."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in _INTERRUPTS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in _INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
