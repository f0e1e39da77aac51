"""Supervisor: starts the components of a stack, restarts those that crash, and stops them all."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import IO, Any

from recsys.errors import StackError
from recsys.local.component import Component
from recsys.local.home import StackHome, keep_private
from recsys.local.processes import COMPONENT_VARIABLE, STACK_VARIABLE, marked_processes, stop_processes
from recsys.local.state import ComponentPhase, ComponentState, StackPhase, StackState

logger = logging.getLogger(__name__)

ANOTHER_SUPERVISOR = 3
_LARGEST_LOG_BYTES = 20_000_000
_GRACE_SECONDS = 4.0
_LONGEST_BACK_OFF_SECONDS = 60.0
_LOG_LINES_IN_MESSAGE = 12


class _Runner:
    """One component with its process and its state."""

    def __init__(self, component: Component, log_file: Path) -> None:
        self.component = component
        self.state = ComponentState(name=component.name, address=component.address, log_file=log_file)
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = datetime.now(UTC)
        self.started = 0.0
        self.start_not_before = 0.0
        self.back_off = 1.0
        self.check: Future[bool] | None = None
        self.next_check = 0.0

    def last_log_lines(self) -> str:
        try:
            lines = self.state.log_file.read_text(errors="replace").splitlines()
        except OSError:
            return "(no log)"
        return "\n".join(lines[-_LOG_LINES_IN_MESSAGE:])


class Supervisor:
    """Runs components until it is asked to stop.

    Parameters
    ----------
    home
        Home folder for state and logs; the caller holds its lock.
    components
        Components in the order in which they are displayed.
    state
        Initial state with the addresses of the whole stack.
    poll_seconds
        Seconds between checks for processes that exited.
    health_seconds
        Seconds between health checks of a healthy component.
    """

    def __init__(
        self,
        home: StackHome,
        components: Sequence[Component],
        state: StackState | None = None,
        poll_seconds: float = 0.2,
        health_seconds: float = 5.0,
    ) -> None:
        self.home = home
        self.stack_id = home.secrets().stack_id
        self._runners = [_Runner(component, home.log_file(component.name)) for component in components]
        self._state = state or StackState(phase=StackPhase.STARTING)
        self._state.components = [runner.state for runner in self._runners]
        self._state.supervisor_pid = os.getpid()
        self._poll_seconds = poll_seconds
        self._health_seconds = health_seconds
        self._stop = threading.Event()
        self._checks = ThreadPoolExecutor(max_workers=4, thread_name_prefix="health")
        self._began = time.monotonic()
        self._written = ""

    def run(self, lock: IO[Any]) -> None:
        """Start all components and watch them until SIGTERM or SIGINT, then stop them.

        It also stops when the home folder is removed, because no command could find the stack any more.

        Parameters
        ----------
        lock
            Lock of the home folder.

        Raises
        ------
        StackError
            A component cannot be started. All components are stopped before it is raised.
        """
        self.handle_signals()
        self._set_phase(StackPhase.STARTING)
        try:
            while not self._stop.is_set():
                if not self.home.is_current(lock):
                    logger.error("%s was removed: stopping all components", self.home.path)
                    self._stop_all()
                    return
                self._step()
                self._stop.wait(self._poll_seconds)
        except Exception as error:
            self._stop_all()
            self._set_phase(StackPhase.FAILED, str(error))
            raise
        self._stop_all()
        self._set_phase(StackPhase.STOPPED)

    def handle_signals(self) -> None:
        """Stop cleanly on SIGTERM and SIGINT; ignore a closed terminal."""

        def request_stop(_number: int, _frame: FrameType | None) -> None:
            self._stop.set()

        signal.signal(signal.SIGTERM, request_stop)
        signal.signal(signal.SIGINT, request_stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _step(self) -> None:
        ready = {runner.component.name for runner in self._runners if runner.state.is_ready}
        for runner in self._runners:
            if runner.process is not None:
                code = runner.process.poll()
                if code is None:
                    self._check_health(runner)
                else:
                    self._handle_exit(runner, code)
            elif runner.state.phase in (ComponentPhase.WAITING, ComponentPhase.RESTARTING):
                due = time.monotonic() >= runner.start_not_before
                if due and ready.issuperset(runner.component.needs):
                    self._start(runner)
        if all(runner.state.is_ready for runner in self._runners):
            if self._state.seconds_to_healthy is None:
                self._state.seconds_to_healthy = round(time.monotonic() - self._began, 1)
                logger.info("healthy after %.1f s", self._state.seconds_to_healthy)
            self._set_phase(StackPhase.HEALTHY)
        elif self._state.seconds_to_healthy is not None:
            unhealthy = [runner.state.name for runner in self._runners if not runner.state.is_ready]
            self._set_phase(StackPhase.DEGRADED, f"not healthy: {', '.join(unhealthy)}")
        self._write_state()

    def _start(self, runner: _Runner) -> None:
        component, log_file = runner.component, runner.state.log_file
        if log_file.exists() and log_file.stat().st_size > _LARGEST_LOG_BYTES:
            log_file.replace(log_file.with_suffix(".log.1"))
        marks = {STACK_VARIABLE: self.stack_id, COMPONENT_VARIABLE: component.name}
        command = list(component.command())
        runner.started, runner.started_at = time.monotonic(), datetime.now(UTC)
        with log_file.open("ab") as log:
            log.write(f"--- {runner.started_at:%Y-%m-%d %H:%M:%S} UTC: starting {component.name}\n".encode())
            log.flush()
            runner.process = subprocess.Popen(
                command,
                cwd=self.home.path,
                env={**component.environment, **marks},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        logger.info("started %s as process %d", component.name, runner.process.pid)
        runner.state.phase, runner.state.pid = ComponentPhase.STARTING, runner.process.pid
        runner.state.detail = ""
        runner.check, runner.next_check = None, 0.0

    def _check_health(self, runner: _Runner) -> None:
        """Evaluate the last health check and start the next one in a thread, because it may take seconds."""
        if runner.component.once:
            return
        now = time.monotonic()
        if runner.check is not None and runner.check.done():
            healthy = runner.check.exception() is None and runner.check.result()
            runner.check = None
            phase = runner.state.phase
            if healthy:
                if phase is ComponentPhase.STARTING:
                    runner.state.seconds_to_healthy = round(now - runner.started, 1)
                    logger.info("%s is healthy", runner.component.name)
                if now - runner.started > 2 * _LONGEST_BACK_OFF_SECONDS:
                    runner.back_off = 1.0
                runner.state.phase = ComponentPhase.HEALTHY
            elif phase is ComponentPhase.HEALTHY:
                logger.warning("%s is not healthy any more", runner.component.name)
                runner.state.phase = ComponentPhase.UNHEALTHY
            runner.next_check = now + (self._health_seconds if healthy else min(0.3, self._health_seconds))
        if runner.check is None and now >= runner.next_check:
            runner.check = self._checks.submit(runner.component.is_healthy, runner.started_at)
        is_late = now - runner.started > runner.component.start_seconds
        if (
            is_late
            and runner.state.phase is ComponentPhase.STARTING
            and self._state.seconds_to_healthy is None
        ):
            runner.state.phase = ComponentPhase.FAILED
            raise StackError(
                f"{runner.component.name} is not healthy after {runner.component.start_seconds:.0f} s; "
                f"{runner.state.log_file} ends with:\n{runner.last_log_lines()}"
            )

    def _handle_exit(self, runner: _Runner, code: int) -> None:
        component, runner.process = runner.component, None
        runner.state.pid = None
        stop_processes(lambda: marked_processes(self.stack_id, component.name), grace_seconds=0)
        if component.once and code == 0:
            runner.state.phase = ComponentPhase.DONE
            runner.state.seconds_to_healthy = round(time.monotonic() - runner.started, 1)
            logger.info("%s is done", component.name)
            return
        reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        logger.error("%s ended with %s", component.name, reason)
        runner.state.detail = f"ended with {reason}"
        still_starting = self._state.seconds_to_healthy is None
        if component.once or (still_starting and runner.state.restarts >= 1):
            runner.state.phase = ComponentPhase.FAILED
            raise StackError(
                f"{component.name} ended with {reason}; {runner.state.log_file} ends with:\n"
                f"{runner.last_log_lines()}"
            )
        runner.state.phase = ComponentPhase.RESTARTING
        runner.state.restarts += 1
        runner.start_not_before = time.monotonic() + runner.back_off
        runner.back_off = min(2 * runner.back_off, _LONGEST_BACK_OFF_SECONDS)

    def _stop_all(self) -> None:
        self._set_phase(StackPhase.STOPPING)
        self._checks.shutdown(wait=False, cancel_futures=True)
        with_own_stop = [runner for runner in self._runners if runner.component.stop is not None]
        for order in sorted({runner.component.stop_order for runner in self._runners}, reverse=True):
            group = [r for r in self._runners if r.component.stop_order == order and r not in with_own_stop]
            _stop_process_groups([runner.process for runner in group if runner.process is not None])
            for runner in group:
                self._mark_stopped(runner)
        exclude = {runner.component.name for runner in with_own_stop}
        killed = stop_processes(lambda: marked_processes(self.stack_id, exclude=exclude), grace_seconds=0)
        if killed:
            logger.info("killed %d processes that had left their group or ignored SIGTERM", killed)
        for runner in with_own_stop:
            if runner.component.stop is not None:
                runner.component.stop()
            self._mark_stopped(runner)
        stop_processes(lambda: marked_processes(self.stack_id), grace_seconds=0)

    def _mark_stopped(self, runner: _Runner) -> None:
        if runner.process is not None:
            runner.process.wait()
            runner.process = None
        runner.state.pid = None
        if runner.state.phase is not ComponentPhase.FAILED:
            runner.state.phase = ComponentPhase.STOPPED
        self._write_state()

    def _set_phase(self, phase: StackPhase, message: str = "") -> None:
        self._state.phase, self._state.message = phase, message
        self._write_state()

    def _write_state(self) -> None:
        now = self._state.model_dump_json()
        if now != self._written:
            with contextlib.suppress(FileNotFoundError):
                self._state.write(self.home.state_file)
                self._written = now


def _stop_process_groups(leaders: Sequence[subprocess.Popen[bytes]]) -> None:
    """Stop process groups together: SIGTERM, and SIGKILL after the grace period."""
    for leader in leaders:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < deadline and any(leader.poll() is None for leader in leaders):
        time.sleep(0.05)
    for leader in leaders:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)


def supervise(home: StackHome, make_supervisor: Callable[[], Supervisor]) -> int:
    """Run a supervisor unless this home folder has one already; return the exit code of the process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    # All components inherit it: snapshots, runs, logs and artifacts are private from the first moment.
    keep_private()
    home.create()
    lock = home.lock()
    if lock is None:
        logger.info("%s has a supervisor already", home.path)
        return ANOTHER_SUPERVISOR
    with lock:
        try:
            make_supervisor().run(lock)
        except StackError as error:
            logger.error("%s", error)
            state = StackState.read(home.state_file)
            if state.supervisor_pid != os.getpid():
                failed = StackState(phase=StackPhase.FAILED, message=str(error), supervisor_pid=os.getpid())
                failed.write(home.state_file)
            return 1
    return 0
