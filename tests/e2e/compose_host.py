"""Run the services of docker-compose.yaml as plain processes, without Docker.

Commands, environments, health checks and dependencies come from the file. Addresses, ports, folders and host
names, which each container has to itself, are replaced. Postgres is the embedded one.
"""

import base64
import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from recsys.local.ports import LOOPBACK, any_free_port
from recsys.local.postgres import PostgresServer, postgres_binary
from recsys.local.processes import COMPONENT_VARIABLE, STACK_VARIABLE, marked_processes, stop_processes
from recsys.resources import resource_folder
from tests.deployment.compose import REPOSITORY, dockerfile_environment, interpolate, load_compose_file

# Ports inside the containers, including the scheduler's health endpoint.
_PORTS = (5000, 5432, 6379, 8080, 8974)
_HOSTS = ("airflow-api-server", "mlflow", "postgres", "redis")
_ADDRESS = re.compile(rf"(?:\b(?:{'|'.join(_HOSTS)}):)?\b({'|'.join(map(str, _PORTS))})\b")
# Folders that the images create. Volumes are mounted over some of them.
_FOLDERS = ("opt/airflow/auth", "opt/airflow/logs", "var/lib/recsys", "var/lib/mlflow", "data")
_PATH = re.compile(r"(?<![\w.])(?:/opt/airflow|/var/lib)(?:/[\w.-]+)*")
_CODE = re.compile(
    r"/usr/local/lib/python[\d.]+/site-packages/recsys/(?P<folder>dags|plugins)\b"
    r"|/usr/local/bin/(?P<script>initialise|serve-mlflow)\b"
)
_HOST_NAMES = Path(__file__).with_name("container_hostname")
_NOT_INHERITED = ("AIRFLOW", "COVERAGE", "MLFLOW", "PG", "RECSYS")
_START_SECONDS = 1200.0
_GRACE_SECONDS = 20.0
# Health checks run this many times as often as the file says.
_HEALTH_CHECK_SPEED_UP = 6
_HEALTH_CHECK_SECONDS = 300.0


@dataclass
class _Service:
    name: str
    definition: dict[str, Any]
    state: str = "waiting"
    process: subprocess.Popen[bytes] | None = None
    check: subprocess.Popen[bytes] | None = None
    next_check: float = 0.0
    log: Path = field(default_factory=Path)

    @property
    def check_seconds(self) -> float:
        return int(self.definition["healthcheck"]["interval"].removesuffix("s")) / _HEALTH_CHECK_SPEED_UP

    @property
    def runs_once(self) -> bool:
        return self.definition.get("restart") == "no"

    def satisfies(self, condition: str) -> bool:
        needed = {"service_completed_successfully": "done", "service_healthy": "healthy"}
        return self.state == needed[condition]


class ComposeHost:
    """The services on loopback ports, with generated secrets.

    Parameters
    ----------
    folder
        Holds the volumes, and the logs in `logs`.
    environment
        Additional variables of every service.
    service_environment
        Additional variables by service.
    """

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str],
        service_environment: dict[str, dict[str, str]] | None = None,
    ) -> None:
        self.folder = folder
        self.ports = {port: any_free_port() for port in _PORTS}
        self.secrets = _make_secrets()
        self.mark = str(uuid.uuid4())
        self._environment = environment
        self._service_environment = service_environment or {}
        self._services = {
            name: _Service(name, definition, log=folder / "logs" / f"{name}.log")
            for name, definition in load_compose_file()["services"].items()
        }
        (folder / "logs").mkdir(parents=True)
        for service in self._services.values():
            self._make_file_system(service)
        (folder / "pg_hba.conf").write_text(
            # As in the Postgres image: only connections through the socket need no password.
            "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        self.postgres = PostgresServer(
            folder / "postgres",
            {
                **dict(word.split("=", 1) for word in self._services["postgres"].definition["command"][2::2]),
                "listen_addresses": LOOPBACK,
                "port": str(self.ports[5432]),
                "hba_file": str(folder / "pg_hba.conf"),
                "max_connections": "200",
                "fsync": "off",
            },
            folder / "logs" / "postgres.log",
        )

    def root(self, service: str) -> Path:
        """Return the folder used as a service's file system."""
        return self.folder / "containers" / service

    def here(self, service: str, text: str) -> str:
        """Replace a container's addresses and paths by those on this machine."""
        text = interpolate(text, self.secrets)
        text = _ADDRESS.sub(self._address, text).replace("0.0.0.0", LOOPBACK)
        # Resolve links: a folder on a shared volume then has one path for all services, as in containers.
        text = _PATH.sub(lambda path: str(Path(f"{self.root(service)}{path[0]}").resolve()), text)
        text = _CODE.sub(_code_path, text)
        # The image sets the port of Redis.
        text = text.replace("redis-cli", f"redis-cli -p {self.ports[6379]}")
        return text.replace("redis-server", f"redis-server --bind {LOOPBACK} --port {self.ports[6379]}")

    def environment(self, service: str) -> dict[str, str]:
        """Return all environment variables of a service."""
        definition = self._services[service].definition
        inherited = {n: v for n, v in os.environ.items() if not n.startswith(_NOT_INHERITED)}
        programs = [str(Path(sys.executable).parent), str(postgres_binary("psql").parent), os.environ["PATH"]]
        return {
            **inherited,
            **{name: self.here(service, value) for name, value in dockerfile_environment().items()},
            "PATH": os.pathsep.join(programs),
            "PYTHONDONTWRITEBYTECODE": "",  # images contain the bytecode that pip compiled
            "PGPORT": str(self.ports[5432]),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(self.ports[8974]),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(any_free_port()),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(any_free_port()),
            **{
                name: self.here(service, str(value))
                for name, value in definition.get("environment", {}).items()
            },
            **self._environment,
            **self._service_environment.get(service, {}),
            "HOSTNAME": service,
            "PYTHONPATH": str(_HOST_NAMES),
            # Otherwise a process title is written over the environment, and with it over the mark.
            "SPT_NOENV": "1",
            STACK_VARIABLE: self.mark,
            COMPONENT_VARIABLE: service,
        }

    def up(self) -> None:
        """Start every service once what it depends on is well; return when all are.

        Raises
        ------
        AssertionError
            When a service ends or its health check still fails after minutes, with its last words.
        """
        deadline = time.monotonic() + _START_SECONDS
        while not all(service.state in ("healthy", "done") for service in self._services.values()):
            for service in self._services.values():
                self._step(service)
            late = [name for name, s in self._services.items() if s.state not in ("healthy", "done")]
            assert time.monotonic() < deadline, "\n".join(self.last_words(name) for name in late)
            time.sleep(0.1)

    def start(self, name: str) -> None:
        """Start one service; `up` waits until it is healthy."""
        service = self._services[name]
        service.state = "starting"
        if not service.runs_once:
            service.next_check = time.monotonic() + service.check_seconds
        if name == "postgres":
            self._start_postgres()
            return
        words = [self.here(name, word) for word in service.definition["command"]]
        with service.log.open("ab") as log:
            service.process = self._popen(service, words, log)

    def is_healthy(self, name: str) -> bool:
        """Run the health check of a service once."""
        check = self._begin_check(self._services[name])
        return check.wait(_HEALTH_CHECK_SECONDS) == 0

    def kill(self, name: str) -> None:
        """Kill all processes of a service, as `kill -9` of a container would."""
        service = self._services[name]
        while processes := self.processes(name):
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.02)
        if service.process is not None:
            service.process.wait()
        service.state, service.process = "killed", None

    def processes(self, name: str | None = None) -> list[psutil.Process]:
        """Return the live processes of a service, or of all."""
        return marked_processes(self.mark, name)

    def down(self) -> None:
        """Stop everything: SIGTERM to each service's group, then SIGKILL, Postgres last."""
        running = [service.process for service in self._services.values() if service.process is not None]
        for process in running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < deadline and any(process.poll() is None for process in running):
            time.sleep(0.1)
        stop_processes(lambda: marked_processes(self.mark), grace_seconds=0)
        for process in running:
            process.wait()
        self.postgres.stop()

    def last_words(self, name: str, lines: int = 40) -> str:
        """Return the end of a service's log."""
        log = self._services[name].log
        text = log.read_text(errors="replace") if log.exists() else "(no log)"
        return f"--- {name}:\n" + "\n".join(text.splitlines()[-lines:])

    def run(self, name: str, script: str) -> str:
        """Run a shell script in a service's environment, as `docker compose exec` does; return its output."""
        done = subprocess.run(
            ["sh", "-c", self.here(name, script)],
            env=self.environment(name),
            cwd=self.root(name),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_HEALTH_CHECK_SECONDS,
        )
        return done.stdout

    def _make_file_system(self, service: _Service) -> None:
        root = self.root(service.name)
        for path in _FOLDERS:
            (root / path).mkdir(parents=True)
        for volume in service.definition.get("volumes", []):
            source, mounted_at, *_ = volume.split(":")
            if not source.startswith("."):
                shared = self.folder / "volumes" / source
                shared.mkdir(parents=True, exist_ok=True)
                place = root / mounted_at.lstrip("/")
                if place.exists():
                    place.rmdir()
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(shared)

    def _step(self, service: _Service) -> None:
        if service.state == "waiting":
            needs = service.definition.get("depends_on", {}).items()
            if all(self._services[other].satisfies(how["condition"]) for other, how in needs):
                self.start(service.name)
        elif service.state == "starting":
            code = None if service.process is None else service.process.poll()
            if service.runs_once and code == 0:
                service.state = "done"
            assert code is None or (service.runs_once and code == 0), self.last_words(service.name)
            if not service.runs_once:
                self._look_at_health(service)

    def _look_at_health(self, service: _Service) -> None:
        if service.check is None:
            if time.monotonic() >= service.next_check:
                service.check = self._begin_check(service)
        elif (code := service.check.poll()) is not None:
            service.check, service.next_check = None, time.monotonic() + service.check_seconds
            if code == 0:
                service.state = "healthy"

    def _begin_check(self, service: _Service) -> subprocess.Popen[bytes]:
        kind, *words = service.definition["healthcheck"]["test"]
        words = [self.here(service.name, word) for word in words]
        if kind == "CMD-SHELL":
            words = ["sh", "-c", *words]
        with service.log.with_suffix(".health.log").open("ab") as log:
            return self._popen(service, words, log)

    def _popen(self, service: _Service, words: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        environment = self.environment(service.name)
        program = shutil.which(words[0], path=environment["PATH"])
        assert program is not None, f"{words[0]} is not installed"
        return subprocess.Popen(
            [program, *words[1:]],
            env=environment,
            cwd=self.root(service.name) / "data",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def _start_postgres(self) -> None:
        self.postgres.start()
        environment = self.environment("postgres") | {"PGHOST": str(self.postgres.socket_dir)}
        script = REPOSITORY / "docker" / "postgres" / "create-databases.sh"
        made = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr

    def _address(self, found: re.Match[str]) -> str:
        port = str(self.ports[int(found[1])])
        return port if found[0] == found[1] else f"{LOOPBACK}:{port}"


def _code_path(found: re.Match[str]) -> str:
    """Return the path in this checkout of a file that the images contain."""
    if found["folder"]:
        return str(resource_folder(found["folder"]))
    return str(REPOSITORY / "docker" / f"{found['script']}.sh")


def _make_secrets() -> dict[str, str]:
    """Generate the secrets that .env.example asks for."""
    names = [
        line.partition("=")[0]
        for line in (REPOSITORY / ".env.example").read_text().splitlines()
        if "=" in line and not line.startswith("#")
    ]
    made = {name: secrets.token_hex(32) for name in names if re.search("PASSWORD|SECRET|KEY", name)}
    made["AIRFLOW_FERNET_KEY"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return made
