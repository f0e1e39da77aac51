"""The services of docker-compose.yaml without Docker: a Redis broker and two Celery workers.

The steps build on each other: everything starts, the GPU worker is killed during a night's training, and
everything is stopped.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import psycopg2
import pytest
import sqlalchemy as sa

from recsys.local.airflow_client import AirflowClient
from recsys.warehouse.ingest import ingest_file
from recsys.warehouse.roles import ANALYST, WRITER
from recsys.warehouse.tables import promotion_ledger, recommendation_lists
from tests.e2e.compose_host import ComposeHost
from tests.e2e.stack import SETTINGS
from tests.synthetic import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

DEFAULT_WORKER, GPU_WORKER = "airflow-worker", "airflow-worker-gpu"

ENVIRONMENT = {
    **SETTINGS,
    # Only the runs that the test starts.
    "RECSYS_SCHEDULES": "false",
}
# The file asks for cuda.
GPU_WORKER_ENVIRONMENT = {"RECSYS_TRAINING__DEVICE": "cpu"}

_READ_TASKS = """
    select task_id, queue, hostname, state, try_number from {table}
    where dag_id = %s and run_id = %s order by try_number
"""


def _wait_for(condition: Callable[[], Any], what: str, seconds: float = 900.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.2)
    return found


class Night:
    """A run of nightly_training, as recorded in Airflow's database."""

    dag_id = "nightly_training"

    def __init__(self, host: ComposeHost, run_id: str) -> None:
        self.host, self.run_id = host, run_id
        self.database = psycopg2.connect(
            host=str(host.postgres.socket_dir), port=host.ports[5432], user="postgres", dbname="airflow"
        )
        self.database.autocommit = True

    def tries(self, table: str = "task_instance") -> list[dict[str, Any]]:
        with self.database.cursor() as cursor:
            cursor.execute(_READ_TASKS.format(table=table), (self.dag_id, self.run_id))
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def task(self, task_id: str) -> dict[str, Any]:
        (found,) = [row for row in self.tries() if row["task_id"] == task_id]
        return found

    def move_back(self, column: str, task_id: str, state: str) -> None:
        """Set a time of a task's first try back by an hour, instead of waiting that long."""
        with self.database.cursor() as cursor:
            cursor.execute(
                f"update task_instance set {column} = {column} - interval '1 hour' "
                "where dag_id = %s and run_id = %s and task_id = %s and state = %s and try_number = 1",
                (self.dag_id, self.run_id, task_id, state),
            )


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeHost]:
    if shutil.which("redis-server") is None:
        missing = "redis-server is not installed, the broker of this test: apt-get install redis-server"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    host = ComposeHost(tmp_path_factory.mktemp("compose"), ENVIRONMENT, {GPU_WORKER: GPU_WORKER_ENVIRONMENT})
    try:
        host.up()
        yield host
    finally:
        host.down()


@pytest.fixture(scope="module")
def airflow(host: ComposeHost) -> Iterator[AirflowClient]:
    password = host.secrets["AIRFLOW_ADMIN_PASSWORD"]
    with AirflowClient(f"http://127.0.0.1:{host.ports[8080]}", "admin", password) as client:
        yield client


@pytest.fixture(scope="module")
def warehouse(host: ComposeHost) -> sa.Engine:
    engine = sa.create_engine(host.environment(DEFAULT_WORKER)["RECSYS_WAREHOUSE_URL"])
    world = World()
    ingest_file(engine, "items", world.write_items(host.folder / "items.jsonl"))
    ingest_file(engine, "feedback", world.write_feedback(host.folder / "feedback.csv"))
    return engine


@pytest.fixture(scope="module")
def night(host: ComposeHost, airflow: AirflowClient, warehouse: sa.Engine) -> Night:
    """A night during whose training the GPU worker was killed and started again."""
    airflow.wait_for_dag(Night.dag_id)
    night = Night(host, airflow.trigger_dag(Night.dag_id))

    def training() -> bool:
        for process in host.processes(GPU_WORKER):
            with contextlib.suppress(psutil.Error):
                if "recsys.training" in process.cmdline():
                    return True
        return False

    _wait_for(training, "training on the GPU worker")
    host.kill(GPU_WORKER)
    assert host.processes(GPU_WORKER) == []
    assert not host.is_healthy(GPU_WORKER)
    host.start(GPU_WORKER)
    host.up()
    # On a slow machine Airflow may already have noticed.
    night.move_back("last_heartbeat_at", "fine_tune", state="running")
    _wait_for(lambda: night.tries("task_instance_history"), "the end of the lost try")
    night.move_back("end_date", "fine_tune", state="up_for_retry")
    run = airflow.wait_for_run(Night.dag_id, night.run_id, timeout=1200)
    assert run.state == "success", airflow.failed_logs(Night.dag_id, night.run_id)
    return night


def test_redis_requires_the_password(host: ComposeHost) -> None:
    assert "NOAUTH" in host.run("redis", "redis-cli ping")
    assert "NOAUTH" in host.run("redis", "REDISCLI_AUTH=guessed redis-cli ping")
    assert host.is_healthy("redis")


def test_each_role_may_connect_to_its_own_database_only(host: ComposeHost) -> None:
    def connect(role: str, database: str, password: str) -> None:
        psycopg2.connect(
            host="127.0.0.1", port=host.ports[5432], user=role, dbname=database, password=password
        ).close()

    roles = {
        name: host.secrets[f"{name.upper()}_DATABASE_PASSWORD"] for name in ("recsys", "airflow", "mlflow")
    }
    for role, password in roles.items():
        connect(role, role, password)
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            connect(role, role, "guessed")
        for other in set(roles) - {role}:
            with pytest.raises(psycopg2.OperationalError, match="permission denied"):
                connect(role, other, password)


def test_initialisation_grants_every_role_its_rights(host: ComposeHost, warehouse: sa.Engine) -> None:
    assert "missing" not in host.last_words("airflow-init")
    with warehouse.connect() as connection:
        for role, relation in ((WRITER, "recommendations"), (ANALYST, "analytics.feedback_by_day")):
            may_read = sa.select(sa.func.has_table_privilege(role, relation, "select"))
            assert connection.scalar(may_read), f"{role} may not read {relation}"


def test_a_night_whose_gpu_worker_is_killed_succeeds(night: Night, warehouse: sa.Engine) -> None:
    assert {row["state"] for row in night.tries()} <= {"success", "skipped"}
    with warehouse.connect() as connection:
        (decision,) = connection.execute(sa.select(promotion_ledger)).all()
    assert (decision.action, decision.model_version) == ("promote", "1"), decision.explanation


def test_the_killed_try_is_kept_and_the_next_one_ran_on_the_worker_started_again(night: Night) -> None:
    (lost,) = night.tries("task_instance_history")
    assert (lost["task_id"], lost["hostname"], lost["state"]) == ("fine_tune", GPU_WORKER, "failed")
    again = night.task("fine_tune")
    assert (again["try_number"], again["hostname"], again["state"]) == (2, GPU_WORKER, "success")


def test_every_task_ran_on_the_worker_of_its_queue(night: Night) -> None:
    worker_of = {"default": DEFAULT_WORKER, "gpu": GPU_WORKER}
    # A task that ran and skipped itself has a host name too.
    ran = [row for row in night.tries() if row["hostname"]]
    assert {row["queue"] for row in ran} == {"default", "gpu"}
    for row in ran:
        assert row["hostname"] == worker_of[row["queue"]], row


def test_the_promotion_publishes_through_the_broker(
    host: ComposeHost, airflow: AirflowClient, night: Night, warehouse: sa.Engine
) -> None:
    (asked,) = _wait_for(lambda: airflow.runs("publish_recommendations"), "a run triggered by the asset")
    run = airflow.wait_for_run("publish_recommendations", asked.run_id)
    assert run.state == "success", airflow.failed_logs("publish_recommendations", asked.run_id)
    with warehouse.connect() as connection:
        lists = connection.execute(sa.select(recommendation_lists)).all()
    assert {row.user_id for row in lists} == set(World().taste)


def test_the_log_of_a_task_is_read_by_the_api_server(airflow: AirflowClient, night: Night) -> None:
    assert "epoch" in airflow.task_log(Night.dag_id, night.run_id, "fine_tune", attempt=2)


def test_stopping_everything_leaves_no_process(host: ComposeHost, night: Night) -> None:
    host.down()

    assert host.processes() == []
    assert not host.postgres.is_running()
