"""When the champion changes: score users and swap their recommendations in one transaction."""

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
    schedule=[CHAMPION],
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    deadline=deadline(timedelta(hours=2)),
    default_args=DEFAULT_ARGS,
    on_failure_callback=alert_of_failure,
    params={
        "scope": Param(
            "auto",
            enum=["auto", "all", "affected"],
            title="Users",
            description="all, only those with feedback since the last publication, or as needed.",
        )
    },
    tags=["recommender", "publishing"],
    doc_md=__doc__
    + """
The top items of each user, without what the user has consumed and what is not available, replace the
published ones together with the user and item vectors: a reader sees the old state or the new one,
never half. Run it by hand with *Users* = `all` to score everybody anew.
""",
)
def publish_recommendations() -> None:
    stage(stages.publish)() >> stage(stages.refresh_analytics)()


publish_recommendations()
