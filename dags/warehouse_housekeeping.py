"""Every day: partitions, erasure requests, retention, reconciliation."""

from datetime import timedelta

from airflow.sdk import dag

from recsys import pipeline as stages
from recsys.airflow.tasks import (
    DEFAULT_ARGS,
    START_DATE,
    alert_of_failure,
    deadline,
    on_schedule,
    stage,
)


@dag(
    schedule=on_schedule("30 1 * * *"),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=4),
    deadline=deadline(timedelta(hours=2)),
    default_args=DEFAULT_ARGS,
    on_failure_callback=alert_of_failure,
    tags=["recommender", "warehouse"],
    doc_md=__doc__
    + """
Makes the coming months' partitions, carries out erasure requests in tables and snapshots, removes what
retention says, mends the MLflow alias from the ledger when a crash came between the two, and alerts on
windows whose rows do not add up.
""",
)
def warehouse_housekeeping() -> None:
    stage(stages.keep_house)() >> stage(stages.refresh_analytics)()
    stage(stages.reconcile_registry)() >> stage(stages.prune_registry)()


warehouse_housekeeping()
