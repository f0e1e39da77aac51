"""Start, stop and inspect the embedded stack of a home folder."""

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
from recsys.local.processes import marked_processes, stop_processes
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
    """Start the stack and return when it is healthy; if it is up or starting already, wait for it.

    An interrupt or a component that fails stops all components again.

    Parameters
    ----------
    home
        Home folder; created when missing.
    schedules
        False: DAGs run only when a user or an asset triggers them.
    progress
        Called with the state while the stack starts.
    airflow_port, mlflow_port
        Required port; default: the port used last time, the usual one, or any free port.
    supervisor
        Command line of the supervisor; default: that of the real stack.

    Raises
    ------
    StackError
        A component cannot be started; the message contains the last lines of its log.
    """
    stack = StackHome(home)
    stack.create()
    if supervisor is None:
        require_packages()
        supervisor = [sys.executable, "-m", "recsys.commands.supervise", "--home", str(stack.path)]
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
            # The supervisor may not hold its lock yet, so stop_stack might not find it.
            if process is not None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_SUPERVISOR_STOP_SECONDS)
            stop_stack(home)
            raise


def stop_stack(home: Path, progress: Progress | None = None) -> StackState:
    """Stop every process of the stack, with or without a running supervisor; Postgres last and cleanly."""
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
    """Return the state of the stack, checked against the processes that are running."""
    stack = StackHome(home)
    state = StackState.read(stack.state_file)
    if stack.supervisor_pid() is not None:
        return state
    leftovers = _count_leftovers(stack)
    state.supervisor_pid = None
    if leftovers:
        state.phase = StackPhase.DEGRADED
        state.message = (
            f"the supervisor is gone but {leftovers} processes still run; `recsys down` stops them"
        )
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
    """Poll the state file until the stack is healthy.

    `process` is the supervisor just started; None when another command started it.
    """
    while True:
        # Check whether it runs before reading its state: the other order could miss its last state.
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
            raise StackError(f"the supervisor stopped while starting; {log_file} ends with:\n{last}")
        time.sleep(_POLL_SECONDS)


def _clean_up(stack: StackHome) -> None:
    """Stop processes that a killed supervisor left running."""
    stack_id = stack.stack_id()
    if stack_id is not None:
        stop_processes(lambda: marked_processes(stack_id, exclude=["postgres"]), _GRACE_SECONDS)
    if stack.postgres_data.exists():
        PostgresServer(stack.postgres_data).stop()
    if stack_id is not None:
        stop_processes(lambda: marked_processes(stack_id), grace_seconds=0)


def _count_leftovers(stack: StackHome) -> int:
    stack_id = stack.stack_id()
    return len(marked_processes(stack_id)) if stack_id is not None else 0


@contextlib.contextmanager
def interrupted_once() -> Iterator[None]:
    """Raise KeyboardInterrupt on the first Ctrl-C, SIGTERM or closed terminal, and ignore later ones.

    A second signal would interrupt the clean-up.
    """

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
