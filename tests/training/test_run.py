"""Training as a process of its own, on real snapshots."""

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa
import torch
from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from recsys.errors import (
    CheckpointError,
    ConfigurationError,
    ServiceUnavailableError,
    SnapshotError,
    TrainingError,
)
from recsys.local.ports import any_free_port
from recsys.model.checkpoint import load_recommender
from recsys.pipeline import learning
from recsys.pipeline.context import Context, Run
from recsys.pipeline.references import Candidate
from recsys.registry.lineage import Lineage
from recsys.settings import Settings, TrainingSettings
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.micro import take_micro_snapshot
from recsys.snapshot.read import read_snapshot
from recsys.snapshot.reference import SnapshotRef
from recsys.training.data import events_in_parts
from recsys.training.job import JOB_FILE, TrainingJob, read_job
from recsys.training.launch import assist_training, run_training
from recsys.training.result import TrainingResult, read_result, verify_checkpoint
from recsys.training.run import main, train
from recsys.training.run_lock import hold_run_folder
from recsys.training.trainer import Trainer
from recsys.warehouse.windows import open_window
from tests.small_models import small_settings, theme_catalogue, theme_world
from tests.snapshot.warehouse_rows import add_feedback, add_users


@pytest.fixture
def small(settings: Settings, encoder_folder: Path) -> Settings:
    """A model that trains in a second, on the test's own warehouse."""
    quick = small_settings(settings.home, encoder_folder)
    update = settings.micro_update.model_copy(update={"min_fresh_events": 5})
    return settings.model_copy(
        update={"model": quick.model, "training": quick.training, "micro_update": update}
    )


def fill(warehouse: sa.Engine, first: int, last: int, since: float = 0) -> None:
    """Add the feedback of some users of the theme world, one minute apart."""
    catalogue = theme_catalogue()
    world = theme_world(catalogue).take_users(range(first, last))
    add_users(warehouse, *[f"u{number}" for number in range(first, last)])
    rows = [
        (f"u{first + user}", str(catalogue.item_ids[item]), since + minute)
        for minute, (user, item) in enumerate(zip(world.event_users(), world.item_index, strict=True))
    ]
    add_feedback(warehouse, rows)


@pytest.fixture
def snapshot(warehouse: sa.Engine, small: Settings) -> SnapshotRef:
    """A full snapshot of 40 users."""
    catalogue = theme_catalogue()
    with warehouse.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO items (item_id, title) VALUES (:item, :title)"),
            [{"item": i, "title": t} for i, t in zip(catalogue.item_ids, catalogue.titles, strict=True)],
        )
    fill(warehouse, 0, 40)
    return take_full_snapshot(warehouse, open_window(warehouse, "nightly", "night"), small)


def test_training_goes_on_after_kill_minus_nine(
    snapshot: SnapshotRef, small: Settings, tmp_path: Path
) -> None:
    training = small.training.model_copy(update={"epochs": 30, "patience": 30})
    long = small.model_copy(update={"training": training})
    job = TrainingJob.of(long, "full", snapshot, tmp_path / "run")
    process = subprocess.Popen(
        [sys.executable, "-m", "recsys.training", str(job.write())], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 3"):
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "result.json").exists()
    killed = (tmp_path / "run" / "history.jsonl").read_text().splitlines()[:2]
    result = train(job)
    assert result.epochs == 30
    # Even the seconds are the same: these epochs were not repeated.
    assert (tmp_path / "run" / "history.jsonl").read_text().splitlines()[:2] == killed
    assert not (tmp_path / "run" / "state").exists()


def until_epoch(process: subprocess.Popen[str], number: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"epoch {number}:"):
            return
    raise AssertionError("the process ended earlier")


def test_a_second_process_waits_for_the_one_that_trains_in_its_folder(
    snapshot: SnapshotRef, small: Settings, tmp_path: Path
) -> None:
    training = small.training.model_copy(update={"epochs": 10, "patience": 10})
    job = TrainingJob.of(small.model_copy(update={"training": training}), "full", snapshot, tmp_path / "run")
    command = [sys.executable, "-m", "recsys.training", str(job.write())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        until_epoch(first, 1)
        result = train(job)
        assert first.wait() == 0
    assert [row["epoch"] for row in epochs(result)] == list(range(1, 11))
    assert read_result(tmp_path / "run") == result


def test_training_ends_when_the_process_that_started_it_is_killed(
    snapshot: SnapshotRef, small: Settings, tmp_path: Path
) -> None:
    training = small.training.model_copy(update={"epochs": 10_000, "patience": 10_000})
    job = TrainingJob.of(small.model_copy(update={"training": training}), "full", snapshot, tmp_path / "run")
    program = (
        "import logging, sys; from pathlib import Path; from recsys.training.job import read_job;"
        " from recsys.training.launch import run_training;"
        " logging.basicConfig(stream=sys.stdout, level=logging.INFO, format='%(message)s');"
        f" run_training(read_job(Path({str(job.write())!r})))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        until_epoch(parent, 1)
        parent.kill()
    with hold_run_folder(tmp_path / "run"):  # waits until the training process has ended
        assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="in memory"),
        pytest.param({"events_in_memory": 250}, id="from shards", marks=pytest.mark.slow),
        pytest.param(
            {"full_softmax_items": 10, "sampled_negatives": 12}, id="sampled softmax", marks=pytest.mark.slow
        ),
    ],
)
def test_two_processes_train_like_one_and_a_second_call_returns_at_once(
    snapshot: SnapshotRef, small: Settings, tmp_path: Path, changes: dict[str, int]
) -> None:
    still = small.model_copy(
        update={
            "model": small.model.model_copy(update={"dropout": 0.0, "id_dropout": 0.0}),
            "training": small.training.model_copy(update={"epochs": 2, "request_steps": 0, **changes}),
        }
    )
    both = still.model_copy(update={"training": still.training.model_copy(update={"devices": 2})})
    one = train(TrainingJob.of(still, "full", snapshot, tmp_path / "one"))
    job = TrainingJob.of(both, "full", snapshot, tmp_path / "two")
    two = run_training(job)
    for alone, together in zip(epochs(one), epochs(two), strict=True):
        for name in ("next_item", "liking"):
            assert together[name] == pytest.approx(alone[name], rel=1e-3)
    assert [row["epoch"] for row in epochs(two)] == [1, 2]
    assert two.snapshot_digest == snapshot.digest
    assert two.trained_through == read_snapshot(snapshot).trained_through
    assert load_recommender(two.checkpoint).items.trained.any()
    manifest = json.loads((Path(two.checkpoint) / "manifest.json").read_text())
    assert manifest["trained_through"] == to_jsonable_python(two.trained_through)
    before = (tmp_path / "two" / "result.json").stat().st_mtime_ns
    assert run_training(job) == two
    assert (tmp_path / "two" / "result.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["changed", "cut off", "missing"])
def test_a_finished_run_whose_checkpoint_was_damaged_is_not_evaluated_and_trains_again(
    warehouse: sa.Engine, snapshot: SnapshotRef, small: Settings, tmp_path: Path, damage: str
) -> None:
    quick = small.model_copy(update={"training": small.training.model_copy(update={"epochs": 1})})
    job = TrainingJob.of(quick, "full", snapshot, tmp_path / "run")
    result = train(job)
    verify_checkpoint(result)
    weights = Path(result.checkpoint) / "weights.safetensors"
    content = weights.read_bytes()
    if damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(content[:-4] + (b"" if damage == "cut off" else b"\x01\x02\x03\x04"))
    context = Context(Run("nightly_training", "nightly_training/1"), quick, warehouse)
    candidate = Candidate(
        lineage=Lineage(snapshot=snapshot, window_ids=(1,)),
        training=result,
        folder=str(tmp_path / "run"),
        mlflow_run="none",
    )
    with pytest.raises(CheckpointError, match="clear the task that trained it"):
        learning.evaluate(context, candidate)
    again = train(job)
    verify_checkpoint(again)
    assert again.checkpoint_digest is not None
    assert load_recommender(Path(again.checkpoint)).items.trained.any()


def test_a_snapshot_larger_than_memory_trains_on_the_same_events_and_leaves_no_shards(
    snapshot: SnapshotRef, small: Settings, tmp_path: Path
) -> None:
    models = {}
    for name, limit in (("whole", 10_000), ("divided", 100)):
        training = small.training.model_copy(update={"epochs": 1, "events_in_memory": limit})
        result = train(
            TrainingJob.of(small.model_copy(update={"training": training}), "full", snapshot, tmp_path / name)
        )
        models[name] = load_recommender(result.checkpoint)
    whole, divided = models["whole"], models["divided"]
    assert divided.popularity.counts.tolist() == whole.popularity.counts.tolist()
    assert divided.collaborative is not None
    assert whole.collaborative is not None
    assert (divided.collaborative.weights != whole.collaborative.weights).nnz == 0
    assert {path.name for path in (tmp_path / "divided").iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }


def test_a_snapshot_is_evaluated_in_parts_with_all_its_events_and_leaves_no_files(
    snapshot: SnapshotRef, tmp_path: Path
) -> None:
    opened = read_snapshot(snapshot)
    with events_in_parts(opened, 100, tmp_path / "shards") as parts:
        assert len(parts) > 3
        assert sum(part.events for part in parts) == opened.sequences().events
    with events_in_parts(opened, 10_000, tmp_path / "shards") as parts:
        assert len(parts) == 1
    assert not list(tmp_path.glob("shards*"))


def test_a_run_that_fails_leaves_no_shards(
    snapshot: SnapshotRef, small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        assert len(list((tmp_path / "run" / "shards").iterdir())) > 3
        raise TrainingError("the loss is not a number")

    monkeypatch.setattr(Trainer, "_total", fail)
    divided = small.model_copy(
        update={"training": small.training.model_copy(update={"events_in_memory": 100})}
    )
    with pytest.raises(TrainingError, match="not a number"):
        train(TrainingJob.of(divided, "full", snapshot, tmp_path / "run"))
    assert not (tmp_path / "run" / "shards").exists()


def test_a_micro_update_starts_from_its_parent(
    warehouse: sa.Engine, snapshot: SnapshotRef, small: Settings, tmp_path: Path
) -> None:
    parent = train(TrainingJob.of(small, "full", snapshot, tmp_path / "full"))
    fill(warehouse, 40, 60, since=10_000)
    window = open_window(warehouse, "hourly", "hour")
    fresh = take_micro_snapshot(warehouse, window, small, parent.trained_through)
    result = train(TrainingJob.of(small, "micro", fresh, tmp_path / "micro", Path(parent.checkpoint)))
    assert result.kind == "micro"
    assert result.trained_through.transaction_id > parent.trained_through.transaction_id
    assert load_recommender(result.checkpoint).popularity.counts.sum() > 0
    assert counted(result.checkpoint) > counted(parent.checkpoint)


def counted(checkpoint: str) -> float:
    """Return how often users and items met, as collaborative filtering has counted it."""
    collaborative = load_recommender(checkpoint, to_update=True).collaborative
    assert collaborative is not None
    assert collaborative.co_occurrences is not None
    return float(collaborative.co_occurrences.counts.diagonal().sum())


def epochs(result: TrainingResult) -> list[dict[str, float]]:
    """Return the figures of each epoch."""
    return [json.loads(line) for line in Path(result.history).read_text().splitlines()]


def test_an_error_of_the_process_is_shown_with_its_last_lines(small: Settings, tmp_path: Path) -> None:
    missing = SnapshotRef(f"{tmp_path}/nothing", "d" * 64, "full", 1, 1)
    with pytest.raises(TrainingError, match=r"exit code 1(.|\n)*SnapshotError: there is no"):
        run_training(TrainingJob.of(small, "full", missing, tmp_path / "run"))


def test_a_snapshot_that_is_not_the_one_of_the_job_is_refused(
    snapshot: SnapshotRef, small: Settings, tmp_path: Path
) -> None:
    other = replace(snapshot, digest="0" * 64)
    with pytest.raises(SnapshotError, match="not 000000000000 as in the reference"):
        train(TrainingJob.of(small, "full", other, tmp_path / "run"))


def test_a_job_that_makes_no_sense_is_refused(snapshot: SnapshotRef, small: Settings, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="'full' or 'micro'"):
        TrainingJob.of(small, "nightly", snapshot, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="needs a parent checkpoint"):
        TrainingJob.of(small, "micro", snapshot, tmp_path)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        train(TrainingJob.of(small, "micro", snapshot, tmp_path, tmp_path))
    with pytest.raises(SystemExit):
        main([])
    with pytest.raises(ConfigurationError, match=r"nothing\.json is not a training job"):
        read_job(tmp_path / "nothing.json")


def test_a_job_reads_back_with_its_settings(snapshot: SnapshotRef, small: Settings, tmp_path: Path) -> None:
    job = TrainingJob.of(small, "full", snapshot, tmp_path / "run")
    again = read_job(job.write())
    assert again == job
    assert (again.settings.model, again.settings.training) == (small.model, small.training)
    assert again.settings.runs == small.runs


def kill_a_training_process(job: TrainingJob) -> None:
    """Kill one of the processes that train, not torchrun."""
    arguments = [str(job.output / JOB_FILE), "--end-with-parent"]
    training = [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] and process.info["cmdline"][-2:] == arguments
    ]
    workers = [process for process in training if "torch.distributed.run" not in process.info["cmdline"]]
    assert len(workers) == 2
    workers[0].kill()


def test_two_machines_train_like_one_process_and_resume_after_one_was_killed(
    snapshot: SnapshotRef, small: Settings, tmp_path: Path
) -> None:
    model = {"dropout": 0.0, "id_dropout": 0.0, "fine_tuning": "top_layers"}
    training = {"epochs": 12, "patience": 12, "request_steps": 0}
    alone = small.model_copy(
        update={
            "model": small.model.model_copy(update=model),
            "training": small.training.model_copy(update=training),
        }
    )
    one = train(TrainingJob.of(alone, "full", snapshot, tmp_path / "one"))
    meet = {"machines": 2, "rendezvous": f"localhost:{any_free_port()}"}
    together = alone.model_copy(update={"training": alone.training.model_copy(update=meet)})
    job = TrainingJob.of(together, "full", snapshot, tmp_path / "two")
    history = tmp_path / "two" / "history.jsonl"
    with ThreadPoolExecutor(2) as machines:

        def start() -> tuple[Future[TrainingResult], Future[None]]:
            return machines.submit(run_training, job), machines.submit(assist_training, job)

        killed = start()
        while not (history.is_file() and history.read_text().count("\n") >= 2):
            assert not killed[0].done()
            time.sleep(0.05)
        kill_a_training_process(job)
        for machine in killed:
            with pytest.raises(ServiceUnavailableError, match="full training ended with exit code 1"):
                machine.result()
        again = start()
        two = again[0].result()
        again[1].result()
    assert [row["epoch"] for row in epochs(two)] == list(range(1, 13))
    for expected, found in zip(epochs(one), epochs(two), strict=True):
        for name in ("next_item", "liking"):
            assert found[name] == pytest.approx(expected[name], rel=1e-3)
    texts = [load_recommender(result.checkpoint).text_vectors for result in (one, two)]
    assert torch.allclose(*texts, atol=1e-3)
    assist_training(job)  # returns at once: the run is finished


@pytest.mark.slow
def test_machines_that_all_fail_alike_say_why_and_do_not_try_again(
    snapshot: SnapshotRef, small: Settings, tmp_path: Path
) -> None:
    meet = {"machines": 2, "rendezvous": f"localhost:{any_free_port()}", "learning_rate": 1e30}
    failing = small.model_copy(update={"training": small.training.model_copy(update=meet)})
    job = TrainingJob.of(failing, "full", snapshot, tmp_path / "run")
    with ThreadPoolExecutor(2) as machines:
        futures = [machines.submit(run_training, job), machines.submit(assist_training, job)]
    for machine in futures:
        with pytest.raises(TrainingError, match="lower RECSYS_TRAINING__LEARNING_RATE"):
            machine.result()


@pytest.mark.parametrize("rendezvous", [None, "", "gpu-1", "http://gpu-1:29400", "gpu-1:", ":29400"])
def test_machines_without_a_place_to_meet_are_refused(rendezvous: str | None) -> None:
    with pytest.raises(ValidationError, match="rendezvous"):
        TrainingSettings(machines=2, rendezvous=rendezvous)


def test_a_rendezvous_that_no_machine_has_is_named(
    snapshot: SnapshotRef, small: Settings, tmp_path: Path
) -> None:
    meet = {"machines": 2, "rendezvous": "no-such-machine.invalid:29400"}
    lost = small.model_copy(update={"training": small.training.model_copy(update=meet)})
    with pytest.raises(TrainingError, match=r"no-such-machine\.invalid:29400.*name one of the machines"):
        run_training(TrainingJob.of(lost, "full", snapshot, tmp_path / "run"))
