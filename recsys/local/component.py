"""Description of one program of the stack for the supervisor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime


def _always(_: datetime) -> bool:
    return True


@dataclass(frozen=True)
class Component:
    """One program: how to start it, check its health and stop it.

    Attributes
    ----------
    name
        Name of the component and of its log file.
    command
        Returns the command line. The supervisor calls it before each start, so it can also prepare files.
    environment
        All environment variables of the program. The supervisor adds the variables that mark its processes.
    needs
        Names of components that must be healthy, or done, before this one starts.
    is_healthy
        Returns whether the program works; gets the time at which it was started. It may raise and may take
        seconds.
    once
        The program runs once and exits, like a migration; exit code 0 means it is done.
    stop_order
        Components with a higher number are stopped first.
    stop
        Stops the program cleanly; default: SIGTERM to its process group.
    start_seconds
        Seconds until a program that is not healthy has failed to start.
    address
        URL or path to which users connect.
    """

    name: str
    command: Callable[[], Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    is_healthy: Callable[[datetime], bool] = _always
    once: bool = False
    stop_order: int = 1
    stop: Callable[[], None] | None = None
    start_seconds: float = 240.0
    address: str = ""
