"""Systems of a simulation: separate from one another, and from everything real."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.errors import SimulationError
from recsys.local.postgres import PostgresServer
from recsys.settings import Settings, load_settings
from recsys.simulation.system import simulated_systems, simulation_settings


def _databases(postgres: PostgresServer) -> set[str]:
    engine = sa.create_engine(postgres.url("postgres"))
    with engine.connect() as connection:
        return set(connection.execute(sa.text("SELECT datname FROM pg_database")).scalars())


def test_a_copy_has_what_there_was_and_goes_its_own_way(postgres: PostgresServer, tmp_path: Path) -> None:
    before = _databases(postgres)
    with simulated_systems(tmp_path, Settings(), postgres.url("postgres")) as systems:
        start = systems.make("start")
        with start.engine() as engine, engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO items (item_id) VALUES ('a')"))
        copies = [systems.copy(start, name) for name in ("one", "two")]
        with copies[0].engine() as engine, engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO items (item_id) VALUES ('b')"))
        counts = []
        for system in (start, *copies):
            with system.engine() as engine, engine.connect() as connection:
                counts.append(connection.execute(sa.text("SELECT count(*) FROM items")).scalar_one())
        assert counts == [1, 2, 1]
    assert _databases(postgres) == before


def test_no_stage_of_a_simulated_system_finds_a_real_one(
    monkeypatch: pytest.MonkeyPatch, postgres: PostgresServer, tmp_path: Path
) -> None:
    real = {
        "RECSYS_HOME": "/real/home",
        "RECSYS_WAREHOUSE_URL": "postgresql+psycopg2://real/warehouse",
        "RECSYS_MLFLOW_TRACKING_URI": "http://real:5000",
        "RECSYS_SNAPSHOT_ROOT": "s3://real/snapshots",
        "RECSYS_WORK_ROOT": "/real/runs",
        "RECSYS_ALERT_WEBHOOK": "https://real.people/alerts",
        "RECSYS_APPROVAL__REQUIRED_FOR": "all",
        "RECSYS_MODEL__DIM": "48",
        "RECSYS_PUBLISHING__EXPLORATION__SHARE": "0.7",
    }
    for name, value in real.items():
        monkeypatch.setenv(name, value)
    of_systems = simulation_settings(load_settings(), explore=0.2)
    with simulated_systems(tmp_path, of_systems, postgres.url("postgres")) as systems:
        system = systems.make("start")
        home = tmp_path / "start"
        with system.context("nightly_training", "night") as context:
            database = str(context.engine.url.database)
            assert context.run.key == "nightly_training/night"
        settings = context.settings
        assert database.startswith("recsys_simulation_")
        assert settings.require_tracking_uri() == f"sqlite:///{home}/mlflow.db"
        assert settings.require_pseudonym_key() == b"simulated users have no secrets"
        assert settings.snapshots == f"{home}/snapshots"
        assert settings.runs == home / "runs"
        assert settings.alert_webhook is None
        assert settings.approval.required_for == "none"
        assert settings.publishing.exploration.share == 0.2
        # A person's own choice of model counts, beside defaults that suit small worlds.
        assert settings.model.dim == 48
        assert settings.model.fine_tuning == "frozen"


def test_a_postgres_that_makes_no_databases_is_named(postgres: PostgresServer, tmp_path: Path) -> None:
    engine = sa.create_engine(postgres.url("postgres"))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE ROLE nobody_special LOGIN"))
    url = sa.make_url(postgres.url("postgres")).set(username="nobody_special")
    with (
        pytest.raises(SimulationError, match="permission denied to create database"),
        simulated_systems(tmp_path, Settings(), url.render_as_string(hide_password=False)) as systems,
    ):
        systems.make("start")


def test_a_postgres_that_does_not_answer_is_named_by_its_option(tmp_path: Path) -> None:
    url = "postgresql+psycopg2://postgres@localhost:1/postgres"
    with pytest.raises(SimulationError, match="--postgres cannot be used: no Postgres answers"):  # noqa: SIM117
        with simulated_systems(tmp_path, Settings(), url):
            pass
