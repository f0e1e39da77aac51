"""The folder that holds everything the embedded stack keeps: data, secrets, ports, logs, state."""

import base64
import fcntl
import json
import os
import secrets
import time
import uuid
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel

from recsys.errors import StackError
from recsys.settings import ENV_FILE_NAME


class Secrets(BaseModel):
    """Made once for a home folder and kept there."""

    stack_id: str
    airflow_user: str = "admin"
    airflow_password: str
    airflow_fernet_key: str
    airflow_jwt_secret: str
    airflow_api_secret: str
    pseudonym_key: str

    @classmethod
    def generate(cls) -> "Secrets":
        """Make new ones from the system's source of randomness."""
        return cls(
            stack_id=str(uuid.uuid4()),
            airflow_password=secrets.token_urlsafe(12),
            airflow_fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            airflow_jwt_secret=secrets.token_hex(32),
            airflow_api_secret=secrets.token_hex(32),
            pseudonym_key=secrets.token_hex(32),
        )


class StackHome:
    """Paths and small files of one home folder.

    Parameters
    ----------
    path
        The folder; `create` makes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.postgres_data = self.path / "postgres"
        self.logs = self.path / "logs"
        self.airflow = self.path / "airflow"
        self.mlflow_artifacts = self.path / "mlflow" / "artifacts"
        self.state_file = self.path / "stack.json"
        self.env_file = self.path / ENV_FILE_NAME
        self.passwords_file = self.airflow / "passwords.json"
        self._secrets_file = self.path / "secrets.json"
        self._ports_file = self.path / "ports.json"
        self._lock_file = self.path / "supervisor.lock"

    def create(self) -> None:
        """Make the folder and its sub-folders; only their owner may look inside."""
        try:
            # Root's Postgres runs as another account, which must get through to its data.
            self.path.mkdir(parents=True, exist_ok=True, mode=0o711 if os.getuid() == 0 else 0o700)
            for folder in (self.logs, self.airflow, self.mlflow_artifacts.parent, self.mlflow_artifacts):
                folder.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise StackError(
                f"cannot make the home folder {self.path}: {error}; name another one in RECSYS_HOME"
            ) from error

    def log_file(self, component: str) -> Path:
        """Return the log file of a component."""
        return self.logs / f"{component}.log"

    def secrets(self) -> Secrets:
        """Read the secrets, or make them the first time."""
        if not self._secrets_file.exists():
            _write_private(self._secrets_file, Secrets.generate().model_dump_json(indent=2))
        return Secrets.model_validate_json(self._secrets_file.read_text())

    def stack_id(self) -> str | None:
        """Return the mark of this home's processes; none when no stack was ever started here."""
        return self.secrets().stack_id if self._secrets_file.exists() else None

    def write_airflow_passwords(self) -> None:
        """Write the file that Airflow's SimpleAuthManager reads."""
        secret = self.secrets()
        _write_private(self.passwords_file, json.dumps({secret.airflow_user: secret.airflow_password}))

    def remembered_ports(self) -> dict[str, int]:
        """Return the ports used last time."""
        try:
            ports: dict[str, int] = json.loads(self._ports_file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return ports

    def remember_ports(self, ports: dict[str, int]) -> None:
        """Keep the ports for the next time, so that bookmarks stay true."""
        self._ports_file.write_text(json.dumps(ports))

    def write_env_file(self, values: dict[str, str]) -> None:
        """Set values in the `recsys.env` that later commands read; lines a person added stay."""
        kept = []
        if self.env_file.exists():
            lines = self.env_file.read_text().splitlines()
            kept = [line for line in lines if line.split("=", 1)[0].strip() not in values]
        ours = [f"{name}={_quoted(value)}" for name, value in values.items()]
        _write_private(self.env_file, "\n".join([*kept, *ours]) + "\n")

    def lock(self) -> IO[Any] | None:
        """Become the one supervisor of this home; none when there is another.

        The lock ends with the process that holds it, however it ends.
        """
        file = self._lock_file.open("a+")
        # Those who ask for the supervisor's pid hold the lock for an instant; a supervisor holds it for long.
        for _ in range(50):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                time.sleep(0.02)
            else:
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
                return file
        file.close()
        return None

    def holds(self, lock: IO[Any]) -> bool:
        """Whether a lock still counts: not when the folder was removed, or made anew, under its holder."""
        try:
            return os.path.samestat(os.fstat(lock.fileno()), self._lock_file.stat())
        except FileNotFoundError:
            return False

    def supervisor_pid(self) -> int | None:
        """Process id of the live supervisor of this home."""
        try:
            with self._lock_file.open("r") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    return int(file.read() or 0) or None
        except FileNotFoundError:
            pass
        return None


def _write_private(path: Path, text: str) -> None:
    """Replace a file in one step; nobody else may read it at any moment."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
