"""Systems of a simulation: each a warehouse, a registry and a folder; and copies of them."""

import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from recsys.errors import ConfigurationError, ServiceUnavailableError, SimulationError
from recsys.local.postgres import PostgresServer
from recsys.pipeline.context import Context, Run, open_context
from recsys.settings import Settings
from recsys.warehouse.engine import connect, warehouse_url

_MAINTENANCE_DATABASE = "postgres"
_POSTGRES_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""The cluster is thrown away with the simulation: nothing has to survive a power cut."""

_DEFAULTS: dict[str, Any] = {
    "model": {"fine_tuning": "frozen", "dim": 32},
    "training": {"epochs": 20},
    "evaluation": {"bootstrap_resamples": 1000},
    "gate": {
        "min_evaluated_users": 10,
        "non_inferiority_margin": 0.5,
        "forgetting_margin": 1.0,
        "coverage_margin": 0.5,
        "calibration_margin": 1.0,
        "on_fail": {"better_than_popularity": "ignore"},
        "on_inconclusive": {"better_than_popularity": "ignore"},
    },
}
"""Settings that suit a small world, where a person has not set them.

A few hundred users cannot show a difference of 5 % of NDCG, and the coverage of the few dozen lists that are
evaluated is mostly chance. Nearly everybody visits every day, so hardly any guard user is left to measure
forgetting. And users click on the champion's own lists, where popular items are shown most: of these clicks
popularity predicts more than tastes do. The few ratings of these clicks are nearly all likes, so the error of
the liking head's calibration is mostly chance.
"""

_SYSTEM = {
    "pseudonym_key": "simulated users have no secrets",
    "schedules": False,
    # Nothing may lead to real data or real people.
    "snapshot_root": None,
    "work_root": None,
    "alert_webhook": None,
    # Simulated days end now, so feedback of the first day is days old when it arrives.
    "validation": {"freshness_hours": {"warn_max": None}},
    # There is nobody to answer.
    "approval": {"required_for": "none"},
}


def simulation_settings(person: Settings, explore: float | None = None) -> Settings:
    """Return the settings of simulated systems, without their home, warehouse and registry.

    Parameters
    ----------
    person
        What a person has set counts, unless it leads to a real system.
    explore
        Share of the lists that explore; None: as the person's settings say.
    """
    own = person.model_dump(exclude_unset=True)
    values = _merged(_merged(_DEFAULTS, own), _SYSTEM)
    if explore is not None:
        values = _merged(values, {"publishing": {"exploration": {"share": explore}}})
    return Settings.model_validate(values)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of both, those of `above` where both have one; sections are merged too."""
    merged = dict(below)
    for name, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(below.get(name), Mapping)
        merged[name] = _merged(below[name], value) if nested else value
    return merged


@dataclass(frozen=True)
class System:
    """A warehouse with its registry and home folder."""

    settings: Settings

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the warehouse."""
        return self.settings.require_warehouse_url()

    @contextmanager
    def context(
        self, dag_id: str, key: str, at: datetime | None = None, **params: object
    ) -> Iterator[Context]:
        """Yield the context of one run of a DAG; its clock stands still at `at`, or is the real one."""
        with open_context(Run(dag_id, f"{dag_id}/{key}", params=params), self.settings) as context:
            yield context if at is None else replace(context, clock=lambda: at)

    def changed(self, changes: Mapping[str, Mapping[str, Any]]) -> "System":
        """Return the same system with other settings, by section."""
        own = self.settings
        sections = {name: getattr(own, name).model_copy(update=values) for name, values in changes.items()}
        return System(own.model_copy(update=sections))

    @contextmanager
    def engine(self) -> Iterator[sa.Engine]:
        """Yield an engine on the warehouse."""
        engine = connect(self.url)
        try:
            yield engine
        finally:
            engine.dispose()

    def copy_registry(self, source: "System") -> None:
        """Take over the models of another system; their files stay where they are and are shared."""
        with (
            closing(sqlite3.connect(_registry(source.settings.home))) as original,
            closing(sqlite3.connect(_registry(self.settings.home))) as copy,
        ):
            original.backup(copy)


def _registry(home: Path) -> Path:
    return home / "mlflow.db"


class Systems:
    """Makes systems in one folder and on one Postgres, and removes their databases.

    Parameters
    ----------
    folder
        Folder of the systems' homes.
    postgres
        URL of a Postgres on which databases may be made.
    settings
        Settings of each system, from `simulation_settings`.
    recipe
        What events mean; None: as in a new warehouse, where every event takes its item off the lists.
    """

    def __init__(self, folder: Path, postgres: str, settings: Settings, recipe: str | None = None) -> None:
        self._folder = folder
        self._settings = settings
        self._recipe = recipe
        self._url = warehouse_url(postgres)
        self._maintenance = connect(postgres).execution_options(isolation_level="AUTOCOMMIT")
        # Several simulations may share a server.
        self._prefix = f"recsys_simulation_{uuid.uuid4().hex[:8]}"
        self._databases: list[str] = []

    def make(self, name: str) -> System:
        """Return a new system with an empty, migrated warehouse."""
        from recsys.serving.install import install_serving
        from recsys.warehouse.analytics import install_analytics
        from recsys.warehouse.migrate import upgrade_warehouse
        from recsys.warehouse.recipes import apply_recipe

        system = self._make(name, template=None)
        upgrade_warehouse(system.url)
        with system.engine() as engine:
            install_analytics(engine)
            install_serving(engine)
            if self._recipe is not None:
                apply_recipe(engine, self._recipe)
        return system

    def copy(self, original: System, name: str) -> System:
        """Return a new system with everything that another one has by now."""
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
        own = {
            "home": home,
            "warehouse_url": SecretStr(url),
            "mlflow_tracking_uri": f"sqlite:///{_registry(home)}",
        }
        return System(self._settings.model_copy(update=own))

    def remove_databases(self) -> None:
        """Drop the databases that were made."""
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
    folder: Path, settings: Settings, postgres: str | None = None, recipe: str | None = None
) -> Iterator[Systems]:
    """Yield a maker of systems, on the named Postgres or on an embedded one that stops at the end."""
    if postgres is not None:
        try:
            systems = Systems(folder, postgres, settings, recipe)
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
        yield Systems(folder, server.url(_MAINTENANCE_DATABASE), settings, recipe)
    finally:
        server.stop()
