"""The real Postgres, MLflow and Airflow: started by `recsys up`, used, stopped by `recsys down`."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest
import sqlalchemy as sa

from recsys.errors import StackError
from recsys.local.airflow_client import DagRun
from recsys.local.home import StackHome
from recsys.local.processes import marked_processes
from recsys.local.stack import stack_state, start_stack, stop_stack
from recsys.local.state import ComponentPhase, StackPhase, StackState
from recsys.promotion import ledger
from recsys.registry.connection import mlflow_client
from recsys.settings import ENV_FILE_NAME, Settings
from tests.airflow_user import AirflowUser

pytestmark = pytest.mark.e2e

_BUNDLES = "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"
_PATIENCE = 900.0
"""Seconds until a test gives up on Airflow: long, because a slow machine is not a failure."""


def _dag_bundles() -> list[dict[str, object]]:
    """Return the DAG bundles: the DAGs of the product and those of the tests."""
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    return [
        {"name": "dags-folder", "classpath": local, "kwargs": {}},
        {"name": "tests", "classpath": local, "kwargs": {"path": str(Path(__file__).parent / "dags")}},
    ]


def _recsys(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "RECSYS"))
    }
    return subprocess.run(
        [sys.executable, "-m", "recsys.commands.main", *words],
        env={**environment, "RECSYS_HOME": str(home), _BUNDLES: json.dumps(_dag_bundles())},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Home folder of a running stack, and the output of `recsys up`."""
    home = tmp_path_factory.mktemp("stack") / "home"
    try:
        started = _recsys(home, "up", "--no-schedules")
        assert started.returncode == 0, started.stdout + started.stderr
        yield home, started.stdout
    finally:
        stop_stack(home)


@pytest.fixture(scope="module")
def airflow(up: tuple[Path, str]) -> Iterator[AirflowUser]:
    with AirflowUser.for_home(up[0]) as client:
        yield client


def test_up_prints_the_addresses_and_the_credentials(up: tuple[Path, str]) -> None:
    home, printed = up
    state, secret = stack_state(home), StackHome(home).secrets()

    assert state.phase is StackPhase.HEALTHY
    assert f"{state.airflow_url}  user admin, password {secret.airflow_password}" in printed
    assert state.mlflow_url in printed
    assert "psql -h" in printed


def test_printed_psql_command_works(up: tuple[Path, str]) -> None:
    words = [*stack_state(up[0]).warehouse_dsn.split(), "-Atc", "select count(*) from event_types"]

    found = subprocess.run(words, capture_output=True, text=True, check=True)

    assert int(found.stdout) > 0


def test_later_commands_find_the_stack(up: tuple[Path, str]) -> None:
    home, _ = up
    settings = Settings(_env_file=home / ENV_FILE_NAME, home=home)  # type: ignore[call-arg]

    with sa.create_engine(settings.require_warehouse_url()).connect() as connection:
        assert connection.execute(sa.text("select count(*) from feedback")).scalar() == 0
    assert len(settings.require_pseudonym_key()) == 64
    assert settings.schedules is False


def test_files_with_secrets_are_for_their_owner_only(up: tuple[Path, str]) -> None:
    home, _ = up
    for path in (home / "secrets.json", home / ENV_FILE_NAME, StackHome(home).passwords_file):
        assert path.stat().st_mode & 0o077 == 0, path


def test_status_lists_every_component(up: tuple[Path, str]) -> None:
    shown = _recsys(up[0], "status")

    assert shown.returncode == 0
    for component in ("postgres", "mlflow", "api-server", "scheduler", "dag-processor", "triggerer"):
        assert component in shown.stdout


def test_servers_listen_on_loopback_only(up: tuple[Path, str]) -> None:
    processes = marked_processes(StackHome(up[0]).secrets().stack_id)
    addresses = set()
    for process in processes:
        for connection in process.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                addresses.add(connection.laddr[0])

    assert addresses == {"127.0.0.1"}


def test_second_up_says_so(up: tuple[Path, str]) -> None:
    home, _ = up
    pid = stack_state(home).supervisor_pid

    again = _recsys(home, "up")

    assert again.returncode == 0
    assert "already up" in again.stdout
    assert stack_state(home).airflow_url in again.stdout
    assert stack_state(home).supervisor_pid == pid


def test_airflow_refuses_who_does_not_know_the_password(up: tuple[Path, str]) -> None:
    url = stack_state(up[0]).airflow_url

    assert httpx.get(f"{url}/api/v2/dags", trust_env=False).status_code == 401
    with AirflowUser(url, "admin", "guessed") as stranger, pytest.raises(StackError, match="password"):
        stranger.runs("nightly_training")


def test_pool_for_one_writer_of_models_exists(airflow: AirflowUser) -> None:
    airflow.ensure_pool("model_writer", slots=1, description="again")

    assert airflow.pool_slots("model_writer") == 1


def test_mlflow_keeps_runs_and_proxies_artifacts(up: tuple[Path, str], tmp_path: Path) -> None:
    home, _ = up
    program = """
import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("stack")
with mlflow.start_run() as run:
    mlflow.log_text("kept", "note.txt")
assert run.info.artifact_uri.startswith("mlflow-artifacts:/"), run.info.artifact_uri
print(mlflow.artifacts.load_text(run.info.artifact_uri + "/note.txt"))
mlflow.MlflowClient().create_registered_model("stack")
"""
    words = [sys.executable, "-c", program, stack_state(home).mlflow_url]

    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "kept" in done.stdout
    assert [path.read_text() for path in (home / "mlflow").rglob("note.txt")] == ["kept"]


def test_run_by_hand_goes_through_the_scheduler_and_ends(airflow: AirflowUser) -> None:
    seen: list[str] = []
    airflow.wait_for_dag("publish_recommendations", timeout=_PATIENCE)
    airflow.unpause("publish_recommendations")
    began = datetime.now(UTC) - timedelta(seconds=5)

    run_id = airflow.trigger_dag("publish_recommendations", {"scope": "all"})
    run = airflow.wait_for_run(
        "publish_recommendations", run_id, timeout=_PATIENCE, on_progress=lambda run: seen.append(run.state)
    )

    # No model has been trained, so the run has nothing to publish and skips.
    assert run.state in ("success", "failed")
    assert seen[-1] == run.state
    assert "skipped" in run.tasks.values(), airflow.failed_logs("publish_recommendations", run_id)
    assert [found.run_id for found in airflow.runs("publish_recommendations")] == [run_id]
    assert run.queued_at is not None
    assert run.queued_at > began
    with pytest.raises(StackError, match="no asset has triggered"):
        airflow.wait_for_asset_run("publish_recommendations", since=began, timeout=0)


@pytest.fixture(scope="module")
def versions(up: tuple[Path, str]) -> sa.Engine:
    """Register versions "1" to "3" without files, which promotion never reads; return the ledger engine."""
    settings = Settings(_env_file=up[0] / ENV_FILE_NAME, home=up[0])  # type: ignore[call-arg]
    client = mlflow_client(settings)
    client.create_registered_model(settings.registered_model)
    run = client.create_run("0").info
    for number in range(3):
        tags = {"recsys.checkpoint_digest": str(number)}
        source = f"{run.artifact_uri}/{number}"
        client.create_model_version(settings.registered_model, source, run_id=run.run_id, tags=tags)
    return sa.create_engine(settings.require_warehouse_url())


def _answer(airflow: AirflowUser, dag_id: str, run_id: str, option: str) -> DagRun:
    """Answer every question of a run until it ends.

    When an answer arrives within a second or two, before the scheduler knows that the worker has exited,
    Airflow 3.3 treats the task as dead, and its next try asks again (apache/airflow#72716).
    """

    def answer_if_asked(run: DagRun) -> None:
        if run.tasks.get("approve") == "awaiting_input":
            airflow.answer(dag_id, run_id, "approve", option)

    return airflow.wait_for_run(dag_id, run_id, timeout=_PATIENCE, on_progress=answer_if_asked)


@pytest.mark.parametrize(
    ("version", "opponent", "option", "outcome"),
    [
        ("1", None, "Approve", ("promote", "approved_by_person")),
        ("2", "1", "Reject", ("reject", "rejected_by_person")),
    ],
)
def test_person_decides_in_the_ui_and_the_ledger_says_who_and_when(
    airflow: AirflowUser,
    versions: sa.Engine,
    version: str,
    opponent: str | None,
    option: str,
    outcome: tuple[str, str],
) -> None:
    dag_id = "approval_in_time"
    airflow.wait_for_dag(dag_id, timeout=_PATIENCE)
    run_id = airflow.trigger_dag(dag_id, {"version": version, "opponent": opponent})
    asked = airflow.question(dag_id, run_id, "approve", timeout=_PATIENCE)
    assert asked["subject"].startswith(f"Make version {version} champion")
    assert "| enough users | yes | 50 |" in asked["body"]
    assert len(ledger.history(versions)) == (0 if opponent is None else 1)

    run = _answer(airflow, dag_id, run_id, option)

    assert run.state == "success", airflow.failed_logs(dag_id, run_id)
    entry = ledger.history(versions)[0]
    assert (entry.action, entry.reason) == outcome
    assert entry.model_version == version
    assert entry.actor == f"admin ({dag_id}/{run_id})"
    told = re.search(r"by admin at (\S+)\. ", entry.explanation)
    assert told is not None, entry.explanation
    answered_at = datetime.fromisoformat(told.group(1))
    assert datetime.fromisoformat(asked["created_at"]) <= answered_at <= entry.decided_at
    assert entry.checks[-1]["name"] == "approval"
    assert run.tasks["promote"] == ("success" if option == "Approve" else "skipped")


def test_question_without_an_answer_in_time_is_held(airflow: AirflowUser, versions: sa.Engine) -> None:
    dag_id = "approval_too_late"
    airflow.wait_for_dag(dag_id, timeout=_PATIENCE)
    run_id = airflow.trigger_dag(dag_id, {"version": "3", "opponent": "1"})

    run = airflow.wait_for_run(dag_id, run_id, timeout=_PATIENCE)

    assert run.state == "success", airflow.failed_logs(dag_id, run_id)
    entry = ledger.history(versions)[0]
    assert (entry.action, entry.reason) == ("hold", "approval_timed_out")
    assert entry.actor == f"{dag_id}/{run_id}"
    current = ledger.champion(versions)
    assert current is not None
    assert current.model_version == "1"


def test_run_whose_gate_decides_alone_asks_nobody(airflow: AirflowUser, versions: sa.Engine) -> None:
    dag_id = "approval_in_time"
    run_id = airflow.trigger_dag(dag_id, {"version": "3", "opponent": "1", "action": "promote"})

    run = airflow.wait_for_run(dag_id, run_id, timeout=_PATIENCE)

    assert run.tasks == {"gate": "success", "approve": "skipped", "promote": "success"}
    entry = ledger.history(versions)[0]
    assert (entry.action, entry.model_version) == ("promote", "3")


def test_log_of_a_task_can_be_read(airflow: AirflowUser) -> None:
    (run,) = airflow.runs("publish_recommendations", run_type="manual")

    assert "publish" in airflow.task_log(run.dag_id, run.run_id, "publish")


def test_unknown_dag_is_named(airflow: AirflowUser) -> None:
    with pytest.raises(StackError, match="no_such_dag"):
        airflow.wait_for_dag("no_such_dag", timeout=0)


def test_port_that_is_taken_is_named_with_its_holder(up: tuple[Path, str], tmp_path: Path) -> None:
    port = int(stack_state(up[0]).airflow_url.rsplit(":", 1)[1])

    with pytest.raises(StackError, match=rf"port {port} is in use by .*process \d+"):
        start_stack(tmp_path / "other", airflow_port=port)


def test_down_leaves_no_process_and_status_tells(up: tuple[Path, str]) -> None:
    home, _ = up
    stack_id = StackHome(home).secrets().stack_id

    stopped = _recsys(home, "down")

    assert stopped.returncode == 0
    assert marked_processes(stack_id) == []
    state: StackState = stack_state(home)
    assert state.phase is StackPhase.STOPPED
    assert all(component.phase is ComponentPhase.STOPPED for component in state.components)
    assert _recsys(home, "status").returncode == 3
    assert "database system is shut down" in (home / "logs" / "postgres.log").read_text()
