"""Programs of the embedded stack: Postgres, MLflow and Airflow on loopback ports."""

import json
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from recsys.errors import StackError
from recsys.local import ports
from recsys.local.airflow_environment import airflow_environment
from recsys.local.component import Component
from recsys.local.home import StackHome
from recsys.local.postgres import PostgresServer, postgres_binary
from recsys.local.state import StackPhase, StackState

WAREHOUSE, AIRFLOW, MLFLOW = "recsys", "airflow", "mlflow"
USUAL_AIRFLOW_PORT, USUAL_MLFLOW_PORT = 8080, 5000
_HEALTH_TIMEOUT_SECONDS = 5.0


def real_stack(
    home: StackHome,
    environment: Mapping[str, str],
    *,
    schedules: bool,
    airflow_port: int | None = None,
    mlflow_port: int | None = None,
) -> tuple[list[Component], StackState]:
    """Prepare the home folder and return the components of the stack and its initial state.

    Parameters
    ----------
    home
        Home folder. Secrets, ports and `recsys.env` are created when missing.
    environment
        Environment variables that the programs inherit. `RECSYS_WAREHOUSE_URL` and `RECSYS_PSEUDONYM_KEY`
        replace the embedded warehouse and the generated key.
    schedules
        False: DAGs run only when a user or an asset triggers them.
    airflow_port, mlflow_port
        Required port; default: the port used last time, the usual one, or any free port.

    Raises
    ------
    StackError
        A required port is in use.
    """
    secret = home.secrets()
    home.write_airflow_passwords()
    chosen = _choose_ports(home, {AIRFLOW: airflow_port, MLFLOW: mlflow_port})
    airflow_url, mlflow_url = (f"http://{ports.LOOPBACK}:{chosen[name]}" for name in (AIRFLOW, MLFLOW))
    postgres = PostgresServer(home.postgres_data, _POSTGRES_SETTINGS, home.log_file("postgres"))
    home.write_mlflow_auth(postgres.url(MLFLOW))
    warehouse_url = environment.get("RECSYS_WAREHOUSE_URL") or postgres.url(WAREHOUSE)
    values = {
        "RECSYS_WAREHOUSE_URL": warehouse_url,
        "RECSYS_MLFLOW_TRACKING_URI": mlflow_url,
        "RECSYS_MLFLOW_USERNAME": secret.mlflow_user,
        "RECSYS_MLFLOW_PASSWORD": secret.mlflow_password,
        "RECSYS_PSEUDONYM_KEY": environment.get("RECSYS_PSEUDONYM_KEY") or secret.pseudonym_key,
        "RECSYS_SCHEDULES": str(schedules).lower(),
    }
    home.write_env_file(values)
    common = {
        **environment,
        **values,
        "RECSYS_HOME": str(home.path),
        "MLFLOW_TRACKING_URI": mlflow_url,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "PYTHONUNBUFFERED": "1",
        # Otherwise setproctitle overwrites the environment block, and the variables that mark our processes.
        "SPT_NOENV": "1",
    }
    airflow = {
        **common,
        **airflow_environment(home, chosen[AIRFLOW], postgres.url(AIRFLOW), warehouse_url, environment),
    }
    components = [
        _postgres(postgres, environment),
        _once("warehouse", ["-m", "recsys.commands.prepare", "warehouse"], common, ("postgres",)),
        _mlflow(home, postgres.url(MLFLOW), chosen[MLFLOW], mlflow_url, common),
        _once(
            "airflow-database", ["-m", "recsys.commands.prepare", "airflow-database"], airflow, ("postgres",)
        ),
        *_airflow(airflow, airflow_url),
        _once("airflow-pools", ["-m", "recsys.commands.prepare", "pools"], airflow, ("api-server",)),
    ]
    psql = f"{postgres_binary('psql')} -h {postgres.socket_dir} -U postgres {WAREHOUSE}"
    own_warehouse = warehouse_url != postgres.url(WAREHOUSE)
    state = StackState(
        phase=StackPhase.STARTING,
        airflow_url=airflow_url,
        mlflow_url=mlflow_url,
        warehouse_dsn="the one in RECSYS_WAREHOUSE_URL" if own_warehouse else psql,
    )
    return components, state


# One user on one machine: little memory, and few connections beyond those of Airflow and MLflow.
_POSTGRES_SETTINGS = {
    "shared_buffers": "128MB",
    "max_connections": "200",
    "max_wal_size": "1GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def _choose_ports(home: StackHome, required: dict[str, int | None]) -> dict[str, int]:
    usual = {AIRFLOW: USUAL_AIRFLOW_PORT, MLFLOW: USUAL_MLFLOW_PORT}
    remembered = home.remembered_ports()
    chosen: dict[str, int] = {}
    for name, port in required.items():
        if port is None:
            chosen[name] = ports.choose_port(remembered.get(name), usual[name])
        elif ports.claim(port):
            chosen[name] = port
        else:
            raise StackError(
                f"port {port} is in use by {ports.port_owner(port)}: stop it, choose another port with "
                f"--{name}-port, or omit the option to get a free port"
            )
    home.remember_ports(chosen)
    return chosen


def _postgres(server: PostgresServer, environment: Mapping[str, str]) -> Component:
    def command() -> Sequence[str]:
        server.prepare()
        return server.command()

    # Start times of the servers in which the databases were created or found.
    databases_since: set[datetime] = set()

    def is_healthy(started_at: datetime) -> bool:
        if not server.is_ready():
            return False
        if started_at not in databases_since:
            for database in (WAREHOUSE, AIRFLOW, MLFLOW):
                server.create_database(database)
            databases_since.add(started_at)
        return True

    return Component(
        name="postgres",
        command=command,
        environment=environment,
        is_healthy=is_healthy,
        stop_order=0,
        stop=server.stop,
        address=str(server.socket_dir),
    )


def _once(name: str, words: Sequence[str], environment: dict[str, str], needs: tuple[str, ...]) -> Component:
    return Component(
        name=name,
        command=lambda: [sys.executable, *words],
        environment=environment,
        needs=needs,
        once=True,
    )


def _mlflow(home: StackHome, database: str, port: int, url: str, environment: dict[str, str]) -> Component:
    secret = home.secrets()
    command = [
        *(sys.executable, "-m", "recsys.commands.serve_mlflow", "--port", str(port)),
        *("--backend-store-uri", database, "--artifacts-destination", home.mlflow_artifacts.as_uri()),
    ]
    return Component(
        name="mlflow",
        command=lambda: command,
        environment={
            **environment,
            # We do not use the MLflow features that need job runners, and these cost processes and memory.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_AUTH_CONFIG_PATH": str(home.mlflow_auth_file),
            "MLFLOW_AUTH_ADMIN_USERNAME": secret.mlflow_user,
            "MLFLOW_AUTH_ADMIN_PASSWORD": secret.mlflow_password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secret.mlflow_secret_key,
            # Refuse what MLflow's authentication has no rule for, instead of letting everybody do it.
            "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
        },
        needs=("postgres",),
        is_healthy=lambda _: _get(f"{url}/health") == b"OK",
        stop_order=2,
        address=url,
    )


def _airflow(environment: dict[str, str], url: str) -> list[Component]:
    needs = ("airflow-database",)

    def service(name: str, *options: str, is_healthy: Callable[[datetime], bool], order: int) -> Component:
        return Component(
            name=name,
            command=lambda: [sys.executable, "-m", "airflow", name, *options],
            environment=environment,
            needs=needs,
            is_healthy=is_healthy,
            stop_order=order,
            address=url if name == "api-server" else "",
        )

    def has_heartbeat(job: str) -> Callable[[datetime], bool]:
        def is_healthy(started_at: datetime) -> bool:
            found: dict[str, Any] = json.loads(_get(f"{url}/api/v2/monitor/health"))[job]
            latest = datetime.fromisoformat(found[f"latest_{job}_heartbeat"])
            # An older heartbeat is one of the previous process.
            return found["status"] == "healthy" and latest >= started_at

        return is_healthy

    # No log servers, because they would listen on all addresses: the API server reads the log files itself.
    return [
        service("api-server", is_healthy=lambda _: bool(_get(f"{url}/api/v2/version")), order=2),
        service("scheduler", "--skip-serve-logs", is_healthy=has_heartbeat("scheduler"), order=3),
        service("dag-processor", is_healthy=has_heartbeat("dag_processor"), order=3),
        service("triggerer", "--skip-serve-logs", is_healthy=has_heartbeat("triggerer"), order=3),
    ]


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_HEALTH_TIMEOUT_SECONDS) as response:  # noqa: S310 - our own server
        body: bytes = response.read()
        return body
