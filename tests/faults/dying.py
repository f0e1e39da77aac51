"""Run a stage in another process and kill it, as `kill -9` would, at a chosen point."""

import importlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

# Imports take seconds: a server process imports the stages once, and each process that dies is its fork.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.faults.stages", "recsys.validation.expectations"])


@dataclass(frozen=True)
class Point:
    """Before or after a function (`package.module:name`), a statement (given by a part of it) or COMMIT."""

    when: Literal["before", "after"]
    what: str
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.when} {self.what.rpartition(':')[2]}"


def die_in(point: Point, work: Callable[..., object], *arguments: Any) -> None:
    """Run `work(*arguments)` in another process and check that it was killed at the point."""
    process = _processes.Process(target=_run, args=(point, work, arguments))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL, f"{work.__name__} never reached {point}"


def _run(point: Point, work: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    calls = 0

    def die() -> None:
        nonlocal calls
        calls += 1
        if calls == point.nth:
            os.kill(os.getpid(), signal.SIGKILL)

    if ":" in point.what:
        _patch(point, die)
    elif point.what == "COMMIT":
        sa.event.listen(sa.Engine, "commit", lambda connection: die())
    else:

        def look(connection: object, cursor: object, statement: str, *_: object) -> None:
            if point.what in statement:
                die()

        sa.event.listen(sa.Engine, f"{point.when}_cursor_execute", look)
    work(*arguments)


def _patch(point: Point, die: Callable[[], None]) -> None:
    module, _, path = point.what.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, name)

    def dying(*arguments: Any, **options: Any) -> Any:
        if point.when == "before":
            die()
        result = original(*arguments, **options)
        if point.when == "after":
            die()
        return result

    setattr(owner, name, dying)
