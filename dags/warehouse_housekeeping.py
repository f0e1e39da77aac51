"""Every day: partitions, erasure requests, retention, reconciliation, monitoring."""

from datetime import timedelta

from airflow.sdk import dag

from recsys.airflow.defaults import DEFAULT_ARGS, START_DATE, alert_of_failure, deadline, on_schedule
from recsys.airflow.tasks import chain
from recsys.pipeline.order import MONITORING, REGISTRY_UPKEEP, WAREHOUSE_UPKEEP


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
Creates the partitions of the coming months, carries out erasure requests in tables and snapshots, removes
what is past its retention, repairs the MLflow alias from the ledger after a crash between the two, and alerts
on windows whose rows do not add up. Afterwards new comments are read: what people praise and criticise about
items. Monitoring alerts on old lists, drift of feedback, fewer responses,
items that are suddenly disliked and a slow decline of the champion, once for each cause.
""",
)
def warehouse_housekeeping() -> None:
    chain(WAREHOUSE_UPKEEP)
    chain(MONITORING)
    chain(REGISTRY_UPKEEP)


warehouse_housekeeping()
