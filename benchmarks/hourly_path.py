"""From the commit of fresh feedback to recommendations made with it: every stage of the hourly DAG, timed.

A Postgres and an MLflow store in a temporary folder and MovieLens-100K: first a full night, then the last
tenth as fresh feedback. The stages run one after the other in this process; Airflow adds one or two seconds
a task.
"""

import time
from pathlib import Path

from pydantic import SecretStr

from benchmarks.made_warehouse import PSEUDONYM_KEY, made_warehouse
from recsys.catalogues.movielens import prepare_demo
from recsys.errors import NothingToDoError
from recsys.pipeline.context import Context, Run, open_context
from recsys.pipeline.order import HOURLY, NIGHTLY, PUBLISH
from recsys.pipeline.run import run_stages
from recsys.settings import Settings
from recsys.warehouse.ingest import ingest_file


def committed_to_readable(data: Path | None, cache: Path) -> dict[str, float]:
    """Return seconds from commit to readable, in all (`all`) and by stage, and how many users were published.

    Parameters
    ----------
    data
        Folder of MovieLens files; default: MovieLens-100K from its package, kept in `cache`.
    """
    with made_warehouse(None) as (_, url, root):
        settings = Settings(
            home=root / "home",
            warehouse_url=SecretStr(url),
            mlflow_tracking_uri=f"sqlite:///{root}/mlflow.db",
            pseudonym_key=SecretStr(PSEUDONYM_KEY),
        )
        files = prepare_demo(cache, data)
        publish = PUBLISH.at_once
        with open_context(Run("nightly_training", "night"), settings) as night:
            ingest_file(night.engine, "items", files.items)
            ingest_file(night.engine, "feedback", files.first_feedback)
            _promote(night, run_stages(NIGHTLY.until_decision, night))
            publish(night)

        with open_context(Run("hourly_micro_update", "hour"), settings) as hour:
            ingest_file(hour.engine, "feedback", files.fresh_feedback)
            started = time.monotonic()
            begun: dict[str, float] = {}

            def begin(stage: str) -> None:
                begun[stage] = time.monotonic()

            decided = run_stages(HOURLY.until_decision, hour, begin)
            begin("promote")
            _promote(hour, decided)
            begin("publish")
            published = publish(hour)
            ended = time.monotonic()
    moments = [*begun.values(), ended]
    seconds = {name: after - before for name, before, after in zip(begun, moments, moments[1:], strict=False)}
    return {**seconds, "all": ended - started, "users": published.users}


def _promote(context: Context, decided: object) -> None:
    """Carry out the decision; when it is not to promote, the users' lists are still published."""
    try:
        HOURLY.promote(context, decided)
    except NothingToDoError as held:
        print(f"{context.run.key}: {held}", flush=True)
