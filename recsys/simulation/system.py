"""Systems that exist for a simulation only: warehouse, registry and folders of their own, and copies of them.

A stage reads its settings from the environment, so a system is made current by setting that. What would
lead to a real warehouse, a real registry or a real person is overridden or taken away.
"""

import gc
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from recsys.errors import ConfigurationError, ServiceUnavailableError, SimulationError
from recsys.local.postgres import PostgresServer
from recsys.warehouse.engine import connect, warehouse_url

_MAINTENANCE_DATABASE = "postgres"
_POSTGRES_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""The cluster is thrown away with the simulation: nothing has to survive a power cut."""

DEFAULTS = {
    "RECSYS_MODEL__FINE_TUNING": "frozen",
    "RECSYS_MODEL__DIM": "32",
    "RECSYS_TRAINING__EPOCHS": "20",
    "RECSYS_EVALUATION__BOOTSTRAP_RESAMPLES": "1000",
    "RECSYS_GATE__MIN_EVALUATED_USERS": "10",
    "RECSYS_GATE__NON_INFERIORITY_MARGIN": "0.5",
    "RECSYS_GATE__FORGETTING_MARGIN": "1.0",
    "RECSYS_GATE__COVERAGE_MARGIN": "0.5",
    "RECSYS_GATE__ON_FAIL": '{"better_than_popularity": "ignore"}',
    "RECSYS_GATE__ON_INCONCLUSIVE": '{"better_than_popularity": "ignore"}',
}
"""Settings that suit a small world; the environment wins.

A few hundred users cannot show 5 % of NDCG, and the lists of some dozens that are evaluated cover a catalogue
more or less by chance. Nearly everybody comes every day, so that hardly a guard user is left to tell what was
forgotten. And what they click are the champion's own lists, in which what is shown most is clicked most: of
these clicks popularity tells more than of tastes.
"""

_NOT_SIMULATED = ("RECSYS_SNAPSHOT_ROOT", "RECSYS_WORK_ROOT", "RECSYS_ALERT_WEBHOOK")


@dataclass(frozen=True)
class System:
    """One warehouse with its registry and home folder.

    Attributes
    ----------
    home
        Folder of snapshots, training runs and the registry.
    url
        SQLAlchemy URL of the warehouse.
    explore
        Share of the lists that are drawn; None: as the person's settings say.
    """

    home: Path
    url: str
    explore: float | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What leads the stages here, over defaults and the person's own settings."""
        own = {name: value for name, value in os.environ.items() if name in DEFAULTS}
        if self.explore is not None:
            own["RECSYS_PUBLISHING__EXPLORATION__SHARE"] = str(self.explore)
        return {
            **DEFAULTS,
            **own,
            "RECSYS_HOME": str(self.home),
            "RECSYS_WAREHOUSE_URL": self.url,
            "RECSYS_MLFLOW_TRACKING_URI": f"sqlite:///{self._registry}",
            "RECSYS_PSEUDONYM_KEY": "users that are simulated have no secrets",
            "RECSYS_SCHEDULES": "false",
            # Simulated days end now, so feedback of the first is days old when it arrives.
            "RECSYS_VALIDATION__FRESHNESS_HOURS__WARN_MAX": "inf",
            # Nobody is there to answer.
            "RECSYS_APPROVAL__REQUIRED_FOR": "none",
        }

    @property
    def _registry(self) -> Path:
        return self.home / "mlflow.db"

    @contextmanager
    def current(self) -> Iterator[sa.Engine]:
        """Let stages work here, and yield an engine on the warehouse."""
        changed = self.environment
        before = {name: os.environ.get(name) for name in (*changed, *_NOT_SIMULATED)}
        for name in _NOT_SIMULATED:
            os.environ.pop(name, None)
        os.environ.update(changed)
        engine = connect(self.url)
        try:
            yield engine
        finally:
            engine.dispose()
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def copy_registry(self, source: "System") -> None:
        """Take over the models of another system; their files stay where they are and are shared."""
        with (
            closing(sqlite3.connect(source._registry)) as original,
            closing(sqlite3.connect(self._registry)) as copy,
        ):
            original.backup(copy)


class Systems:
    """Makes systems in one folder and on one Postgres, and removes their databases.

    Parameters
    ----------
    folder
        Of the homes.
    postgres
        URL of a Postgres on which databases may be made.
    explore
        Of each system.
    """

    def __init__(self, folder: Path, postgres: str, explore: float | None = None) -> None:
        self._folder = folder
        self._explore = explore
        self._url = warehouse_url(postgres)
        self._maintenance = connect(postgres).execution_options(isolation_level="AUTOCOMMIT")
        # Several simulations may share a server.
        self._prefix = f"recsys_simulation_{uuid.uuid4().hex[:8]}"
        self._databases: list[str] = []

    def make(self, name: str) -> System:
        """Return a new system with an empty, migrated warehouse."""
        from recsys.warehouse.analytics import install_analytics
        from recsys.warehouse.migrate import upgrade_warehouse

        system = self._make(name, template=None)
        upgrade_warehouse(system.url)
        with system.current() as engine:
            install_analytics(engine)
        return system

    def copy(self, original: System, name: str) -> System:
        """Return a new system with everything that another one has by now."""
        # Engines of stages that are done close their connections when they are collected.
        gc.collect()
        system = self._make(name, template=sa.make_url(original.url).database)
        system.copy_registry(original)
        return system

    def _make(self, name: str, template: str | None) -> System:
        database = f"{self._prefix}_{len(self._databases)}"
        home = (self._folder / name).resolve()
        home.mkdir(parents=True, exist_ok=True)
        try:
            with self._maintenance.connect() as connection:
                if template is not None:
                    self._end_sessions(connection, template)
                connection.exec_driver_sql(f"CREATE DATABASE {database} TEMPLATE {template or 'template1'}")
        except sa.exc.DBAPIError as error:
            raise SimulationError(
                f"the Postgres at {self._url.render_as_string(hide_password=True)} makes no database for a "
                f"simulation: {error.orig}; name an account that may, or leave --postgres out"
            ) from error
        self._databases.append(database)
        url = self._url.set(database=database).render_as_string(hide_password=False)
        return System(home, url, self._explore)

    def remove_databases(self) -> None:
        """Drop the databases that were made."""
        gc.collect()
        with self._maintenance.connect() as connection:
            for database in self._databases:
                with suppress(sa.exc.DBAPIError):
                    connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        self._maintenance.dispose()

    def _end_sessions(self, connection: sa.Connection, database: str) -> None:
        connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :database"),
            {"database": database},
        )


@contextmanager
def simulated_systems(
    folder: Path, postgres: str | None = None, explore: float | None = None
) -> Iterator[Systems]:
    """Yield what makes systems, on the named Postgres or on one of their own that ends with them."""
    if postgres is not None:
        try:
            systems = Systems(folder, postgres, explore)
        except (ConfigurationError, ServiceUnavailableError) as error:
            raise SimulationError(f"--postgres cannot be used: {error}") from error
        try:
            yield systems
        finally:
            systems.remove_databases()
        return
    server = PostgresServer(folder / "postgres", _POSTGRES_SETTINGS)
    server.start()
    try:
        yield Systems(folder, server.url(_MAINTENANCE_DATABASE), explore)
    finally:
        gc.collect()
        server.stop()
