"""The login with which each part of a deployment reaches Postgres, and its rights, on a real server."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.local.ports import LOOPBACK, any_free_port
from recsys.local.postgres import PostgresServer, postgres_binary
from recsys.warehouse.roles import PAGE, PIPELINE, WRITER
from tests.compose_file import REPOSITORY, interpolate, load_compose_file
from tests.kubernetes_files import create_secrets, load_values, pods

_ENVIRONMENT_FILE = (REPOSITORY / ".env.example").read_text()
PASSWORDS = {
    name: f"a password of its own for {name}".replace(" ", "-")
    for name in re.findall(r"^(\w*(?:PASSWORD|SECRET|KEY)\w*)=", _ENVIRONMENT_FILE, flags=re.MULTILINE)
}
OWNER = "recsys"

# Part of the deployment -> the only role that its login is a member of; None: the owner of the tables.
COMPOSE = {
    "airflow-init": None,
    "airflow-api-server": PAGE,
    "airflow-worker": PIPELINE,
    "airflow-worker-gpu": PIPELINE,
    "serving": WRITER,
}
KUBERNETES = {
    "migrate": None,
    "api-server": PAGE,
    "task-default": PIPELINE,
    "task-gpu": PIPELINE,
    "serving": WRITER,
}
_READ_LOGIN = sa.text(
    """
    SELECT rolname AS name,
        rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls AS powerful,
        ARRAY(SELECT roleid::regrole::text FROM pg_auth_members WHERE member = pg_roles.oid) AS member_of,
        (SELECT count(*) FROM pg_shdepend WHERE refobjid = pg_roles.oid AND deptype = 'o') AS owned
    FROM pg_roles WHERE rolname = current_user
    """
)


@dataclass(frozen=True)
class Deployed:
    """A server on which the deployment has created its databases and logins, with a migrated warehouse."""

    port: int
    secrets: dict[str, dict[str, str]]

    def compose_urls(self, variable: str) -> dict[str, sa.URL]:
        """Return the URLs in a variable of docker-compose.yaml, by service."""
        found = {
            service: definition.get("environment", {}).get(variable)
            for service, definition in load_compose_file()["services"].items()
        }
        return {service: self._here(interpolate(url, PASSWORDS)) for service, url in found.items() if url}

    def kubernetes_urls(self) -> dict[str, sa.URL]:
        """Return the URLs of the warehouse of the files in kubernetes/, by pod."""
        name = "RECSYS_WAREHOUSE_URL"
        references = {pod: found.secret_variables.get(name) for pod, found in pods().items()}
        for entry in load_values()["apiServer"]["env"]:
            if entry["name"] == name:
                reference = entry["valueFrom"]["secretKeyRef"]
                references["api-server"] = (reference["name"], reference["key"])
        return {pod: self._here(self.secrets[r[0]][r[1]]) for pod, r in references.items() if r is not None}

    def _here(self, url: str) -> sa.URL:
        return sa.make_url(url).set(host=LOOPBACK, port=self.port)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("deployed")
    # As in the Postgres image: only connections through the socket need no password.
    rules = folder / "pg_hba.conf"
    rules.write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    port = any_free_port()
    server = PostgresServer(
        folder / "postgres",
        {"listen_addresses": LOOPBACK, "port": str(port), "hba_file": str(rules), "fsync": "off"},
        folder / "postgres.log",
    )
    server.start()
    try:
        programs = Path(postgres_binary("psql")).parent
        environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PGHOST": str(server.socket_dir),
            "PGPORT": str(port),
            "POSTGRES_USER": "postgres",
            **PASSWORDS,
        }
        script = REPOSITORY / "docker" / "postgres" / "create-databases.sh"
        subprocess.run(["bash", script], env=environment, check=True, stdout=subprocess.PIPE)
        made = Deployed(port, create_secrets(folder, PASSWORDS, host=LOOPBACK, port=port))
        _migrate(made.kubernetes_urls()["migrate"], folder)
        yield made
    finally:
        server.stop()


def _migrate(url: sa.URL, folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RECSYS_")}
    environment["RECSYS_WAREHOUSE_URL"] = url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "recsys.commands.main", *pods()["migrate"].container["args"][1:]]
    subprocess.run(command, env=environment, cwd=folder, check=True)


def _urls(deployed: Deployed, deployment: str) -> dict[str, sa.URL]:
    if deployment == "compose":
        return deployed.compose_urls("RECSYS_WAREHOUSE_URL")
    return deployed.kubernetes_urls()


def test_exactly_these_parts_know_a_login_of_the_warehouse(deployed: Deployed) -> None:
    assert set(_urls(deployed, "compose")) == set(COMPOSE)
    assert set(_urls(deployed, "kubernetes")) == set(KUBERNETES)


@pytest.mark.parametrize(
    ("deployment", "part", "role"),
    [
        (deployment, part, role)
        for deployment, roles in (("compose", COMPOSE), ("kubernetes", KUBERNETES))
        for part, role in roles.items()
    ],
)
def test_login_is_a_member_of_its_role_only_and_owns_nothing(
    deployed: Deployed, deployment: str, part: str, role: str | None
) -> None:
    engine = sa.create_engine(_urls(deployed, deployment)[part])
    try:
        with engine.connect() as connection:
            login = connection.execute(_READ_LOGIN).one()
    finally:
        engine.dispose()

    assert not login.powerful
    if role is None:
        assert login.name == OWNER
        assert login.owned > 0
    else:
        assert login.name != OWNER
        assert login.member_of == [role]
        assert login.owned == 0


@pytest.mark.parametrize(
    ("pod", "statement", "allowed"),
    [
        ("api-server", "SELECT count(*) FROM analytics.champion_history", True),
        ("api-server", "SELECT count(*) FROM users", False),
        ("api-server", "SELECT count(*) FROM feedback", False),
        ("serving", "SELECT count(*) FROM serving.trending(k => 1)", True),
        ("serving", "SELECT count(*) FROM promotion_ledger", False),
        ("task-gpu", "SELECT count(*) FROM feedback", True),
        ("task-gpu", "DELETE FROM promotion_ledger", False),
        ("task-gpu", "DROP TABLE feedback", False),
        ("task-gpu", "CREATE TABLE mine (id int)", False),
    ],
)
def test_login_may_do_what_its_part_does_and_no_more(
    deployed: Deployed, pod: str, statement: str, allowed: bool
) -> None:
    engine = sa.create_engine(deployed.kubernetes_urls()[pod])
    try:
        with engine.connect() as connection:
            if allowed:
                connection.execute(sa.text(statement))
            else:
                with pytest.raises(sa.exc.ProgrammingError, match=r"permission denied|must be owner"):
                    connection.execute(sa.text(statement))
    finally:
        engine.dispose()


@pytest.mark.parametrize("database", ["airflow", "mlflow"])
def test_logins_of_the_warehouse_reach_no_other_database(deployed: Deployed, database: str) -> None:
    for pod, url in deployed.kubernetes_urls().items():
        engine = sa.create_engine(url.set(database=database))
        with pytest.raises(sa.exc.OperationalError, match="permission denied for database"):
            engine.connect()
        engine.dispose()
        assert pod


@pytest.mark.parametrize(
    ("secret", "key", "database"),
    [("airflow-metadata", "connection", "airflow"), ("mlflow-server", "backend-store-uri", "mlflow")],
)
def test_airflow_and_mlflow_reach_their_own_database_only(
    deployed: Deployed, secret: str, key: str, database: str
) -> None:
    url = sa.make_url(deployed.secrets[secret][key])
    assert url.database == database
    engine = sa.create_engine(url)
    engine.connect().close()
    engine.dispose()
    elsewhere = sa.create_engine(url.set(database="recsys"))
    with pytest.raises(sa.exc.OperationalError, match="permission denied for database"):
        elsewhere.connect()
    elsewhere.dispose()
