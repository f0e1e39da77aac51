"""Real services for the tests: one Postgres cluster per worker, a fresh migrated database per test."""

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from xdist.scheduler import LoadScopeScheduling

from recsys.local.postgres import PostgresServer
from recsys.settings import Settings
from recsys.warehouse.migrate import upgrade_warehouse

pytest_plugins = ["tests.deployment.fixtures", "tests.registry_fixtures"]

_TEMPLATE = "warehouse_template"
_names = (f"test_{number}" for number in itertools.count())
# Folders whose tests share a stack or a trained model, which is made once.
_KEPT_TOGETHER = ("tests/e2e", "tests/training", "tests/model")


def pytest_configure() -> None:
    """Keep the settings of the user, and of a demo's home folder, out of the tests."""
    # The models are tiny, and every worker has a core: more threads only wait for each other.
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in [name for name in os.environ if name.startswith("RECSYS_")]:
        del os.environ[name]
    os.environ["RECSYS_HOME"] = str(Path(tempfile.gettempdir()) / "recsys-tests-have-no-home")


class _ByFile(LoadScopeScheduling):
    """Give each worker whole files, or whole folders whose tests share something expensive."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return next((folder for folder in _KEPT_TOGETHER if path.startswith(f"{folder}/")), path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _ByFile:
    return _ByFile(config, log)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A running Postgres cluster without durability, removed at the end."""
    server = PostgresServer(
        tmp_path_factory.mktemp("postgres") / "data",
        settings={
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            # An ANALYZE in any database of the cluster is an open transaction, so rows just written would
            # wait for the next window.
            "autovacuum": "off",
        },
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def warehouse_template(postgres: PostgresServer) -> str:
    """Name of a migrated, empty database that tests copy."""
    postgres.create_database(_TEMPLATE)
    upgrade_warehouse(postgres.url(_TEMPLATE))
    return _TEMPLATE


@pytest.fixture
def warehouse_url(postgres: PostgresServer, warehouse_template: str) -> str:
    """URL of a fresh, migrated warehouse."""
    name = next(_names)
    postgres.create_database(name, template=warehouse_template)
    return postgres.url(name)


@pytest.fixture
def warehouse(warehouse_url: str) -> Iterator[sa.Engine]:
    """Engine on a fresh, migrated warehouse."""
    engine = sa.create_engine(warehouse_url)
    try:
        yield engine
    finally:
        engine.dispose()


@pytest.fixture
def settings(tmp_path: Path, warehouse_url: str) -> Settings:
    """Settings of a small system with its own warehouse, folders and key."""
    return Settings(
        home=tmp_path / "home",
        warehouse_url=warehouse_url,
        mlflow_tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
        pseudonym_key="a key that only tests use",
    )
