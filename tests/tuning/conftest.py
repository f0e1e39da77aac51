"""A search on a small snapshot; training is replaced by what it leaves behind."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.pipeline.context import Context, Run
from recsys.settings import Settings, TuningSettings
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.reference import SnapshotRef
from recsys.training.job import TrainingJob
from recsys.training.result import TrainingResult, write_result
from recsys.tuning import trial
from recsys.warehouse.windows import open_window
from tests.registry_fixtures import result_of_training
from tests.small_models import theme_catalogue, theme_world
from tests.snapshot.warehouse_rows import add_feedback, add_users

NOW = datetime(2026, 5, 30, 8, tzinfo=UTC)


@pytest.fixture
def snapshot(warehouse: sa.Engine, settings: Settings) -> SnapshotRef:
    """A full snapshot of 60 users."""
    catalogue = theme_catalogue()
    with warehouse.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO items (item_id, title) VALUES (:item, :title)"),
            [{"item": i, "title": t} for i, t in zip(catalogue.item_ids, catalogue.titles, strict=True)],
        )
    world = theme_world(catalogue).take_users(range(60))
    add_users(warehouse, *[f"u{number}" for number in range(60)])
    # Each user's events are spread over the whole time, so that every user has late ones.
    rows = [
        (f"u{user}", str(catalogue.item_ids[item]), 60 * (position % 9) + user / 100)
        for position, (user, item) in enumerate(zip(world.event_users(), world.item_index, strict=True))
    ]
    add_feedback(warehouse, rows)
    return take_full_snapshot(warehouse, open_window(warehouse, "nightly_training", "night"), settings)


@pytest.fixture
def context(warehouse: sa.Engine, settings: Settings, mlflow_database: None) -> Context:
    """The context of a run of the DAG, with six trials."""
    tuned = settings.model_copy(update={"tuning": TuningSettings(trials=6, time_budget_minutes=60)})
    return Context(Run("tune_recommender", "tune_recommender/1"), tuned, warehouse, lambda: NOW)


def later(context: Context, minutes: float) -> Context:
    """The same run, later."""
    return replace(context, clock=lambda: NOW + timedelta(minutes=minutes))


Curve = Callable[[TrainingJob], list[float]]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Callable[[Curve], list[TrainingJob]]:
    """Replace training by the validation curve that a function of the job returns; collect the jobs."""

    def replace_by(curve_of: Curve) -> list[TrainingJob]:
        jobs: list[TrainingJob] = []

        def train(job: TrainingJob, on_line: Callable[[str], None]) -> TrainingResult:
            jobs.append(job)
            job.output.mkdir(parents=True, exist_ok=True)
            history = job.output / "history.jsonl"
            history.write_text("")
            curve = curve_of(job)
            for epoch, value in enumerate(curve, start=1):
                with history.open("a") as file:
                    file.write(json.dumps({"epoch": epoch, "validation_ndcg": value}) + "\n")
                on_line(f"epoch {epoch}: next item 1.000; validation NDCG {value} (1.0 s)")
            (job.output / "checkpoint").mkdir()
            (job.output / "checkpoint" / "manifest.json").write_text("{}")
            metrics: dict[str, Any] = {"validation_ndcg_fused": max(curve), "validation_ndcg": 0.0}
            result = replace(result_of_training(job.output), snapshot_uri=job.snapshot.uri, metrics=metrics)
            write_result(job.output, result)
            return result

        monkeypatch.setattr(trial, "run_training", train)
        return jobs

    return replace_by
