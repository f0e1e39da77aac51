"""Training as a process of its own, on real snapshots."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.errors import CheckpointError, ConfigurationError, TrainingError
from recsys.model.checkpoint import load_recommender
from recsys.settings import Settings
from recsys.snapshot.read import read_snapshot
from recsys.snapshot.reference import SnapshotRef
from recsys.snapshot.write import take_full_snapshot, take_micro_snapshot
from recsys.training.launch import run_training, training_environment
from recsys.training.run import main, train
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
    command = ["full", "--snapshot", snapshot.uri, "--output", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, "-m", "recsys.training", *command],
        env=os.environ | training_environment(long),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 3"):
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "result.json").exists()
    killed = (tmp_path / "run" / "history.jsonl").read_text().splitlines()[:2]
    result = train("full", snapshot.uri, tmp_path / "run", long)
    assert result.epochs == 30
    # Even the seconds are the same: these epochs were not repeated.
    assert (tmp_path / "run" / "history.jsonl").read_text().splitlines()[:2] == killed
    assert not (tmp_path / "run" / "state").exists()


@pytest.mark.parametrize("events_in_memory", [10_000, 250], ids=["in memory", "from shards"])
def test_two_processes_train_like_one_and_a_second_call_returns_at_once(
    snapshot: SnapshotRef, small: Settings, tmp_path: Path, events_in_memory: int
) -> None:
    still = small.model_copy(
        update={
            "model": small.model.model_copy(update={"dropout": 0.0, "id_dropout": 0.0}),
            "training": small.training.model_copy(
                update={"epochs": 2, "request_steps": 0, "events_in_memory": events_in_memory}
            ),
        }
    )
    both = still.model_copy(update={"training": still.training.model_copy(update={"devices": 2})})
    one = train("full", snapshot.uri, tmp_path / "one", still)
    two = run_training("full", snapshot.uri, tmp_path / "two", both)
    for alone, together in zip(one.epoch_history(), two.epoch_history(), strict=True):
        for name in ("next_item", "liking"):
            assert together[name] == pytest.approx(alone[name], rel=1e-3)
    assert [row["epoch"] for row in two.epoch_history()] == [1, 2]
    assert two.snapshot_digest == snapshot.digest
    assert two.trained_through == read_snapshot(snapshot).trained_through
    assert load_recommender(two.checkpoint).items.trained.any()
    manifest = json.loads((Path(two.checkpoint) / "manifest.json").read_text())
    assert manifest["trained_through"] == two.trained_through.to_dict()
    before = (tmp_path / "two" / "result.json").stat().st_mtime_ns
    assert run_training("full", snapshot.uri, tmp_path / "two", both) == two
    assert (tmp_path / "two" / "result.json").stat().st_mtime_ns == before


def test_a_snapshot_larger_than_memory_trains_on_the_same_events_and_leaves_no_shards(
    snapshot: SnapshotRef, small: Settings, tmp_path: Path
) -> None:
    models = {}
    for name, limit in (("whole", 10_000), ("divided", 100)):
        training = small.training.model_copy(update={"epochs": 1, "events_in_memory": limit})
        result = train("full", snapshot.uri, tmp_path / name, small.model_copy(update={"training": training}))
        models[name] = load_recommender(result.checkpoint)
    whole, divided = models["whole"], models["divided"]
    assert divided.popularity.counts.tolist() == whole.popularity.counts.tolist()
    assert divided.collaborative is not None
    assert whole.collaborative is not None
    assert (divided.collaborative.weights != whole.collaborative.weights).nnz == 0
    assert {path.name for path in (tmp_path / "divided").iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }


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
        train("full", snapshot.uri, tmp_path / "run", divided)
    assert not (tmp_path / "run" / "shards").exists()


def test_a_micro_update_starts_from_its_parent(
    warehouse: sa.Engine, snapshot: SnapshotRef, small: Settings, tmp_path: Path
) -> None:
    parent = train("full", snapshot.uri, tmp_path / "full", small)
    fill(warehouse, 40, 60, since=10_000)
    window = open_window(warehouse, "hourly", "hour")
    fresh = take_micro_snapshot(warehouse, window, small, parent.trained_through)
    result = train("micro", fresh.uri, tmp_path / "micro", small, Path(parent.checkpoint))
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


def test_an_error_of_the_process_is_told_with_its_last_lines(small: Settings, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"exit code 1(.|\n)*SnapshotError: there is no"):
        run_training("full", f"{tmp_path}/nothing", tmp_path / "run", small)


def test_wrong_arguments_are_named(snapshot: SnapshotRef, small: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'nightly'"):
        run_training("nightly", snapshot.uri, tmp_path, small)
    with pytest.raises(ConfigurationError, match="--parent"):
        train("micro", snapshot.uri, tmp_path, small)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        train("micro", snapshot.uri, tmp_path, small, tmp_path)
    with pytest.raises(SystemExit):
        main(["sideways"])
