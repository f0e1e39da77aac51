"""The real Postgres, MLflow and Airflow: started by the command, used, stopped by the command."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest
import sqlalchemy as sa

from recsys.errors import StackError
from recsys.local.home import StackHome
from recsys.local.processes import marked_processes
from recsys.local.stack import stack_state, start_stack
from recsys.local.state import ComponentPhase, StackPhase
from recsys.registry.connection import mlflow_client
from recsys.settings import ENV_FILE_NAME
from tests.airflow_user import AirflowUser
from tests.e2e.conftest import Idle, Stopped
from tests.e2e.stack import Stack

COMPONENTS = ("postgres", "mlflow", "api-server", "scheduler", "dag-processor", "triggerer")


def test_up_prints_the_addresses_and_the_credentials(stack: Stack, up: str) -> None:
    state, secret = stack_state(stack.home), StackHome(stack.home).secrets()

    assert state.phase is StackPhase.HEALTHY
    assert f"{state.airflow_url}  user admin, password {secret.airflow_password}" in up
    assert f"{state.mlflow_url}  user admin, password {secret.mlflow_password}" in up
    assert "psql -h" in up


@pytest.mark.usefixtures("up")
def test_settings_and_printed_psql_command_lead_to_the_same_warehouse(stack: Stack) -> None:
    question = "select system_identifier from pg_control_system()"
    words = [*stack_state(stack.home).warehouse_dsn.split(), "-Atc", question]

    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout

    with stack.engine.connect() as connection:
        assert connection.scalar(sa.text(question)) == int(printed)
        assert connection.scalar(sa.text("select count(*) from event_types")) > 0


@pytest.mark.usefixtures("up")
def test_later_commands_find_the_secrets_and_the_choice_of_schedules(stack: Stack) -> None:
    assert len(stack.settings.require_pseudonym_key()) == 64
    assert stack.settings.schedules is False


@pytest.mark.usefixtures("up")
def test_files_with_secrets_are_for_their_owner_only(stack: Stack) -> None:
    home = StackHome(stack.home)
    for path in (home.path / "secrets.json", home.path / ENV_FILE_NAME, home.passwords_file):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.usefixtures("up")
def test_status_lists_every_component(stack: Stack) -> None:
    shown = stack.recsys("status")

    for component in COMPONENTS:
        assert component in shown


@pytest.mark.usefixtures("up")
def test_servers_listen_on_loopback_only(stack: Stack) -> None:
    processes = marked_processes(StackHome(stack.home).secrets().stack_id)
    addresses = set()
    for process in processes:
        for connection in process.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                addresses.add(connection.laddr[0])

    assert addresses == {"127.0.0.1"}


@pytest.mark.usefixtures("up")
def test_second_up_says_so(stack: Stack) -> None:
    pid = stack_state(stack.home).supervisor_pid

    again = stack.recsys("up")

    assert "already up" in again
    assert stack_state(stack.home).airflow_url in again
    assert stack_state(stack.home).supervisor_pid == pid


def test_airflow_refuses_a_wrong_password(airflow: AirflowUser) -> None:
    assert httpx.get(f"{airflow.url}/api/v2/dags", trust_env=False).status_code == 401
    with (
        AirflowUser(airflow.url, "admin", "guessed") as stranger,
        pytest.raises(StackError, match="password"),
    ):
        stranger.runs("nightly_training")


def test_pool_for_one_writer_of_models_exists(airflow: AirflowUser) -> None:
    airflow.ensure_pool("model_writer", slots=1, description="again")

    assert airflow.pool_slots("model_writer") == 1


@pytest.mark.usefixtures("up")
def test_mlflow_keeps_runs_and_proxies_artifacts(stack: Stack, tmp_path: Path) -> None:
    client = mlflow_client(stack.settings)
    assert stack.settings.mlflow_tracking_uri == stack_state(stack.home).mlflow_url

    run = client.create_run(client.create_experiment("stack"))
    client.log_text(run.info.run_id, "kept", "note.txt")

    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert Path(client.download_artifacts(run.info.run_id, "note.txt", str(tmp_path))).read_text() == "kept"
    assert [path.read_text() for path in (stack.home / "mlflow").rglob("note.txt")] == ["kept"]


def test_run_by_hand_without_a_champion_has_nothing_to_publish(idle: Idle, airflow: AirflowUser) -> None:
    run = idle.runs["publish_recommendations"]
    assert "skipped" in run.tasks.values()
    assert [found.run_id for found in airflow.runs(run.dag_id, run_type="manual")] == [run.run_id]
    assert run.queued_at is not None
    assert run.queued_at > idle.began - timedelta(seconds=5)


def test_log_of_a_task_can_be_read(idle: Idle, airflow: AirflowUser) -> None:
    run = idle.runs["publish_recommendations"]

    assert "publish" in airflow.task_log(run.dag_id, run.run_id, "publish")


def test_run_that_no_asset_has_triggered_is_not_waited_for_longer_than_asked(airflow: AirflowUser) -> None:
    with pytest.raises(StackError, match="no asset has triggered"):
        airflow.wait_for_asset_run("publish_recommendations", since=datetime.now(UTC), timeout=0)


def test_unknown_dag_is_named(airflow: AirflowUser) -> None:
    with pytest.raises(StackError, match="no_such_dag"):
        airflow.wait_for_dag("no_such_dag", timeout=0)


@pytest.mark.usefixtures("up")
def test_port_that_is_taken_is_named_with_its_holder(stack: Stack, tmp_path: Path) -> None:
    port = int(stack_state(stack.home).airflow_url.rsplit(":", 1)[1])

    with pytest.raises(StackError, match=rf"port {port} is in use by .*process \d+"):
        start_stack(tmp_path / "other", airflow_port=port)


def test_down_leaves_no_process_and_status_says_stopped(stack: Stack, stopped: Stopped) -> None:
    assert stopped.processes == []
    assert stopped.state.phase is StackPhase.STOPPED
    assert all(component.phase is ComponentPhase.STOPPED for component in stopped.state.components)
    assert stopped.status_code == 3
    assert "database system is shut down" in (stack.home / "logs" / "postgres.log").read_text()
