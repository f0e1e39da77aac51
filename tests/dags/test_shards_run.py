"""`publish_recommendations` run by Airflow: with shards, and with so few users that there are none."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.local.postgres import PostgresServer
from recsys.promotion import ledger
from recsys.registry.lineage import Lineage
from recsys.registry.registration import register_version
from recsys.registry.tracking import track_training
from recsys.settings import Settings
from recsys.training.result import TrainingResult
from recsys.warehouse.analytics import install_analytics
from tests.registry_fixtures import ITEMS

USERS = 2_100
Dag = Callable[..., dict[str, list[str]]]


@pytest.fixture
def run_dag(
    warehouse: sa.Engine,
    settings: Settings,
    postgres: PostgresServer,
    mlflow_database: None,
    make_training: Callable[..., TrainingResult],
    lineage: Lineage,
    tmp_path: Path,
) -> Dag:
    """A warehouse with a champion; returns a function that runs the DAG and returns its tasks' states."""
    install_analytics(warehouse)
    training = make_training()
    registered = register_version(
        settings,
        run_id=track_training(settings, "nightly:1", training, lineage),
        run_key="nightly:1",
        training=training,
        lineage=lineage,
    )
    with warehouse.begin() as connection:
        connection.execute(
            sa.text("insert into items (item_id, title) values (:id, :id)"), [{"id": item} for item in ITEMS]
        )
        connection.exec_driver_sql(
            "insert into users (user_id, consent)"
            f" select 'user ' || n, true from generate_series(1, {USERS}) as n"
        )
    ledger.change_champion(
        warehouse, action="promote", version=registered.version, expected_champion=None, reason="test",
        explanation="It is a test.", actor="tests",
    )  # fmt: skip
    postgres.create_database("airflow_of_shards")
    database = postgres.url("airflow_of_shards")
    environment = os.environ | {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(tmp_path / "airflow" / "logs"),
        "RECSYS_HOME": str(settings.home),
        "RECSYS_WAREHOUSE_URL": settings.require_warehouse_url(),
        "RECSYS_MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri,
        "RECSYS_PSEUDONYM_KEY": "a key that only tests use",
        "RECSYS_SCHEDULES": "false",
    }

    def airflow(*words: str, **more: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *words],
            env=environment | more, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]

    def run(**more: str) -> dict[str, list[str]]:
        airflow("dags", "test", "publish_recommendations", "--conf", '{"scope": "all"}', **more)
        engine = sa.create_engine(database)
        with engine.connect() as connection:
            states = connection.exec_driver_sql(
                "select task_id, array_agg(state order by map_index) from task_instance where run_id ="
                " (select run_id from dag_run order by id desc limit 1) group by task_id"
            ).all()
        engine.dispose()
        return dict(map(tuple, states))

    airflow("db", "migrate")
    return run


def test_airflow_maps_one_task_to_each_shard_and_skips_them_when_there_are_none(
    run_dag: Dag, warehouse: sa.Engine
) -> None:
    done = ["success"]
    assert run_dag(RECSYS_PUBLISHING__USERS_PER_SHARD="1024") == {
        "publish": done, "stage_shard": 3 * done, "swap_shards": done, "refresh_analytics": done,
    }  # fmt: skip
    with warehouse.connect() as connection:
        assert connection.exec_driver_sql("select users, scope from publications").all() == [(USERS, "all")]
        assert connection.exec_driver_sql("select state, attempt from staging.shards").all() == 3 * [
            ("staged", 1)
        ]
    assert run_dag() == {
        "publish": done, "stage_shard": ["skipped"], "swap_shards": ["skipped"], "refresh_analytics": done,
    }  # fmt: skip
    with warehouse.connect() as connection:
        assert len(connection.exec_driver_sql("select users from publications").all()) == 2
