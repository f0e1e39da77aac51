"""Client for the parts of Airflow's public REST API that the demo needs."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from recsys.errors import ServiceUnavailableError, StackError
from recsys.local.home import StackHome
from recsys.local.state import StackState

FINAL_RUN_STATES = frozenset({"success", "failed"})
_POLL_SECONDS = 1.0
_ANSWER_SECONDS = 120.0
"""Long, because a machine that trains on all its cores responds slowly."""
_PAGE = 100
_LATEST_RUNS = 10


@dataclass(frozen=True)
class DagRun:
    """One DAG run and the states of its tasks; a mapped task is named `task[index]`."""

    dag_id: str
    run_id: str
    run_type: str
    state: str
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    tasks: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Seconds since the run started, or its duration when it has ended."""
        if self.started_at is None:
            return 0.0
        return ((self.ended_at or datetime.now(UTC)) - self.started_at).total_seconds()


class AirflowClient:
    """Client of an Airflow API server that uses SimpleAuthManager.

    Parameters
    ----------
    url
        Address of the server, for example `http://127.0.0.1:8080`.
    user, password
        Credentials of a user who may trigger DAGs.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self._credentials = {"username": user, "password": password}
        # A loopback server is not behind a proxy that the environment may set.
        self._http = httpx.Client(base_url=url, timeout=_ANSWER_SECONDS, trust_env=False)

    @classmethod
    def for_home(cls, home: Path) -> Self:
        """Return a client of the stack in a home folder.

        Raises
        ------
        StackError
            No stack was started there.
        """
        stack = StackHome(home)
        url = StackState.read(stack.state_file).airflow_url
        if not url:
            raise StackError(f"no stack was started in {stack.path}: run `recsys up`")
        secret = stack.secrets()
        return cls(url, secret.airflow_user, secret.airflow_password)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ensure_pool(self, name: str, slots: int, description: str) -> None:
        """Create a pool; an existing pool keeps its number of slots."""
        body = {"name": name, "slots": slots, "description": description}
        self._ask("POST", "/pools", accept=(201, 409), json=body)

    def wait_for_dag(self, dag_id: str, timeout: float = 120.0) -> None:
        """Wait until Airflow has loaded a DAG.

        Raises
        ------
        StackError
            The DAG is not loaded after `timeout` seconds; the message contains the import errors.
        """
        deadline = time.monotonic() + timeout
        while self._ask("GET", f"/dags/{dag_id}", accept=(200, 404)).status_code != 200:
            if time.monotonic() > deadline:
                errors = self._ask("GET", "/importErrors").json()["import_errors"]
                reasons = "\n".join(f"{e['filename']}: {e['stack_trace'].strip()}" for e in errors)
                raise StackError(
                    f"Airflow does not know the DAG {dag_id} after {timeout:.0f} s\n{reasons}".strip()
                )
            time.sleep(_POLL_SECONDS)

    def trigger_dag(self, dag_id: str) -> str:
        """Start a manual run and return its id."""
        body: dict[str, Any] = {"logical_date": None, "conf": {}}
        return str(self._ask("POST", f"/dags/{dag_id}/dagRuns", json=body).json()["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> DagRun:
        """Return a run with the states of its tasks."""
        found = self._ask("GET", f"/dags/{dag_id}/dagRuns/{run_id}").json()
        return _dag_run(found, self.task_states(dag_id, run_id))

    def runs(self, dag_id: str, run_type: str | None = None) -> list[DagRun]:
        """Return the latest runs, newest first; `run_type` is manual, scheduled, asset_triggered, ..."""
        params: dict[str, Any] = {"order_by": "-run_after", "limit": _LATEST_RUNS}
        if run_type is not None:
            params["run_type"] = run_type
        found = self._ask("GET", f"/dags/{dag_id}/dagRuns", params=params).json()
        return [_dag_run(run) for run in found["dag_runs"]]

    def wait_for_asset_run(self, dag_id: str, since: datetime, timeout: float = 60.0) -> str:
        """Wait for a run that an asset triggered after `since`, and return the id of the newest one.

        Raises
        ------
        StackError
            There is no such run after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            for run in self.runs(dag_id, run_type="asset_triggered"):
                if run.queued_at is not None and run.queued_at >= since:
                    return run.run_id
            if time.monotonic() > deadline:
                raise StackError(f"no asset has triggered {dag_id} within {timeout:.0f} s")
            time.sleep(_POLL_SECONDS)

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Return the state of each task of a run, in the order in which the tasks started."""
        return {_task_name(task): task["state"] or "none" for task in self._task_instances(dag_id, run_id)}

    def wait_for_run(
        self,
        dag_id: str,
        run_id: str,
        timeout: float = 600.0,
        on_progress: Callable[[DagRun], None] | None = None,
    ) -> DagRun:
        """Wait for the end of a run.

        Parameters
        ----------
        timeout
            Seconds.
        on_progress
            Called with the run about once a second, and when it has ended.

        Raises
        ------
        StackError
            The run has not ended in time. A failed run is returned, not raised.
        """
        deadline = time.monotonic() + timeout
        while True:
            run = self.run(dag_id, run_id)
            if on_progress is not None:
                on_progress(run)
            if run.state in FINAL_RUN_STATES:
                return run
            if time.monotonic() > deadline:
                raise StackError(
                    f"{dag_id} run {run_id} has not ended after {timeout:.0f} s; its tasks: {run.tasks}; "
                    f"see {self.url}/dags/{dag_id}/runs/{run_id}"
                )
            time.sleep(_POLL_SECONDS)

    def failed_logs(self, dag_id: str, run_id: str, lines: int = 60) -> str:
        """Return the last log lines of the failed tasks of a run."""
        found = []
        for task in self._task_instances(dag_id, run_id):
            if task["state"] == "failed":
                log = self.task_log(dag_id, run_id, task["task_id"], task["try_number"], task["map_index"])
                found.append(f"--- {_task_name(task)}\n" + "\n".join(log.splitlines()[-lines:]))
        return "\n".join(found)

    def task_log(self, dag_id: str, run_id: str, task_id: str, attempt: int = 1, map_index: int = -1) -> str:
        """Return the log of one try of a task as plain text."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        params = {"map_index": map_index, "full_content": True}
        answer = self._ask("GET", path, params=params, headers={"Accept": "application/json"})
        return "\n".join(_log_line(entry) for entry in answer.json()["content"])

    def _task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            params = {"limit": _PAGE, "offset": len(found), "order_by": "start_date"}
            page = self._ask("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", params=params).json()
            found += page["task_instances"]
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                return found

    def _ask(
        self, method: str, path: str, accept: tuple[int, ...] = (200, 201), **request: Any
    ) -> httpx.Response:
        try:
            answer = self._http.request(method, f"/api/v2{path}", **request)
            if answer.status_code == 401:
                self._log_in()
                answer = self._http.request(method, f"/api/v2{path}", **request)
        except httpx.TransportError as error:
            raise ServiceUnavailableError(
                f"Airflow's API server at {self.url} does not respond ({error!r}); see `recsys status`"
            ) from error
        if answer.status_code not in accept:
            raise StackError(f"Airflow answers {answer.status_code} to {method} {path}: {answer.text[:500]}")
        return answer

    def _log_in(self) -> None:
        answer = self._http.post("/auth/token", json=self._credentials)
        if answer.status_code != 201:
            raise StackError(f"Airflow at {self.url} rejects the password: {answer.text[:200]}")
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


def _dag_run(found: dict[str, Any], tasks: dict[str, str] | None = None) -> DagRun:
    queued, started, ended = (
        datetime.fromisoformat(found[name]) if found[name] else None
        for name in ("queued_at", "start_date", "end_date")
    )
    return DagRun(
        dag_id=found["dag_id"],
        run_id=found["dag_run_id"],
        run_type=found["run_type"],
        state=found["state"],
        queued_at=queued,
        started_at=started,
        ended_at=ended,
        tasks=tasks or {},
    )


def _task_name(task: dict[str, Any]) -> str:
    name = str(task["task_id"])
    return name if task["map_index"] < 0 else f"{name}[{task['map_index']}]"


def _log_line(entry: Any) -> str:
    """Format a structured log entry as one line, followed by its traceback."""
    if isinstance(entry, str):
        return entry
    words = [str(entry.get("timestamp") or ""), str(entry.get("level") or "").upper(), str(entry["event"])]
    line = " ".join(word for word in words if word)
    for error in entry.get("error_detail") or []:
        frames = [f"  {f['filename']}:{f['lineno']} in {f['name']}" for f in error.get("frames") or []]
        line = "\n".join([line, *frames, f"{error.get('exc_type')}: {error.get('exc_value')}"])
    return line
