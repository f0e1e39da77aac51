"""What the supervisor needs to know about one program of the stack."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime


def _always(_: datetime) -> bool:
    return True


@dataclass(frozen=True)
class Component:
    """One program: how to start it, how to know that it is well, how to end it.

    Attributes
    ----------
    name
        Also the name of its log file.
    command
        Returns the command line; called before each start, so that it can prepare what the program needs.
    environment
        All its environment variables; the supervisor adds the stack's mark.
    needs
        Names of components that must be healthy, or done, before this one starts.
    is_healthy
        Whether the program, started at the given moment, does its job; may raise, may take seconds.
    once
        It runs to its end once, and that is its job.
    stop_order
        Components with a higher number are ended first.
    stop
        Ends the program cleanly; default: SIGTERM to its group.
    start_seconds
        How long it may take until it is healthy.
    address
        What people connect to.
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
