"""Every hour: train the champion on fresh feedback without letting it forget."""

from datetime import timedelta

from airflow.sdk import TriggerRule, dag

from recsys.airflow.approval_operator import AFTER_APPROVAL, ApprovePromotion
from recsys.airflow.defaults import (
    CHAMPION,
    DEFAULT_ARGS,
    INTERVAL_PARAMS,
    ON_GPU,
    START_DATE,
    WITH_DATA_DOCS,
    alert_of_failure,
    deadline,
    on_schedule,
)
from recsys.airflow.tasks import chain, stage
from recsys.pipeline.order import HOURLY


@dag(
    schedule=on_schedule("0 * * * *"),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    deadline=deadline(timedelta(minutes=50)),
    default_args=DEFAULT_ARGS | {"execution_timeout": timedelta(minutes=45)},
    on_failure_callback=alert_of_failure,
    params=INTERVAL_PARAMS,
    tags=["recommender", "training"],
    doc_md=__doc__
    + """
Feedback that the champion has not trained on is validated and snapshotted, together with older feedback to
replay and with guard users on whom forgetting is measured. A copy of the champion is trained on it with a
small learning rate. It replaces the champion when it is not worse on the newest events and has not forgotten.
With too little fresh feedback, or without a champion, training is skipped and the feedback waits for the next
run. Users with new feedback get new recommendations every hour, also when the champion stays, and the stored
analytics views are refreshed afterwards.
""",
)
def hourly_micro_update() -> None:
    decision = chain(HOURLY.until_decision, validate=WITH_DATA_DOCS, micro_update=ON_GPU)
    answer = ApprovePromotion(task_id="approve", decided=decision, within=timedelta(minutes=45)).output
    promoted = stage(HOURLY.promote, outlets=[CHAMPION], trigger_rule=AFTER_APPROVAL)(decision, answer)
    chain(HOURLY.afterwards, promoted, refresh_users={"trigger_rule": TriggerRule.NONE_FAILED})


hourly_micro_update()
