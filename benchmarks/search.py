"""A search of settings on MovieLens, with all its stages, and what it found.

    python -m benchmarks.search [--data DIR] [--trials 8] [--epochs 12] [--minutes 12]

A Postgres and an MLflow store in a temporary folder. All feedback is snapshotted once; then the stages of
`tune_recommender` run one after the other in this process. The last lines are the rows of its tables.
"""

import argparse
import logging
from pathlib import Path

import sqlalchemy as sa
from pydantic import SecretStr

from benchmarks.made_warehouse import PSEUDONYM_KEY, made_warehouse
from recsys.catalogues.movielens import prepare_demo
from recsys.errors import NothingToDoError
from recsys.pipeline import feedback
from recsys.pipeline.context import Run, open_context
from recsys.pipeline.order import SEARCH
from recsys.pipeline.run import run_stages
from recsys.settings import Settings, TrainingSettings, TuningSettings
from recsys.warehouse.ingest import ingest_file
from recsys.warehouse.tables import search_trials, searches


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of MovieLens files; default: MovieLens-100K")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "recsys-benchmarks")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--minutes", type=float, default=12.0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("recsys").setLevel(logging.INFO)
    with made_warehouse(None) as (_, url, root):
        settings = Settings(
            home=root / "home",
            warehouse_url=SecretStr(url),
            mlflow_tracking_uri=f"sqlite:///{root}/mlflow.db",
            pseudonym_key=SecretStr(PSEUDONYM_KEY),
            training=TrainingSettings(epochs=options.epochs),
            tuning=TuningSettings(trials=options.trials, time_budget_minutes=options.minutes),
        )
        files = prepare_demo(options.cache, options.data)
        with open_context(Run("nightly_training", "night"), settings) as night:
            ingest_file(night.engine, "items", files.items)
            ingest_file(night.engine, "feedback", files.first_feedback)
            ingest_file(night.engine, "feedback", files.fresh_feedback)
            run_stages((feedback.open_window, feedback.validate, feedback.take_full_snapshot), night)
        with open_context(Run("tune_recommender", "search"), settings) as context:
            try:
                for trial in SEARCH.begin(context):
                    SEARCH.run_trial(context, trial)
                decided = run_stages(SEARCH.until_decision, context)
                print(f"gate: {decided.decision.explanation}")
            except NothingToDoError as nothing:
                print(nothing)
            with context.engine.connect() as connection:
                for table in (searches, search_trials):
                    for row in connection.execute(sa.select(table)).mappings():
                        print({name: value for name, value in row.items() if name != "snapshot"})


if __name__ == "__main__":
    main()
