"""When the champion changes: score users and swap their recommendations in one transaction."""

from datetime import timedelta

from airflow.sdk import Param, dag

from recsys.airflow.defaults import CHAMPION, DEFAULT_ARGS, START_DATE, alert_of_failure, deadline
from recsys.airflow.tasks import chain
from recsys.pipeline.order import PUBLISH


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
            description="all; affected: those with feedback since the last publication; auto: as needed.",
        )
    },
    tags=["recommender", "publishing"],
    doc_md=__doc__
    + """
Each user's top items, without consumed and unavailable ones, replace the published lists together with the
user and item vectors. A reader sees the old state or the new one, never half of it. Run it by hand with
*Users* = `all` to score everybody again.
""",
)
def publish_recommendations() -> None:
    chain(PUBLISH)


publish_recommendations()
