"""State of the stack: the supervisor writes it to a file, all commands read it."""

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel


class StackPhase(StrEnum):
    """Life-cycle phase of the whole stack."""

    STOPPED = "stopped"
    STARTING = "starting"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    STOPPING = "stopping"
    FAILED = "failed"


class ComponentPhase(StrEnum):
    """Life-cycle phase of one component; `done` is for components that run once."""

    WAITING = "waiting"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    RESTARTING = "restarting"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


class ComponentState(BaseModel):
    """State of one component."""

    name: str
    phase: ComponentPhase = ComponentPhase.WAITING
    pid: int | None = None
    address: str = ""
    restarts: int = 0
    log_file: Path
    seconds_to_healthy: float | None = None
    detail: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether the component is healthy, or done if it runs once."""
        return self.phase in (ComponentPhase.HEALTHY, ComponentPhase.DONE)


class StackState(BaseModel):
    """State of the stack: phase, components and addresses. Contains no secrets."""

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
        """Read the state file; without a file the stack is stopped."""
        try:
            return cls.model_validate_json(path.read_text())
        except FileNotFoundError:
            return cls(phase=StackPhase.STOPPED)

    def write(self, path: Path) -> None:
        """Replace the state file atomically, so that no reader sees an incomplete one."""
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(self.model_dump_json(indent=2))
        temporary.replace(path)
