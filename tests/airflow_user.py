"""Actions of a user in the Airflow UI, for tests through the real scheduler."""

import time
from typing import Any

from recsys.errors import StackError
from recsys.local.airflow_client import AirflowClient


class AirflowUser(AirflowClient):
    """The client of the product, with the actions that only people take."""

    def pool_slots(self, name: str) -> int:
        """Return the number of tasks that may run at the same time in a pool."""
        slots: int = self._ask("GET", f"/pools/{name}").json()["slots"]
        return slots

    def unpause(self, dag_id: str) -> None:
        """Allow runs of a DAG to start."""
        self._ask("PATCH", f"/dags/{dag_id}", json={"is_paused": False})

    def trigger_dag(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a manual run with the given DAG params and return its id."""
        body = {"logical_date": None, "conf": conf or {}}
        return str(self._ask("POST", f"/dags/{dag_id}/dagRuns", json=body).json()["dag_run_id"])

    def question(self, dag_id: str, run_id: str, task_id: str, timeout: float = 120.0) -> dict[str, Any]:
        """Wait until a task asks for approval and return its question: subject, body, options, ..."""
        deadline = time.monotonic() + timeout
        while self.task_states(dag_id, run_id).get(task_id) != "awaiting_input":
            if time.monotonic() > deadline:
                raise StackError(f"{task_id} of {dag_id} run {run_id} asks nothing after {timeout:.0f} s")
            time.sleep(1)
        found: dict[str, Any] = self._ask("GET", _question_path(dag_id, run_id, task_id)).json()
        return found

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str) -> None:
        """Answer the question of a task."""
        self._ask("PATCH", _question_path(dag_id, run_id, task_id), json={"chosen_options": [option]})


def _question_path(dag_id: str, run_id: str, task_id: str) -> str:
    return f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
