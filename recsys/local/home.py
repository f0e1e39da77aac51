"""Home folder of the embedded stack: data, secrets, ports, logs, state."""

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

DEMO_DATA = "demo-data"
"""Name of the folder of the demo's feedback, which may be the first in a home folder."""


def keep_private() -> None:
    """Make files and folders that this process and its children create readable by their owner only."""
    os.umask(0o077)


def create_reachable(folder: Path) -> None:
    """Create a folder and its missing parents, private; as root, other accounts may pass through them."""
    for path in (*reversed(folder.parents), folder):
        if not path.exists():
            path.mkdir(mode=0o700, exist_ok=True)
            path.chmod(_folder_mode())


def _folder_mode() -> int:
    # As root, Postgres runs under another account, which must be able to reach its data folder.
    return 0o711 if os.getuid() == 0 else 0o700


class Secrets(BaseModel):
    """Secrets that are generated once for a home folder and stored in it."""

    stack_id: str
    airflow_user: str = "admin"
    airflow_password: str
    airflow_fernet_key: str
    airflow_jwt_secret: str
    airflow_api_secret: str
    mlflow_user: str = "admin"
    mlflow_password: str
    mlflow_secret_key: str
    pseudonym_key: str

    @classmethod
    def generate(cls) -> "Secrets":
        """Generate new secrets from the system's random source."""
        return cls(
            stack_id=str(uuid.uuid4()),
            airflow_password=secrets.token_urlsafe(12),
            airflow_fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            airflow_jwt_secret=secrets.token_hex(32),
            airflow_api_secret=secrets.token_hex(32),
            mlflow_password=secrets.token_urlsafe(12),
            mlflow_secret_key=secrets.token_hex(32),
            pseudonym_key=secrets.token_hex(32),
        )


class StackHome:
    """Paths and small files of one home folder.

    Parameters
    ----------
    path
        The folder; `create` creates it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.postgres_data = self.path / "postgres"
        self.logs = self.path / "logs"
        self.airflow = self.path / "airflow"
        self.mlflow_artifacts = self.path / "mlflow" / "artifacts"
        self.mlflow_auth_file = self.path / "mlflow" / "basic_auth.ini"
        self.state_file = self.path / "stack.json"
        self.env_file = self.path / ENV_FILE_NAME
        self.passwords_file = self.airflow / "passwords.json"
        self._secrets_file = self.path / "secrets.json"
        self._ports_file = self.path / "ports.json"
        self._lock_file = self.path / "supervisor.lock"

    def create(self) -> None:
        """Create the folder and its sub-folders, readable by their owner only.

        A home folder that an earlier release left open to others is closed.
        """
        try:
            create_reachable(self.path)
            if self._is_ours():
                self.path.chmod(_folder_mode())
                self._close_to_others()
            for folder in (self.logs, self.airflow, self.mlflow_artifacts.parent, self.mlflow_artifacts):
                folder.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise StackError(
                f"cannot create the home folder {self.path}: {error}; set RECSYS_HOME to another folder"
            ) from error

    def _is_ours(self) -> bool:
        """Whether the folder holds nothing but a home: its permissions may be changed."""
        names = {entry.name for entry in self.path.iterdir()}
        known = self._secrets_file.name in names or names <= {DEMO_DATA}
        return known and self.path.stat().st_uid == os.getuid()

    def _close_to_others(self) -> None:
        for entry in self.path.iterdir():
            found = entry.lstat()
            if not entry.is_symlink() and found.st_uid == os.getuid() and found.st_mode & 0o077:
                entry.chmod(found.st_mode & 0o700)

    def log_file(self, component: str) -> Path:
        """Return the log file of a component."""
        return self.logs / f"{component}.log"

    def secrets(self) -> Secrets:
        """Read the secrets; generate the missing ones, which are all the first time."""
        stored: dict[str, str] = {}
        if self._secrets_file.exists():
            stored = json.loads(self._secrets_file.read_text())
        found = Secrets.model_validate(Secrets.generate().model_dump() | stored)
        if found.model_dump() != stored:
            _write_private(self._secrets_file, found.model_dump_json(indent=2))
        return found

    def stack_id(self) -> str | None:
        """Return the id that marks the processes of this stack; None when no stack was ever started here."""
        return self.secrets().stack_id if self._secrets_file.exists() else None

    def write_airflow_passwords(self) -> None:
        """Write the file that Airflow's SimpleAuthManager reads."""
        secret = self.secrets()
        _write_private(self.passwords_file, json.dumps({secret.airflow_user: secret.airflow_password}))

    def write_mlflow_auth(self, database_url: str) -> None:
        """Write the file that tells MLflow's authentication where it keeps users and their permissions."""
        _write_private(
            self.mlflow_auth_file,
            "[mlflow]\n"
            # Users that the administrator adds may look at everything and change nothing.
            "default_permission = READ\n"
            # ConfigParser treats % as the start of an interpolation.
            f"database_uri = {database_url.replace('%', '%%')}\n"
            # Hashing the password at every request would make requests several times slower.
            "auth_cache_ttl_seconds = 60\n",
        )

    def remembered_ports(self) -> dict[str, int]:
        """Return the ports used last time."""
        try:
            ports: dict[str, int] = json.loads(self._ports_file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return ports

    def remember_ports(self, ports: dict[str, int]) -> None:
        """Store the ports, so that bookmarks still work after a restart."""
        self._ports_file.write_text(json.dumps(ports))

    def write_env_file(self, values: dict[str, str]) -> None:
        """Set values in `recsys.env`, which later commands read; keep lines that users added."""
        kept = []
        if self.env_file.exists():
            lines = self.env_file.read_text().splitlines()
            kept = [line for line in lines if line.split("=", 1)[0].strip() not in values]
        ours = [f"{name}={_quoted(value)}" for name, value in values.items()]
        _write_private(self.env_file, "\n".join([*kept, *ours]) + "\n")

    def lock(self) -> IO[Any] | None:
        """Acquire the supervisor lock of this home folder; return None when another supervisor holds it.

        The lock is released when the process that holds it exits, even by SIGKILL.
        """
        file = self._lock_file.open("a+")
        # Reading the supervisor's pid also takes the lock, for an instant: retry for a second.
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

    def is_current(self, lock: IO[Any]) -> bool:
        """Return whether the lock file still exists: False when the folder was removed or created again."""
        try:
            return os.path.samestat(os.fstat(lock.fileno()), self._lock_file.stat())
        except FileNotFoundError:
            return False

    def supervisor_pid(self) -> int | None:
        """Return the process id of the running supervisor of this home folder; None without one."""
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
    """Replace a file atomically; it is never readable by other users."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
