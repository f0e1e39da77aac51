"""What the stack is doing now, as the supervisor writes it down and everybody else reads it."""

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel


class StackPhase(StrEnum):
    """Where the whole stack is in its life."""

    STOPPED = "stopped"
    STARTING = "starting"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    STOPPING = "stopping"
    FAILED = "failed"


class ComponentPhase(StrEnum):
    """Where one component is in its life; `done` is for those that run once."""

    WAITING = "waiting"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    RESTARTING = "restarting"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


class ComponentState(BaseModel):
    """One component."""

    name: str
    phase: ComponentPhase = ComponentPhase.WAITING
    pid: int | None = None
    address: str = ""
    restarts: int = 0
    log_file: Path
    seconds_to_healthy: float | None = None
    detail: str = ""

    @property
    def is_well(self) -> bool:
        """Whether it does what it is for."""
        return self.phase in (ComponentPhase.HEALTHY, ComponentPhase.DONE)


class StackState(BaseModel):
    """The stack: its phase, its components and where to find them. Holds no secrets."""

    phase: StackPhase
    message: str = ""
    supervisor_pid: int | None = None
    airflow_url: str = ""
    mlflow_url: str = ""
    warehouse_dsn: str = ""
    seconds_to_healthy: float | None = None
    components: list[ComponentState] = []

    @classmethod
    def read(cls, path: Path) -> "StackState":
        """Read the state file; none yet means stopped."""
        try:
            return cls.model_validate_json(path.read_text())
        except FileNotFoundError:
            return cls(phase=StackPhase.STOPPED)

    def write(self, path: Path) -> None:
        """Replace the state file in one step, so that a reader never sees half of it."""
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(self.model_dump_json(indent=2))
        temporary.replace(path)
