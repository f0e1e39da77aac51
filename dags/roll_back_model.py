"""By hand: make an earlier model version champion again."""

from datetime import timedelta

from airflow.sdk import Param, dag

from recsys.airflow.defaults import CHAMPION, DEFAULT_ARGS, START_DATE, alert_of_failure, deadline
from recsys.airflow.tasks import chain
from recsys.pipeline.order import ROLL_BACK


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
            description="Number of the version in the MLflow registry; empty: the previous champion.",
        ),
        "reason": Param(
            type="string",
            minLength=1,
            title="Reason",
            description="Why; the ledger keeps it.",
        ),
    },
    tags=["recommender", "registry"],
    doc_md=__doc__
    + """
The ledger records who asked and why. The recommendations and vectors of the restored champion are published
at once. The version that was rolled back stays in the registry.
""",
)
def roll_back_model() -> None:
    chain(ROLL_BACK, roll_back={"outlets": [CHAMPION]})


roll_back_model()
