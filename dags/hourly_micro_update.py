"""Every hour: teach the champion the fresh feedback without letting it forget."""

from datetime import timedelta

from airflow.sdk import TriggerRule, dag

from recsys import pipeline as stages
from recsys.airflow.approval_operator import AFTER_APPROVAL, ApprovePromotion
from recsys.airflow.tasks import (
    CHAMPION,
    DEFAULT_ARGS,
    GPU_QUEUE,
    INTERVAL_PARAMS,
    MODEL_WRITER_POOL,
    START_DATE,
    DataDocsLink,
    alert_of_failure,
    deadline,
    on_schedule,
    stage,
)


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
What the champion has not trained on yet is validated and snapshotted together with older feedback to
replay and with guard users on whom forgetting is measured. The champion's copy learns it with a small
learning rate, and replaces the champion when it is no worse on the newest events and has not
forgotten. Too little fresh feedback, or no champion yet, ends the training as skipped; the feedback stays
for the next run. Whoever gave feedback gets new recommendations every hour, from the champion as it is
when nothing replaces it, and the stored analytics views are refreshed after them.
""",
)
def hourly_micro_update() -> None:
    window = stage(stages.open_window)()
    valid = stage(stages.validate, links=[DataDocsLink()])(window)
    snapshot = stage(stages.take_micro_snapshot)(valid)
    candidate = stage(stages.micro_update, queue=GPU_QUEUE, pool=MODEL_WRITER_POOL)(snapshot)
    evaluated = stage(stages.evaluate)(candidate)
    challenger = stage(stages.register)(evaluated)
    decision = stage(stages.gate)(challenger)
    answer = ApprovePromotion(task_id="approve", decided=decision, within=timedelta(minutes=45)).output
    promoted = stage(stages.promote, outlets=[CHAMPION], trigger_rule=AFTER_APPROVAL)(decision, answer)
    # Also when there was too little feedback to learn from, or the update was held.
    refreshed = stage(stages.refresh_users, trigger_rule=TriggerRule.NONE_FAILED)(promoted)
    refreshed >> stage(stages.refresh_analytics)()


hourly_micro_update()
