"""Tasks of a night and the HTTP service in the pods of kubernetes/, as processes, on a real Postgres."""

import sys
import time
from collections.abc import Iterator

import httpx
import pytest
import sqlalchemy as sa

from recsys.local.ports import LOOPBACK, any_free_port
from recsys.warehouse.ingest import ingest_file
from recsys.warehouse.tables import windows
from tests.deployment.fixtures import Deployed
from tests.deployment.kubernetes import pods
from tests.deployment.pod_processes import ExecutionApi, TaskPods
from tests.synthetic import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def api() -> Iterator[ExecutionApi]:
    api = ExecutionApi("nightly_training", "manual__1")
    yield api
    api.close()


@pytest.fixture(scope="module")
def task_pods(tmp_path_factory: pytest.TempPathFactory, deployed: Deployed, api: ExecutionApi) -> TaskPods:
    folder = tmp_path_factory.mktemp("cluster")
    engine = sa.create_engine(deployed.kubernetes_urls()["task-default"])
    world = World()
    ingest_file(engine, "items", world.write_items(folder / "items.jsonl"))
    ingest_file(engine, "feedback", world.write_feedback(folder / "feedback.csv"))
    engine.dispose()
    return TaskPods(folder, deployed.secrets, api)


def test_tasks_of_a_night_succeed_with_what_their_pods_have(task_pods: TaskPods, deployed: Deployed) -> None:
    for queue, task in (
        ("default", "open_window"),
        ("default", "validate"),
        ("gpu", "take_full_snapshot"),
    ):
        state, printed = task_pods.run(pods()[f"task-{queue}"], task)
        assert state == "success", f"{task}: {printed[-5000:]}"

    engine = sa.create_engine(deployed.kubernetes_urls()["migrate"])
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(windows)) == 1
    engine.dispose()
    assert list(task_pods.place("/var/lib/recsys/snapshots").rglob("*.parquet"))


def test_a_task_has_nothing_but_what_its_template_gives_it(task_pods: TaskPods) -> None:
    pod = pods()["task-default"]
    (container,) = pod.spec["containers"]
    container["env"] = [entry for entry in container["env"] if entry["name"] != "RECSYS_WAREHOUSE_URL"]

    state, printed = task_pods.run(pod, "open_window")

    assert state == "failed"
    assert "no feedback warehouse is configured" in printed


def test_the_http_service_is_ready_with_what_its_pod_has(task_pods: TaskPods) -> None:
    pod, port = pods()["serving"], any_free_port()
    program, *arguments = pod.container["args"]
    assert program == "recsys"
    here = {"0.0.0.0": LOOPBACK, "8765": str(port)}
    words = [here.get(word, word) for word in arguments]
    service = task_pods.start(pod, [sys.executable, "-m", "recsys.commands.main", *words])
    try:
        with httpx.Client(base_url=f"http://{LOOPBACK}:{port}") as client:
            probe = pod.container["readinessProbe"]["httpGet"]["path"]
            while not _answers(client, probe):
                assert service.poll() is None, (task_pods.folder / "serving.log").read_text()
                time.sleep(0.2)
            assert client.get("/metrics").status_code == 401
    finally:
        service.terminate()
        service.wait(timeout=60)


def _answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path, timeout=10).status_code == 200
    except httpx.TransportError:
        return False
