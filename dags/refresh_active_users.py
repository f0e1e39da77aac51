"""Every few minutes: new recommendations for users who have reacted, from the champion as it is."""

from datetime import timedelta

from airflow.sdk import dag

from recsys.airflow.defaults import DEFAULT_ARGS, START_DATE, alert_of_failure, deadline, every_few_minutes
from recsys.airflow.tasks import chain
from recsys.pipeline.order import REFRESH


@dag(
    schedule=every_few_minutes(),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=30),
    deadline=deadline(timedelta(minutes=15)),
    default_args=DEFAULT_ARGS | {"execution_timeout": timedelta(minutes=20)},
    on_failure_callback=alert_of_failure,
    tags=["recommender", "publishing"],
    doc_md=__doc__
    + """
Live interest orders a pool again as soon as somebody reacts, from what the last publication knew. This DAG
reads the histories of users with new feedback and replaces their pools. No model is trained. The feedback
passes the rules for single rows first; the expectations about whole windows wait for `hourly_micro_update`.

It is skipped, before a model is loaded, when nobody has reacted, another publication is running, or a new
champion waits for `publish_recommendations`. `RECSYS_PUBLISHING__REFRESH_MINUTES` sets how often it runs.
""",
)
def refresh_active_users() -> None:
    chain(REFRESH)


refresh_active_users()
