"""Every DAG, run for real: its tasks in order, on real Postgres, MLflow and a real language model.

The steps build on each other as nights and hours do, so they share one warehouse and run in the order
in which they are written.
"""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.local.postgres import PostgresServer
from recsys.warehouse.analytics import install_analytics
from recsys.warehouse.ingest import ingest_file
from recsys.warehouse.tables import (
    feedback,
    item_vectors,
    model_evaluations,
    promotion_ledger,
    publications,
    quarantine,
    recommendation_lists,
    user_vectors,
    windows,
)
from tests.synthetic import World

REPOSITORY = Path(__file__).parents[2]


class Loop:
    """A warehouse, a registry and an Airflow of their own; DAGs run one at a time."""

    def __init__(self, postgres: PostgresServer, template: str, folder: Path) -> None:
        postgres.create_database("dag_runs", template=template)
        postgres.create_database("dag_runs_airflow")
        self.folder = folder
        self.engine = sa.create_engine(postgres.url("dag_runs"))
        install_analytics(self.engine)
        self.world = World()
        self.environment = os.environ | {
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.url("dag_runs_airflow"),
            "AIRFLOW__DAG_PROCESSOR__DAG_VERSION_INFLATION_CHECK_LEVEL": "error",
            "RECSYS_HOME": str(folder / "home"),
            "RECSYS_WAREHOUSE_URL": postgres.url("dag_runs"),
            "RECSYS_MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "RECSYS_PSEUDONYM_KEY": "a key that only tests use",
            "RECSYS_SCHEDULES": "false",
            "RECSYS_MODEL__DIM": "32",
            "RECSYS_TRAINING__EPOCHS": "8",
            "RECSYS_EVALUATION__HOLDOUT_SHARE": "0.2",
            "RECSYS_EVALUATION__BOOTSTRAP_RESAMPLES": "500",
            "RECSYS_GATE__MIN_EVALUATED_USERS": "10",
            "RECSYS_GATE__NON_INFERIORITY_MARGIN": "0.5",
            "RECSYS_PUBLISHING__K": "10",
        }
        self.airflow("db", "migrate")
        self.airflow("pools", "set", "model_writer", "1", "one writer of models at a time")

    def airflow(self, *arguments: str) -> str:
        completed = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=self.environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        output = completed.stdout + completed.stderr
        assert completed.returncode == 0, output[-8000:]
        return output

    def run(self, dag_id: str, **params: object) -> str:
        return self.airflow("dags", "test", dag_id, "--conf", json.dumps(params))

    def ingest_feedback(self, start: float, end: float) -> int:
        path = self.world.write_feedback(self.folder / "feedback.csv", start, end)
        return ingest_file(self.engine, "feedback", path).inserted

    def rows(self, table: sa.Table, *conditions: sa.ColumnElement[bool]) -> list[sa.Row]:
        with self.engine.connect() as connection:
            return list(connection.execute(sa.select(table).where(*conditions)))

    def stored_events(self, item_id: str) -> int:
        """What analysts read of an item in a stored view."""
        with self.engine.connect() as connection:
            asked = sa.text("SELECT events FROM analytics.item_popularity WHERE item_id = :item_id")
            return connection.execute(asked, {"item_id": item_id}).scalar_one()

    def champion(self) -> str:
        changes = self.rows(promotion_ledger, promotion_ledger.c.champion_sequence.is_not(None))
        return max(changes, key=lambda row: row.champion_sequence).model_version


@pytest.fixture(scope="module")
def loop(postgres: PostgresServer, warehouse_template: str, tmp_path_factory: pytest.TempPathFactory) -> Loop:
    return Loop(postgres, warehouse_template, tmp_path_factory.mktemp("loop"))


def test_a_night_without_feedback_is_skipped_with_the_reason(loop: Loop) -> None:
    output = loop.run("nightly_training")
    assert "skipped" in output.lower()
    assert loop.rows(promotion_ledger) == []


def test_an_hour_without_champion_is_skipped_and_leaves_the_feedback(loop: Loop) -> None:
    output = loop.run("hourly_micro_update")
    assert "run nightly_training first" in output
    assert loop.rows(windows, windows.c.consumer == "hourly_micro_update") == []


def test_a_night_trains_evaluates_registers_and_promotes_a_first_champion(loop: Loop) -> None:
    ingest_file(loop.engine, "items", loop.world.write_items(loop.folder / "items.jsonl"))
    arrived = loop.ingest_feedback(0.0, 0.85)
    with loop.engine.begin() as connection:
        connection.execute(
            sa.insert(feedback),
            {
                "event_id": "broken",
                "user_id": "u000",
                "item_id": "no such item",
                "event_type": "rating",
                "value": 4,
                "occurred_at": datetime.now(UTC),
            },
        )
    loop.run("nightly_training")

    (window,) = loop.rows(windows, windows.c.arrived > 0)
    assert (window.arrived, window.valid, window.quarantined) == (arrived + 1, arrived, 1)
    (held,) = loop.rows(quarantine)
    assert held.reasons == ["unknown_item"]
    (decision,) = loop.rows(promotion_ledger)
    assert (decision.action, decision.model_version, decision.previous_champion) == ("promote", "1", None)
    scorers = {row.scorer for row in loop.rows(model_evaluations)}
    assert {"candidate", "popularity", "collaborative_filtering"} <= scorers


def test_publishing_gives_every_user_new_available_items(loop: Loop) -> None:
    loop.run("publish_recommendations")
    lists = loop.rows(recommendation_lists)
    consumed = {(row.user_id, row.item_id) for row in loop.rows(feedback)}
    assert {row.user_id for row in lists} == set(loop.world.taste)
    assert all((row.user_id, item) not in consumed for row in lists for item in row.item_ids)
    for table in (recommendation_lists, user_vectors, item_vectors, publications):
        assert {row.model_version for row in loop.rows(table)} == {"1"}


def test_an_hour_updates_the_champion_with_the_fresh_feedback(loop: Loop) -> None:
    loop.ingest_feedback(0.85, 1.0)
    loop.run("hourly_micro_update")
    (window,) = loop.rows(windows, windows.c.consumer == "hourly_micro_update")
    assert window.valid == window.arrived > 0
    decision = max(loop.rows(promotion_ledger), key=lambda row: row.ledger_id)
    assert decision.model_version == "2"
    assert decision.action == "promote", decision.explanation
    assert decision.previous_champion == "1"
    loop.run("publish_recommendations", scope="affected")
    assert loop.champion() == "2"


def test_the_same_hour_again_learns_nothing_twice(loop: Loop) -> None:
    before = len(loop.rows(promotion_ledger))
    loop.run("hourly_micro_update")
    assert len(loop.rows(promotion_ledger)) == before


def test_an_hour_with_too_little_to_learn_from_still_refreshes_who_reacted(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(loop.environment, "RECSYS_MICRO_UPDATE__MIN_FRESH_EVENTS", "1000000")
    (seen,) = loop.rows(recommendation_lists, recommendation_lists.c.user_id == "u000")
    with loop.engine.begin() as connection:
        connection.execute(
            sa.insert(feedback),
            {
                "event_id": "one reaction",
                "user_id": "u000",
                "item_id": seen.item_ids[0],
                "event_type": "like",
                "occurred_at": datetime.now(UTC),
            },
        )
    decisions = len(loop.rows(promotion_ledger))
    events = loop.stored_events(seen.item_ids[0])
    loop.run("hourly_micro_update")

    assert len(loop.rows(promotion_ledger)) == decisions
    (refreshed,) = loop.rows(recommendation_lists, recommendation_lists.c.user_id == "u000")
    assert seen.item_ids[0] not in refreshed.item_ids
    assert refreshed.model_version == loop.champion()
    assert loop.stored_events(seen.item_ids[0]) == events + 1


def test_rolling_back_restores_version_and_recommendations(loop: Loop) -> None:
    loop.run("roll_back_model", version=None, reason="a test of the way back")
    assert loop.champion() == "1"
    loop.run("publish_recommendations")
    for table in (recommendation_lists, user_vectors, item_vectors):
        assert {row.model_version for row in loop.rows(table)} == {"1"}
    last = max(loop.rows(promotion_ledger), key=lambda row: row.ledger_id)
    assert (last.action, last.explanation) == ("roll_back", "a test of the way back")


def test_housekeeping_finds_everything_in_order(loop: Loop) -> None:
    loop.run("warehouse_housekeeping")
    for window in loop.rows(windows, windows.c.arrived > 0):
        parts = window.valid + window.quarantined + window.duplicates + window.erased
        assert parts == window.arrived
