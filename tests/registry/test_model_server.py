"""Requests to a registered version behind `mlflow models serve`."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from recsys.local.ports import any_free_port
from recsys.local.postgres import PostgresServer
from recsys.local.processes import stop_processes
from recsys.model.checkpoint import save_recommender
from recsys.registry.connection import mlflow_client
from recsys.registry.pyfunc_model import CHECKPOINT
from recsys.registry.registration import register_version
from recsys.registry.tracking import track_training
from recsys.registry.versions import download_model
from recsys.settings import Settings
from tests.registry_fixtures import lineage_of, result_of_training

pytestmark = pytest.mark.slow

_START_SECONDS = 300


def _event(**changes: Any) -> dict[str, Any]:
    return {
        "item_id": "item1", "event_type": "rating", "value": 5.0, "occurred_at": "2026-01-01T00:00:00+00:00",
    } | changes  # fmt: skip


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    empty_mlflow: Any,
    recommender: Any,
    postgres: PostgresServer,
    warehouse_template: str,
) -> Iterator[httpx.Client]:
    """`mlflow models serve` for a version, with the packages of this environment."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copyfile(empty_mlflow, folder / "mlflow.db")
    postgres.create_database("served", template=warehouse_template)
    settings = Settings(
        home=folder / "home",
        mlflow_tracking_uri=f"sqlite:///{folder}/mlflow.db",
        warehouse_url=postgres.url("served"),
    )
    save_recommender(recommender.clone(), folder / CHECKPOINT)
    training, lineage = result_of_training(folder), lineage_of(folder)
    run_id = track_training(settings, "nightly:1", training, lineage)
    register_version(settings, run_id=run_id, run_key="nightly:1", training=training, lineage=lineage)
    assert mlflow_client(settings).get_model_version(settings.registered_model, "1").status == "READY"
    download_model(settings, "1", folder / "model")

    port = any_free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(folder / "model")),
        *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
    ]
    process = subprocess.Popen(
        command,
        env=os.environ
        | {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # The default of one minute is too short on a machine that is busy with other tests.
            "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": str(_START_SECONDS),
            # As in an activated environment: MLflow starts uvicorn by name.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        },
        stdout=(folder / "server.log").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=_START_SECONDS, trust_env=False
        ) as client:
            _wait(client, process, lambda: (folder / "server.log").read_text())
            yield client
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            started = psutil.Process(process.pid)
            everything = [started, *started.children(recursive=True)]
            stop_processes(lambda: [each for each in everything if _runs(each)], grace_seconds=5)
        process.wait()


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _wait(client: httpx.Client, process: subprocess.Popen[bytes], log: Callable[[], str]) -> None:
    until = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            if client.get("/ping").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError(log())


def _ask(server: httpx.Client, users: list[dict[str, Any]], **params: Any) -> httpx.Response:
    return server.post("/invocations", json={"dataframe_records": users, "params": params})


def test_histories_a_request_and_k_are_answered(server: httpx.Client) -> None:
    users = [
        {"history": [_event()], "request": "a book about programming"},
        {"history": [], "request": None},
    ]
    answer = _ask(server, users, k=4)
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["predictions"]
    assert (len(first["item_ids"]), len(second["item_ids"])) == (4, 4)
    assert "item1" not in first["item_ids"]
    assert first["scores"] == sorted(first["scores"], reverse=True)
    assert [title.lower() for title in first["titles"]] == first["item_ids"]
    assert all(map(len, (first["reasons"], *first["reasons"])))
    few = _ask(server, [{"history": [_event()], "candidates": ["item3", "item1", "none"]}], k=4)
    assert few.json()["predictions"][0]["item_ids"] == ["item3"]
    without = _ask(server, [{"history": [_event()]}], k=12, exclude_consumed=False).json()["predictions"]
    assert "item1" in without[0]["item_ids"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"dataframe_records": [{"history": [_event(event_type="adored")]}]}, "unknown event type 'adored'"),
        ({"dataframe_records": [{"history": [_event(occurred_at="yesterday")]}]}, "must be ISO 8601"),
        ({"dataframe_records": [{"history": []}], "params": {"k": 0}}, "k must be from 1 to 12"),
        ({"dataframe_records": [{"history": []}], "params": {"k": "many"}}, "k"),
        ({"dataframe_records": [{"history": "item1"}]}, "history"),
        ({"dataframe_records": [{"items": []}]}, "history"),
        ({"dataframe_records": [{"history": [{"item_id": "item1"}]}]}, "event_type"),
        ({"dataframe_records": [{"history": [], "request": 5}]}, "request"),
        ({"somebody": "else"}, "dataframe_records"),
        ([1, 2], "JSON"),
    ],
)
def test_a_bad_payload_gets_4xx_and_the_reason(server: httpx.Client, body: Any, reason: str) -> None:
    answer = server.post("/invocations", json=body)
    assert 400 <= answer.status_code < 500, answer.text
    assert reason in answer.json()["message"]


def test_a_payload_that_is_not_json_gets_4xx(server: httpx.Client) -> None:
    answer = server.post("/invocations", content=b"{", headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500, answer.text
    text = server.post("/invocations", content=b"hello", headers={"Content-Type": "text/plain"})
    assert text.status_code == 415
