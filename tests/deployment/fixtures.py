"""The databases and logins of a deployment on a real Postgres."""

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
from tests.deployment.compose import REPOSITORY, interpolate, load_compose_file
from tests.deployment.kubernetes import create_secrets, load_values, pods

_ENVIRONMENT_FILE = (REPOSITORY / ".env.example").read_text()
PASSWORDS = {
    name: f"a password of its own for {name}".replace(" ", "-")
    for name in re.findall(r"^(\w*(?:PASSWORD|SECRET|KEY)\w*)=", _ENVIRONMENT_FILE, flags=re.MULTILINE)
}


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
