"""By hand: make an earlier model version champion again."""

from datetime import timedelta

from airflow.sdk import Param, dag

from recsys import pipeline as stages
from recsys.airflow.tasks import (
    CHAMPION,
    DEFAULT_ARGS,
    START_DATE,
    alert_of_failure,
    deadline,
    stage,
)


@dag(
    schedule=None,
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    deadline=deadline(timedelta(minutes=30)),
    default_args=DEFAULT_ARGS,
    on_failure_callback=alert_of_failure,
    params={
        "version": Param(
            None,
            type=["null", "string"],
            title="Version",
            description="Number of the version in the MLflow registry; empty: the champion before this one.",
        ),
        "reason": Param(
            type="string",
            minLength=1,
            title="Reason",
            description="Why; it is kept in the ledger.",
        ),
    },
    tags=["recommender", "registry"],
    doc_md=__doc__
    + """
The ledger records who asked and why; the champion's recommendations and vectors are published again at
once. The version rolled back from stays in the registry.
""",
)
def roll_back_model() -> None:
    stage(stages.roll_back, outlets=[CHAMPION])()


roll_back_model()
