"""The embedded stack in a temporary home folder, and the `recsys` command on it, with a small world."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from recsys.local.airflow_client import DagRun
from recsys.local.airflow_environment import airflow_environment
from recsys.local.components import AIRFLOW
from recsys.local.home import StackHome
from recsys.local.postgres import PostgresServer
from recsys.settings import ENV_FILE_NAME, Settings, load_settings
from recsys.warehouse.tables import promotion_ledger
from tests.airflow_user import AirflowUser
from tests.e2e.leaks import COMMENT, PERSON
from tests.synthetic import World

PATIENCE = 900.0
"""Seconds until a test gives up on Airflow: many, because a busy machine is slow but not broken."""

SETTINGS = {
    "RECSYS_MODEL__DIM": "32",
    "RECSYS_TRAINING__EPOCHS": "8",
    "RECSYS_TRAINING__THREADS": "1",
    "RECSYS_EVALUATION__HOLDOUT_SHARE": "0.2",
    "RECSYS_EVALUATION__BOOTSTRAP_RESAMPLES": "500",
    "RECSYS_GATE__MIN_EVALUATED_USERS": "10",
    "RECSYS_GATE__NON_INFERIORITY_MARGIN": "0.5",
    "RECSYS_PUBLISHING__K": "10",
}
"""A model that trains in seconds, and a gate for a world of sixty users."""

WEBHOOK = "http://127.0.0.1:9/a-webhook-that-only-tests-know"
"""Nobody listens there; the address is a secret."""

_LOCAL = "airflow.dag_processing.bundles.local.LocalDagBundle"
_BUNDLES = [
    {"name": "dags-folder", "classpath": _LOCAL, "kwargs": {}},
    {"name": "tests", "classpath": _LOCAL, "kwargs": {"path": str(Path(__file__).parent / "dags")}},
]
"""The product's DAGs, and those that only tests run."""


@dataclass(frozen=True)
class Warehouse:
    """The rows of the warehouse at one moment, by table and view."""

    tables: dict[str, list[dict[str, Any]]]
    views: dict[str, list[dict[str, Any]]]


class Stack:
    """A home folder and what the `recsys` command starts in it.

    Parameters
    ----------
    folder
        Gets the home folder and the files of the world, laid out as MovieLens' CSV releases are.
    """

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.data = folder / "movielens"
        self.comments = folder / "comments.csv"
        self.world = World()
        _write_movielens(self.world, self.data)
        _write_comments(self.world, self.comments)
        self.printed: list[str] = []
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "RECSYS"))
        }
        self.environment = inherited | SETTINGS
        self.environment |= {"RECSYS_HOME": str(self.home), "COLUMNS": "120"}
        self.environment |= {"RECSYS_ALERT_WEBHOOK": WEBHOOK}
        self.environment |= {
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(_BUNDLES),
            # The files do not change: reading them all every half minute would take a third of a core.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the `recsys` command, whatever its exit code."""
        done = subprocess.run(
            [sys.executable, "-m", "recsys.commands.main", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.printed += [done.stdout, done.stderr]
        return done

    def recsys(self, *words: str) -> str:
        """Run the `recsys` command and return what it prints."""
        done = self.run(*words)
        assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
        return done.stdout

    def demo(self) -> tuple[str, dict[str, Any]]:
        """Run the demo and return what it prints, and its report."""
        output = self.recsys("demo", "--data", str(self.data))
        return output, json.loads((self.home / "demo-report.json").read_text())

    @cached_property
    def settings(self) -> Settings:
        """The settings that the stack has written into its home folder."""
        return load_settings(self.home)

    @contextmanager
    def changed_settings(self, line: str) -> Iterator[None]:
        """Add a line to the settings in the home folder, which every task reads when it starts."""
        file = self.home / ENV_FILE_NAME
        before = file.read_text()
        file.write_text(f"{before}{line}\n")
        try:
            yield
        finally:
            file.write_text(before)

    @cached_property
    def engine(self) -> sa.Engine:
        return sa.create_engine(self.settings.require_warehouse_url())

    @cached_property
    def airflow(self) -> AirflowUser:
        return AirflowUser.for_home(self.home)

    def close(self) -> None:
        """Close the connections to the stack."""
        if "engine" in self.__dict__:
            self.engine.dispose()
        if "airflow" in self.__dict__:
            self.airflow.close()

    def start_run(self, dag_id: str, **params: object) -> str:
        """Start a run of a DAG by hand and return its id."""
        self.airflow.wait_for_dag(dag_id, timeout=PATIENCE)
        return self.airflow.trigger_dag(dag_id, params)

    def finish_run(self, dag_id: str, run_id: str) -> DagRun:
        """Wait for the end of a run, which must be a success."""
        run = self.airflow.wait_for_run(dag_id, run_id, timeout=PATIENCE)
        assert run.state == "success", self.airflow.failed_logs(dag_id, run_id)
        return run

    def run_dag(self, dag_id: str, **params: object) -> DagRun:
        """Run a DAG by hand, to its end."""
        return self.finish_run(dag_id, self.start_run(dag_id, **params))

    def log_file(self, dag_id: str, run_id: str, task_id: str) -> Path:
        """Return the log of a task's first attempt, with the fields that the UI shows beside each message."""
        logs = self.home / "airflow" / "logs"
        return logs / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}" / "attempt=1.log"

    def dags_test(self, dag_id: str) -> None:
        """Run a DAG in one process with `airflow dags test`, which cannot have schedules (deadlines)."""
        stack, server = StackHome(self.home), PostgresServer(StackHome(self.home).postgres_data)
        port = int(self.airflow.url.rpartition(":")[2])
        warehouse_url = self.settings.require_warehouse_url()
        airflow = airflow_environment(stack, port, server.url(AIRFLOW), warehouse_url, self.environment)
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "dags", "test", dag_id],
            env=self.environment | airflow | {"RECSYS_SCHEDULES": "false"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]

    def rows(self, table: sa.Table, *conditions: sa.ColumnElement[bool]) -> list[sa.Row]:
        with self.engine.connect() as connection:
            return list(connection.execute(sa.select(table).where(*conditions)))

    def read(self, query: str) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.exec_driver_sql(query).mappings()]

    def champion(self) -> str:
        changes = self.rows(promotion_ledger, promotion_ledger.c.champion_sequence.is_not(None))
        return str(max(changes, key=lambda row: row.champion_sequence).model_version)

    def processes(self) -> list[str]:
        """Return the command lines of all processes that were started with this home folder."""
        found = []
        for process in psutil.process_iter(["pid", "cmdline"]):
            try:
                if process.environ().get("RECSYS_HOME") == str(self.home):
                    found.append(" ".join(process.info["cmdline"]))
            except psutil.Error:
                continue
        return found


def _write_movielens(world: World, folder: Path) -> None:
    """Write the world in the layout of MovieLens' CSV releases."""
    folder.mkdir()
    numbers = {item["item_id"]: number for number, item in enumerate(world.items, start=1)}
    with (folder / "movies.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["movieId", "title", "genres"])
        for item in world.items:
            writer.writerow(
                [numbers[item["item_id"]], f"{item['title']} (1999)", item["attributes"]["genre"]]
            )
        # A catalogue has films that hardly anybody has seen.
        rarely_seen, unseen = len(numbers) + 1, len(numbers) + 2
        writer.writerow([rarely_seen, "The Rarely Seen (1999)", "crime"])
        writer.writerow([unseen, "Unseen (1999)", "space"])
    with (folder / "ratings.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["userId", "movieId", "rating", "timestamp"])
        for event in world.events:
            moment = int(datetime.fromisoformat(event["occurred_at"]).timestamp())
            writer.writerow([name_of(event["user_id"]), numbers[event["item_id"]], event["value"], moment])
        writer.writerow([name_of("u000"), rarely_seen, 4, moment])


def _write_comments(world: World, path: Path) -> None:
    """Write comments of a third of the users, on items that they have rated."""
    numbers = {item["item_id"]: number for number, item in enumerate(world.items, start=1)}
    rated = [event for event in world.events if int(event["user_id"][1:]) % 3 == 0][:60]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["event_id", "user_id", "item_id", "event_type", "comment", "occurred_at"])
        for number, event in enumerate(rated):
            user, item = name_of(event["user_id"]), numbers[event["item_id"]]
            comment = f"As good as {COMMENT} {number}" if event["value"] >= 4 else f"{COMMENT} {number}, sour"
            later = datetime.fromisoformat(event["occurred_at"]) + timedelta(minutes=1)
            writer.writerow([f"{PERSON}-event-{number}", user, item, "comment", comment, later.isoformat()])


def name_of(user_id: str) -> str:
    """Return the id that the files give a user of the world."""
    return f"{PERSON}-{user_id}"
