"""Find and stop every process of a stack, wherever it is in the process tree.

Airflow's LocalExecutor workers outlive a killed scheduler and ignore SIGTERM, tasks start child processes,
and a process may leave its group. All inherit the environment, so two variables in it identify them.
"""

import contextlib
import os
import time
from collections.abc import Callable, Collection

import psutil

STACK_VARIABLE = "RECSYS_STACK_ID"
COMPONENT_VARIABLE = "RECSYS_STACK_COMPONENT"


def marked_processes(
    stack_id: str, component: str | None = None, exclude: Collection[str] = ()
) -> list[psutil.Process]:
    """Return the running processes whose environment marks them as part of a stack, except this one.

    Parameters
    ----------
    stack_id
        Value of `RECSYS_STACK_ID`.
    component
        Only processes of this component.
    exclude
        Components whose processes are not returned.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            environment = process.environ()
            name = environment.get(COMPONENT_VARIABLE)
            wanted = name not in exclude and component in (None, name)
            if wanted and environment.get(STACK_VARIABLE) == stack_id:
                found.append(process)
    return found


def stop_processes(find: Callable[[], list[psutil.Process]], grace_seconds: float) -> int:
    """Send SIGTERM to the processes that `find` returns, then SIGKILL until it finds none.

    Parameters
    ----------
    find
        Returns the processes that are still running.
    grace_seconds
        Seconds between SIGTERM and SIGKILL.

    Returns
    -------
        Number of processes that were killed.
    """
    for process in find():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline and find():
        time.sleep(0.1)
    killed = set()
    # A process may fork between being found and being killed, so repeat until none is left.
    while remaining := find():
        for process in remaining:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                killed.add(process.pid)
        time.sleep(0.02)
    return len(killed)
