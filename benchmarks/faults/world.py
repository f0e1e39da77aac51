"""What the fault run breaks: Postgres, MLflow, a small disk, and the application that writes feedback."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import psutil
import sqlalchemy as sa

from recsys.local.postgres import PostgresServer
from recsys.upkeep.erasure import request_erasure

USERS, ITEMS = 60, 40
_THEMES = ("garden", "kitchen", "travel", "music")
_DISK_BYTES = 1 << 30
_CONNECTIONS = {"pool_pre_ping": True}


class Postgres:
    """A server that can be stopped or killed, and comes back with all that was committed."""

    def __init__(self, folder: Path) -> None:
        self._server = PostgresServer(folder / "postgres")
        self._folder = folder / "postgres"
        self._server.start()
        for name in ("warehouse", "mlflow"):
            self._server.create_database(name)

    def url(self, database: str = "warehouse") -> str:
        """Return the SQLAlchemy URL of a database."""
        return self._server.url(database)

    def restart(self, *, kill: bool) -> None:
        """Stop the server, or kill its main process as a machine without power would, and start it."""
        if kill:
            main = psutil.Process(int((self._folder / "postmaster.pid").read_text().split()[0]))
            main.kill()
            main.wait()
        else:
            self._server.stop()
        self._server.start()

    def stop(self) -> None:
        """Stop the server."""
        self._server.stop()


class MLflow:
    """A tracking server that can be killed and comes back."""

    def __init__(self, folder: Path, database: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._command = [
            sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database,
            "--artifacts-destination", (folder / "mlflow").as_uri(), "--workers", "1",
            "--host", "127.0.0.1", "--port", str(self._port),
        ]  # fmt: skip
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )  # fmt: skip
        for _ in range(600):
            with suppress(URLError, OSError), urlopen(f"{self.url}/health", timeout=5):
                return
            time.sleep(0.2)
        raise RuntimeError(f"MLflow did not answer at {self.url} within two minutes")

    def restart(self) -> None:
        """Kill the server and its workers, and start it."""
        self.stop()
        self._start()

    def stop(self) -> None:
        """Kill the server and its workers."""
        with suppress(psutil.NoSuchProcess):
            for process in [*psutil.Process(self._process.pid).children(recursive=True), self._process]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self._process.wait()


class SmallDisk:
    """A file system of its own, 1 GiB in memory, for snapshots and training runs.

    Retention counts real days, so all runs of the simulated hours must fit.

    Attributes
    ----------
    mounted
        Whether this account may mount one. Otherwise the folder is an ordinary one, and is never full.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "disk"
        self.folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(self.folder)]
        self.mounted = (
            shutil.which("mount") is not None and not subprocess.run(mount, capture_output=True).returncode
        )

    @contextmanager
    def full(self) -> Iterator[None]:
        """Leave a few pages of room."""
        filler = self.folder / "filler"
        room = max(0, shutil.disk_usage(self.folder).free - 16_384) if self.mounted else 0
        try:
            with filler.open("wb") as stream:
                stream.write(bytes(room))
            yield
        finally:
            filler.unlink(missing_ok=True)

    def release(self) -> None:
        """Unmount the file system."""
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=False)


class Application:
    """Writes feedback and remembers what was committed."""

    def __init__(self, url: str, chance: np.random.Generator) -> None:
        self.url = url
        self._engine = sa.create_engine(url, **_CONNECTIONS)
        self._chance = chance
        self._written = 0
        self.committed: dict[str, str] = {}
        """User of each committed event id."""
        self.erased: dict[str, str] = {}
        """Key of each user who asked to be erased."""

    def stock(self) -> None:
        """Add the catalogue and the users."""
        items = [
            {"id": f"item-{n}", "title": f"{_THEMES[n % 4]} number {n}", "theme": _THEMES[n % 4]}
            for n in range(ITEMS)
        ]
        with self._engine.begin() as connection:
            connection.execute(
                sa.text(
                    "INSERT INTO items (item_id, title, attributes)"
                    " VALUES (:id, :title, jsonb_build_object('theme', CAST(:theme AS text)))"
                ),
                items,
            )
            connection.execute(
                sa.text("INSERT INTO users (user_id) VALUES (:id)"),
                [{"id": f"faulty-user-{n}"} for n in range(USERS)],
            )

    def write(self, now: datetime) -> None:
        """Write 60 to 120 events of the hour before `now` in several transactions; some are given up."""
        remaining = [f"faulty-user-{n}" for n in range(USERS) if f"faulty-user-{n}" not in self.erased]
        for _ in range(6):
            rows = [self._event(remaining, now) for _ in range(int(self._chance.integers(10, 21)))]
            with self._engine.connect() as connection:
                connection.execute(
                    sa.text(
                        "INSERT INTO feedback (event_id, user_id, item_id, event_type, occurred_at)"
                        " VALUES (:event_id, :user_id, :item_id, :event_type, :occurred_at)"
                    ),
                    rows,
                )
                if self._chance.random() < 0.1:
                    connection.rollback()
                    continue
                connection.commit()
            self.committed |= {row["event_id"]: row["user_id"] for row in rows}

    def _event(self, users: list[str], now: datetime) -> dict[str, object]:
        self._written += 1
        user = int(self._chance.integers(len(users)))
        taste = int(users[user].rpartition("-")[2]) % 4
        item = int(self._chance.integers(ITEMS // 4)) * 4 + taste
        unknown = self._chance.random() < 0.02
        return {
            "event_id": f"event-{self._written}",
            "user_id": users[user],
            "item_id": "an item that nobody knows" if unknown else f"item-{item}",
            "event_type": str(self._chance.choice(["view", "like", "purchase", "dislike"])),
            "occurred_at": now - timedelta(minutes=float(self._chance.uniform(0, 60))),
        }

    def ask_for_erasure(self) -> None:
        """Let one user ask to be erased."""
        candidates = [n for n in range(USERS) if f"faulty-user-{n}" not in self.erased]
        if len(candidates) < USERS // 2:
            return
        user = f"faulty-user-{int(self._chance.choice(candidates))}"
        with self._engine.connect() as connection:
            key = connection.scalar(sa.text("SELECT user_key FROM users WHERE user_id = :id"), {"id": user})
        request_erasure(self._engine, user)
        self.erased[user] = key or ""

    def set_clock(self, ahead: timedelta) -> None:
        """Let the rows to come arrive at another time, as after a jump of the database's clock."""
        seconds = int(ahead.total_seconds())
        with self._engine.begin() as connection:
            connection.exec_driver_sql(
                "ALTER TABLE feedback ALTER COLUMN received_at"
                f" SET DEFAULT clock_timestamp() + make_interval(secs => {seconds})"
            )

    @contextmanager
    def holding_a_transaction(self) -> Iterator[None]:
        """Hold a transaction open that has written, as a forgotten window of a BI tool does."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql("CREATE TEMPORARY TABLE forgotten AS SELECT 1 AS one")
            yield
            connection.rollback()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()
