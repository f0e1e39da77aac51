"""When the champion changes, and when lists are old: swap the recommendations of users in one transaction."""

from datetime import timedelta

from airflow.sdk import Param, dag

from recsys.airflow.defaults import (
    DEFAULT_ARGS,
    START_DATE,
    alert_of_failure,
    deadline,
    on_champion_or_schedule,
    on_publishing_queue,
)
from recsys.airflow.tasks import for_each, stage
from recsys.pipeline.order import PUBLISH


@dag(
    schedule=on_champion_or_schedule("30 * * * *"),
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
            description="all; affected: those with feedback since the last publication; auto: as needed, "
            "and all when their lists are old.",
        )
    },
    tags=["recommender", "publishing"],
    doc_md=__doc__
    + """
Each user's top items, without consumed and unavailable ones, replace the published lists together with the
user and item vectors. A reader sees the old state or the new one, never half of it. Whatever the gate
decided, everybody gets a new list once a day, or as often as once an hour where what is wanted changes that
fast, so that new items reach users without new feedback (`RECSYS_PUBLISHING__EVERYONE_HOURS`). The lists of
what is trending and popular are computed first. Run it by hand with *Users* = `all` to score everybody again.

With more users than `RECSYS_PUBLISHING__USERS_PER_SHARD`, `publish` only plans. Each `stage_shard` scores its
share, on any worker, and `swap_shards` replaces everything in one transaction. With fewer, `publish` does it
all, and both are skipped. A failed shard can be cleared alone.
""",
)
def publish_recommendations() -> None:
    shards = stage(PUBLISH.publish)()
    swapped = stage(PUBLISH.swap_shards)(shards)
    for_each(PUBLISH.stage_shard, **on_publishing_queue())(shards) >> swapped
    for afterwards in PUBLISH.afterwards:
        # One of the two has published, and the other has nothing to do.
        [shards, swapped] >> stage(afterwards, trigger_rule="none_failed_min_one_success")()


publish_recommendations()
