"""A person approves, rejects or does not answer, through Airflow's real API."""

import re
from datetime import datetime

import pytest

from recsys.local.airflow_client import DagRun
from recsys.promotion import ledger
from recsys.registry.connection import mlflow_client
from tests.airflow_user import AirflowUser
from tests.e2e.stack import PATIENCE, Stack


@pytest.fixture(scope="module")
def versions(stack: Stack, housekept: None) -> tuple[str, str, str]:
    """Three registered versions without files, which promotion does not read."""
    client, name = mlflow_client(stack.settings), stack.settings.registered_model
    champion = client.get_model_version(name, stack.champion())
    run = client.get_run(champion.run_id).info

    def make(number: int) -> str:
        source, tags = f"{run.artifact_uri}/{number}", {"recsys.checkpoint_digest": str(number)}
        return str(client.create_model_version(name, source, run_id=run.run_id, tags=tags).version)

    return make(0), make(1), make(2)


def _answer(airflow: AirflowUser, dag_id: str, run_id: str, option: str) -> DagRun:
    """Answer whenever asked, until the run ends.

    Airflow 3.3 takes a task for dead, and its next try asks again, when the answer comes before the
    scheduler has heard that the worker which asked has ended (apache/airflow#72716): within a second or
    two, which only a program answers in.
    """

    def answer_if_asked(run: DagRun) -> None:
        if run.tasks.get("approve") == "awaiting_input":
            airflow.answer(dag_id, run_id, "approve", option)

    return airflow.wait_for_run(dag_id, run_id, timeout=PATIENCE, on_progress=answer_if_asked)


@pytest.mark.parametrize(
    ("number", "option", "outcome"),
    [(0, "Approve", ("promote", "approved_by_person")), (1, "Reject", ("reject", "rejected_by_person"))],
)
def test_person_decides_in_the_ui_and_the_ledger_says_who_and_when(
    stack: Stack,
    airflow: AirflowUser,
    versions: tuple[str, str, str],
    number: int,
    option: str,
    outcome: tuple[str, str],
) -> None:
    dag_id, version = "approval_in_time", versions[number]
    decisions = len(ledger.history(stack.engine))
    run_id = stack.start_run(dag_id, version=version, opponent=stack.champion())
    asked = airflow.question(dag_id, run_id, "approve", timeout=PATIENCE)
    assert asked["subject"].startswith(f"Make version {version} champion")
    assert "| enough users | yes | 50 |" in asked["body"]
    assert len(ledger.history(stack.engine)) == decisions

    run = _answer(airflow, dag_id, run_id, option)

    assert run.state == "success", airflow.failed_logs(dag_id, run_id)
    entry = ledger.history(stack.engine)[0]
    assert (entry.action, entry.reason) == outcome
    assert entry.model_version == version
    assert entry.actor == f"admin ({dag_id}/{run_id})"
    found = re.search(r"by admin at (\S+)\. ", entry.explanation)
    assert found is not None, entry.explanation
    answered_at = datetime.fromisoformat(found.group(1))
    assert datetime.fromisoformat(asked["created_at"]) <= answered_at <= entry.decided_at
    assert entry.checks[-1]["name"] == "approval"
    assert run.tasks["promote"] == ("success" if option == "Approve" else "skipped")


def test_question_without_an_answer_in_time_is_held(
    stack: Stack, airflow: AirflowUser, versions: tuple[str, str, str]
) -> None:
    dag_id, champion = "approval_too_late", stack.champion()

    run = stack.run_dag(dag_id, version=versions[2], opponent=champion)

    entry = ledger.history(stack.engine)[0]
    assert (entry.action, entry.reason) == ("hold", "approval_timed_out")
    assert entry.actor == f"{dag_id}/{run.run_id}"
    assert stack.champion() == champion


def test_run_whose_gate_decides_alone_asks_nobody(stack: Stack, versions: tuple[str, str, str]) -> None:
    run = stack.run_dag("approval_in_time", version=versions[2], opponent=stack.champion(), action="promote")

    assert run.tasks == {"gate": "success", "approve": "skipped", "promote": "success"}
    entry = ledger.history(stack.engine)[0]
    assert (entry.action, entry.model_version) == ("promote", versions[2])
