"""Environment variables that configure Airflow for the embedded stack."""

import json
from collections.abc import Mapping
from urllib.parse import parse_qs, unquote, urlsplit

from recsys.local.home import StackHome
from recsys.local.ports import LOOPBACK
from recsys.resources import resource_folder

CONNECTION_VARIABLE = "AIRFLOW_CONN_RECSYS_WAREHOUSE"

# Users may override these in the environment of `recsys up`.
_DEFAULTS = {
    # LocalExecutor starts this many worker processes; one machine trains one model at a time.
    "AIRFLOW__CORE__PARALLELISM": "4",
    "AIRFLOW__API__WORKERS": "1",
    "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
    "AIRFLOW__API__INSTANCE_NAME": "Recommender",
}


def airflow_environment(
    home: StackHome, port: int, database_url: str, warehouse_url: str, environment: Mapping[str, str]
) -> dict[str, str]:
    """Return the `AIRFLOW*` variables that every Airflow process of the stack needs.

    Parameters
    ----------
    home
        Home folder of the stack, with Airflow's folder and secrets.
    port
        Loopback port of the API server.
    database_url
        SQLAlchemy URL of Airflow's metadata database.
    warehouse_url
        SQLAlchemy URL of the Airflow connection `recsys_warehouse`.
    environment
        Environment of `recsys up`, which overrides a few defaults.
    """
    secret = home.secrets()
    url = f"http://{LOOPBACK}:{port}"
    ours = {
        "AIRFLOW_HOME": str(home.airflow),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__DAGS_FOLDER": str(resource_folder("dags")),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(resource_folder("plugins")),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "false",
        "AIRFLOW__CORE__FERNET_KEY": secret.airflow_fernet_key,
        "AIRFLOW__CORE__AUTH_MANAGER": (
            "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
        ),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{secret.airflow_user}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home.passwords_file),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "false",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database_url,
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__SECRET_KEY": secret.airflow_api_secret,
        "AIRFLOW__API_AUTH__JWT_SECRET": secret.airflow_jwt_secret,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home.airflow / "logs"),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(
            home.airflow / "logs" / "dag_processor"
        ),
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "false",
        CONNECTION_VARIABLE: connection_json(warehouse_url),
    }
    defaults = {name: environment.get(name, value) for name, value in _DEFAULTS.items()}
    return {**defaults, **ours}


def connection_json(url: str) -> str:
    """Convert a SQLAlchemy URL of Postgres to an Airflow connection; a socket folder becomes its host."""
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    connection = {
        "conn_type": "postgres",
        "host": options.pop("host", None) or parts.hostname,
        "port": parts.port,
        "login": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "schema": unquote(parts.path.removeprefix("/")),
        "extra": options,
    }
    return json.dumps({name: value for name, value in connection.items() if value})
