"""Find and end every process of a stack, wherever it has got to in the process tree.

Airflow's LocalExecutor workers outlive a killed scheduler and ignore SIGTERM, tasks start processes
of their own, and a process may leave its group. All inherit the environment, so a mark in it finds them.
"""

import contextlib
import os
import time
from collections.abc import Callable, Collection

import psutil

STACK_VARIABLE = "RECSYS_STACK_ID"
COMPONENT_VARIABLE = "RECSYS_STACK_COMPONENT"


def marked_processes(
    stack_id: str, component: str | None = None, spare: Collection[str] = ()
) -> list[psutil.Process]:
    """Return the live processes that carry the mark of a stack, except this one.

    Parameters
    ----------
    stack_id
        Value of `RECSYS_STACK_ID`.
    component
        Only processes of this component.
    spare
        Components whose processes are left out.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            environment = process.environ()
            name = environment.get(COMPONENT_VARIABLE)
            wanted = name not in spare and component in (None, name)
            if wanted and environment.get(STACK_VARIABLE) == stack_id:
                found.append(process)
    return found


def end_processes(find: Callable[[], list[psutil.Process]], grace_seconds: float) -> int:
    """Ask the processes that `find` returns to end, kill those that do not, until it finds none.

    Returns
    -------
        How many had to be killed.
    """
    for process in find():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline and find():
        time.sleep(0.1)
    killed = set()
    # A process may fork between being found and being killed, hence again until none is left.
    while remaining := find():
        for process in remaining:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                killed.add(process.pid)
        time.sleep(0.02)
    return len(killed)
