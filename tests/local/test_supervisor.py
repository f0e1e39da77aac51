import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from recsys.errors import StackError
from recsys.local.home import StackHome
from recsys.local.postgres import PostgresServer
from recsys.local.processes import marked_processes
from recsys.local.stack import stack_state, start_stack, stop_stack
from recsys.local.state import ComponentPhase, StackPhase, StackState

_FAKE_STACK = Path(__file__).with_name("fake_stack.py")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    yield folder
    stop_stack(folder)


def _command(home: Path, scenario: str) -> list[str]:
    return [sys.executable, str(_FAKE_STACK), str(home), scenario]


def _start(home: Path, scenario: str) -> StackState:
    return start_stack(home, supervisor=_command(home, scenario))


def _running(home: Path) -> list[psutil.Process]:
    stack_id = StackHome(home).stack_id()
    return marked_processes(stack_id) if stack_id else []


def _wait(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition not met in time"
        time.sleep(0.05)


def test_stack_is_healthy_when_all_components_are_healthy_and_preparations_are_done(home: Path) -> None:
    state = _start(home, "healthy")

    assert state.phase is StackPhase.HEALTHY
    assert [(c.name, c.phase) for c in state.components] == [
        ("once", ComponentPhase.DONE),
        ("web", ComponentPhase.HEALTHY),
        ("executor", ComponentPhase.HEALTHY),
    ]
    assert "prepared" in (home / "logs" / "once.log").read_text()


def test_stack_keeps_running_after_start_returns(home: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from recsys.local.stack import start_stack; "
        "start_stack(Path(sys.argv[1]), supervisor=sys.argv[2:])"
    )
    subprocess.run([sys.executable, "-c", program, str(home), *_command(home, "healthy")], check=True)

    assert stack_state(home).phase is StackPhase.HEALTHY


def test_stop_also_ends_a_worker_that_ignores_sigterm_in_its_own_session(home: Path) -> None:
    _start(home, "healthy")
    _wait(lambda: len(_running(home)) == 3)

    state = stop_stack(home)

    assert state.phase is StackPhase.STOPPED
    assert _running(home) == []


def test_second_start_uses_the_running_stack(home: Path) -> None:
    first = _start(home, "healthy")

    second = _start(home, "healthy")

    assert second.supervisor_pid == first.supervisor_pid
    assert len(_running(home)) == 3


def test_two_simultaneous_starts_start_one_stack(home: Path) -> None:
    StackHome(home).create()
    states: list[StackState] = []
    threads = [threading.Thread(target=lambda: states.append(_start(home, "healthy"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(states) == 2
    assert states[0].supervisor_pid == states[1].supervisor_pid
    _wait(lambda: len(_running(home)) == 3)


def test_crashed_component_is_restarted(home: Path) -> None:
    before = _start(home, "healthy")
    pid = next(c.pid for c in before.components if c.name == "executor")
    _wait(lambda: len(_running(home)) == 3)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)

    _wait(lambda: stack_state(home).phase is not StackPhase.HEALTHY)
    _wait(lambda: stack_state(home).phase is StackPhase.HEALTHY)

    executor = next(c for c in stack_state(home).components if c.name == "executor")
    assert executor.restarts == 1
    assert executor.pid != pid
    # The orphaned worker of the first executor has been stopped too.
    _wait(lambda: len(_running(home)) == 3)


def test_component_that_crashes_once_while_starting_is_restarted(home: Path) -> None:
    state = _start(home, "crashes once")

    assert state.phase is StackPhase.HEALTHY
    assert next(c.restarts for c in state.components if c.name == "flaky") == 1


def test_component_that_cannot_start_fails_the_start_with_its_last_log_lines(home: Path) -> None:
    with pytest.raises(StackError, match=r"(?s)broken ended with exit code 1.*\.log.*no such module"):
        _start(home, "always crashes")

    assert _running(home) == []
    assert stack_state(home).phase is StackPhase.FAILED


def test_failed_preparation_fails_the_start(home: Path) -> None:
    with pytest.raises(StackError, match=r"(?s)once ended with exit code 1.*disk full"):
        _start(home, "preparation fails")

    assert _running(home) == []


def test_component_that_never_becomes_healthy_fails_the_start(home: Path) -> None:
    with pytest.raises(StackError, match=r"(?s)web is not healthy after 1 s.*no port"):
        _start(home, "never healthy")

    assert _running(home) == []


def test_stop_after_the_supervisor_was_killed_leaves_no_process(home: Path) -> None:
    state = _start(home, "healthy")
    _wait(lambda: len(_running(home)) == 3)
    assert state.supervisor_pid is not None
    os.kill(state.supervisor_pid, signal.SIGKILL)
    _wait(lambda: StackHome(home).supervisor_pid() is None)
    orphaned = stack_state(home)
    assert orphaned.phase is StackPhase.DEGRADED
    assert re.search(r"3 processes still run; `recsys down`", orphaned.message)

    assert stop_stack(home).phase is StackPhase.STOPPED

    assert _running(home) == []


def test_start_after_the_supervisor_was_killed_replaces_the_old_processes(home: Path) -> None:
    first = _start(home, "healthy")
    _wait(lambda: len(_running(home)) == 3)
    before = {process.pid for process in _running(home)}
    assert first.supervisor_pid is not None
    os.kill(first.supervisor_pid, signal.SIGKILL)
    _wait(lambda: StackHome(home).supervisor_pid() is None)

    second = _start(home, "healthy")

    assert second.phase is StackPhase.HEALTHY
    _wait(lambda: len(_running(home)) == 3)
    assert before.isdisjoint(process.pid for process in _running(home))


@pytest.mark.parametrize("moment", ["immediately", "after all processes started"])
def test_interrupt_while_starting_leaves_no_process(home: Path, moment: str) -> None:
    program = (
        "import sys; from pathlib import Path; from recsys.local.stack import start_stack\n"
        "print('ready', flush=True)\n"
        "start_stack(Path(sys.argv[1]), supervisor=sys.argv[2:])"
    )
    starting = subprocess.Popen(
        [sys.executable, "-c", program, str(home), *_command(home, "slow")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert starting.stdout is not None
    starting.stdout.readline()
    if moment == "after all processes started":
        _wait(lambda: len(_running(home)) == 3)
    else:
        time.sleep(0.1)
    starting.send_signal(signal.SIGINT)
    # The user presses Ctrl-C again.
    time.sleep(0.1)
    starting.send_signal(signal.SIGINT)

    assert starting.wait(timeout=30) != 0

    _wait(lambda: StackHome(home).supervisor_pid() is None)
    assert _running(home) == []
    assert stack_state(home).phase is StackPhase.STOPPED


@pytest.mark.parametrize("scenario", ["healthy", "postgres"])
def test_stack_stops_when_its_home_folder_is_removed(home: Path, scenario: str) -> None:
    state = _start(home, scenario)
    stack_id = StackHome(home).secrets().stack_id
    assert state.supervisor_pid is not None
    shutil.rmtree(home, ignore_errors=True)

    supervisor = psutil.Process(state.supervisor_pid)
    _wait(lambda: not marked_processes(stack_id), seconds=30)
    _wait(lambda: not supervisor.is_running() or supervisor.status() == psutil.STATUS_ZOMBIE)


def test_postgres_is_stopped_cleanly_and_last(home: Path) -> None:
    _start(home, "postgres")

    stop_stack(home)

    assert not PostgresServer(home / "postgres").is_running()
    assert "database system is shut down" in (home / "logs" / "postgres.log").read_text()


def test_killed_postgres_is_restarted(home: Path) -> None:
    state = _start(home, "postgres")
    pid = next(c.pid for c in state.components if c.name == "postgres")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)

    _wait(lambda: next(c for c in stack_state(home).components if c.name == "postgres").restarts == 1)
    _wait(lambda: stack_state(home).phase is StackPhase.HEALTHY)


def test_postgres_is_stopped_cleanly_after_the_supervisor_was_killed(home: Path) -> None:
    state = _start(home, "postgres")
    assert state.supervisor_pid is not None
    os.kill(state.supervisor_pid, signal.SIGKILL)

    stop_stack(home)

    assert not PostgresServer(home / "postgres").is_running()
    assert "database system is shut down" in (home / "logs" / "postgres.log").read_text()
    assert _running(home) == []


def test_stack_that_was_never_started_is_stopped(tmp_path: Path) -> None:
    assert stack_state(tmp_path / "nowhere").phase is StackPhase.STOPPED
    assert stop_stack(tmp_path / "nowhere").phase is StackPhase.STOPPED
