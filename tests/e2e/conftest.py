"""One stack for all tests that need the real scheduler.

Each step is a fixture that runs once, after the step before it, and keeps what it saw:
`up`, `idle`, `demo`, `failures`, `hour_again`, `reaction`, `rolled_back`, `housekept`, the approvals,
`stopped`.
So the tests may run in any order, and each of them alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.local.airflow_client import DagRun
from recsys.local.home import StackHome
from recsys.local.processes import marked_processes
from recsys.local.stack import stack_state, stop_stack
from recsys.local.state import StackState
from recsys.warehouse.analytics import SCHEMA
from recsys.warehouse.tables import feedback, promotion_ledger, recommendation_lists, windows
from tests.airflow_user import AirflowUser
from tests.e2e.expected_views import EMPTY, TABLES, VIEWS
from tests.e2e.failures import load_what_is_refused, write_what_is_refused
from tests.e2e.stack import PATIENCE, Stack, Warehouse, name_of


@dataclass(frozen=True)
class Idle:
    """Runs of a system without feedback, by DAG."""

    began: datetime
    runs: dict[str, DagRun]


@dataclass(frozen=True)
class Demo:
    """The demo's output and report, and the warehouse after it."""

    output: str
    report: dict[str, Any]
    warehouse: Warehouse


@dataclass(frozen=True)
class Reaction:
    """One user likes the first recommendation, and an hour runs that has too little to learn from."""

    item_id: str
    decisions_before: int
    decisions_after: int
    item_ids_after: list[str]
    version_after: str
    champion: str
    events_before: int
    events_after: int


@dataclass(frozen=True)
class Stopped:
    """The state after `recsys down`, and what the warehouse held before."""

    processes: list[Any]
    state: StackState
    status_code: int
    rows_before: int
    champion_before: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of this folder first, as they take longest, and those that stop the stack as the last."""
    folder = Path(__file__).parent

    def place(item: pytest.Item) -> tuple[bool, bool]:
        return not item.path.is_relative_to(folder), "stopped" in getattr(item, "fixturenames", ())

    items.sort(key=place)
    for item in items:
        if item.path.is_relative_to(folder) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A home folder in which nothing has been started."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        yield stack
    finally:
        stack.close()
        stop_stack(stack.home)


@pytest.fixture(scope="session")
def up(stack: Stack) -> str:
    """The output of `recsys up`. The stack is running, without schedules."""
    return stack.recsys("up", "--no-schedules")


@pytest.fixture(scope="session")
def airflow(stack: Stack, up: str) -> AirflowUser:
    return stack.airflow


@pytest.fixture(scope="session")
def idle(stack: Stack, up: str) -> Idle:
    """Three DAGs have run on a warehouse without feedback."""
    began = datetime.now(UTC)
    params = {"nightly_training": {}, "hourly_micro_update": {}, "publish_recommendations": {"scope": "all"}}
    started = {dag_id: stack.start_run(dag_id, **asked) for dag_id, asked in params.items()}
    runs = {
        dag_id: stack.airflow.wait_for_run(dag_id, run_id, timeout=900) for dag_id, run_id in started.items()
    }
    assert stack.rows(promotion_ledger) == []
    assert stack.rows(windows, windows.c.consumer == "hourly_micro_update") == []
    return Idle(began, runs)


@pytest.fixture(scope="session")
def demo(stack: Stack, idle: Idle) -> Demo:
    """The demo, on the stack that is up. Some of its users have written comments before."""
    stack.recsys("ingest", "feedback", str(stack.comments))
    output, report = stack.demo()
    return Demo(
        output,
        report,
        Warehouse(
            {table: stack.read(f"SELECT * FROM public.{table}") for table in TABLES},
            {view: stack.read(f"SELECT * FROM {SCHEMA}.{view}") for view in (*VIEWS, *EMPTY)},
        ),
    )


@pytest.fixture(scope="session")
def failures(stack: Stack, demo: Demo) -> None:
    """Everything that people say and are has gone wrong: loads, applications' own statements, a task."""
    load_what_is_refused(stack)
    write_what_is_refused(stack)
    run = stack.airflow.wait_for_run("failing", stack.start_run("failing"), timeout=PATIENCE)
    assert run.state == "failed"


@pytest.fixture(scope="session")
def hour_again(stack: Stack, demo: Demo) -> tuple[int, int]:
    """The number of decisions before and after an hour without new feedback."""
    before = len(stack.rows(promotion_ledger))
    stack.run_dag("hourly_micro_update")
    return before, len(stack.rows(promotion_ledger))


@pytest.fixture(scope="session")
def reaction(stack: Stack, hour_again: tuple[int, int]) -> Reaction:

    def list_of_user() -> sa.Row:
        (found,) = stack.rows(recommendation_lists, recommendation_lists.c.user_id == name_of("u000"))
        return found

    def stored_events() -> int:
        (found,) = stack.read(f"SELECT events FROM {SCHEMA}.item_popularity WHERE item_id = '{item_id}'")
        return int(found["events"])

    item_id = list_of_user().item_ids[0]
    decisions, events = len(stack.rows(promotion_ledger)), stored_events()
    event = {"event_id": "one reaction", "user_id": name_of("u000"), "item_id": item_id}
    event |= {"event_type": "like"}
    with stack.engine.begin() as connection:
        connection.execute(sa.insert(feedback), event | {"occurred_at": datetime.now(UTC)})
    with stack.changed_settings("RECSYS_MICRO_UPDATE__MIN_FRESH_EVENTS=1000000"):
        stack.run_dag("hourly_micro_update")
    after = list_of_user()
    return Reaction(
        item_id=item_id,
        decisions_before=decisions,
        decisions_after=len(stack.rows(promotion_ledger)),
        item_ids_after=after.item_ids,
        version_after=after.model_version,
        champion=stack.champion(),
        events_before=events,
        events_after=stored_events(),
    )


@pytest.fixture(scope="session")
def rolled_back(stack: Stack, reaction: Reaction) -> Warehouse:
    """The warehouse after a rollback and the publication that it triggers."""
    since = datetime.now(UTC)
    stack.run_dag("roll_back_model", version=None, reason="a test of the way back")
    publication = stack.airflow.wait_for_asset_run("publish_recommendations", since)
    stack.finish_run("publish_recommendations", publication)
    return Warehouse(
        {
            table: stack.read(f"SELECT * FROM public.{table}")
            for table in ("promotion_ledger", "recommendation_lists", "user_vectors", "item_vectors")
        },
        {},
    )


@pytest.fixture(scope="session")
def housekept(stack: Stack, rolled_back: Warehouse) -> None:
    """Housekeeping has run, in one process: `airflow dags test` works too."""
    stack.dags_test("warehouse_housekeeping")


@pytest.fixture(scope="session")
def stopped(stack: Stack, housekept: None) -> Stopped:
    """`recsys down` has ended the stack."""
    report_rows = "SELECT (SELECT count(*) FROM feedback) + (SELECT count(*) FROM quarantine) AS rows"
    (counted,) = stack.read(report_rows)
    champion = stack.champion()
    stack.close()
    stack.recsys("down")
    return Stopped(
        processes=marked_processes(StackHome(stack.home).secrets().stack_id),
        state=stack_state(stack.home),
        status_code=stack.run("status").returncode,
        rows_before=counted["rows"],
        champion_before=champion,
    )
