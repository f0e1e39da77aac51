"""From the commit of fresh feedback to recommendations made with it: every stage of the hourly DAG, timed.

A Postgres and an MLflow store in a temporary folder, MovieLens-100K, a full night first, then the last tenth
as fresh feedback. The stages are the functions that the DAG's tasks call, one after the other in this
process; what Airflow adds is about a second or two a task.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.made_warehouse import PSEUDONYM_KEY, made_warehouse
from recsys import pipeline as stages
from recsys.catalogues.movielens import prepare_demo
from recsys.errors import NothingToDoError
from recsys.pipeline import Run
from recsys.warehouse.engine import connect
from recsys.warehouse.ingest import ingest_file


def committed_to_readable(data: Path | None, cache: Path) -> dict[str, float]:
    """Return seconds from commit to readable, in all (`all`) and by stage, and how many users were published.

    Parameters
    ----------
    data
        Folder of MovieLens files; default: MovieLens-100K from its package, kept in `cache`.
    """
    with made_warehouse(None) as (_, url, root), _environment(url, root):
        files = prepare_demo(cache, data)
        engine = connect(url)
        ingest_file(engine, "items", files.items)
        ingest_file(engine, "feedback", files.first_feedback)
        night = Run("nightly_training", "night")
        reference = stages.open_window(night)
        for _, stage in (
            ("", stages.validate),
            ("", stages.take_full_snapshot),
            ("", stages.fine_tune),
            *_LEARN,
        ):
            reference = stage(night, reference)
        stages.publish(night)

        ingest_file(engine, "feedback", files.fresh_feedback)
        started = time.monotonic()
        hour = Run("hourly_micro_update", "hour")
        seconds = {}
        reference = stages.open_window(hour)
        for name, stage in (
            ("validate", stages.validate),
            ("take_micro_snapshot", stages.take_micro_snapshot),
            ("micro_update", stages.micro_update),
            *_LEARN,
        ):
            began = time.monotonic()
            reference = stage(hour, reference)
            seconds[name] = time.monotonic() - began
        began = time.monotonic()
        published = stages.publish(hour)
        ended = time.monotonic()
        engine.dispose()
    return {**seconds, "publish": ended - began, "all": ended - started, "users": published["users"]}


def _promote(run: Run, decided: stages.Reference) -> stages.Reference:
    """Carry out the decision; when it is not to promote, the users' lists are still made anew."""
    try:
        return stages.promote(run, decided, {})
    except NothingToDoError as held:
        print(f"{run.key}: {held}", flush=True)
        return {}


_LEARN = (
    ("evaluate", stages.evaluate),
    ("register", stages.register),
    ("gate", stages.gate),
    ("promote", _promote),
)


@contextmanager
def _environment(url: str, root: Path) -> Iterator[None]:
    values = {
        "RECSYS_HOME": str(root / "home"),
        "RECSYS_WAREHOUSE_URL": url,
        "RECSYS_MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db",
        "RECSYS_PSEUDONYM_KEY": PSEUDONYM_KEY,
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
