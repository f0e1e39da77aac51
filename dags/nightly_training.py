"""Every night: learn from all feedback, and promote the new model if it is sound."""

from datetime import timedelta

from airflow.sdk import dag

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
    schedule=on_schedule("0 3 * * *"),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=20),
    deadline=deadline(timedelta(hours=6)),
    default_args=DEFAULT_ARGS,
    on_failure_callback=alert_of_failure,
    params=INTERVAL_PARAMS,
    tags=["recommender", "training"],
    doc_md=__doc__
    + """
The window of new feedback is validated (rows that break a rule go to quarantine), all valid feedback
is snapshotted to Parquet, the language-model recommender is fine-tuned on it, compared on the held-out
latest feedback with the champion and the baselines, registered as `challenger`, and promoted when the
gate says so and, where the settings want it, a person approves. A run without new feedback ends as skipped.

*When a task fails*: its message names the remedy. Clearing it is safe: windows, snapshots, training
runs and registrations are found again, not made twice.
""",
)
def nightly_training() -> None:
    window = stage(stages.open_window)()
    valid = stage(stages.validate, links=[DataDocsLink()])(window)
    snapshot = stage(stages.take_full_snapshot)(valid)
    candidate = stage(
        stages.fine_tune,
        queue=GPU_QUEUE,
        pool=MODEL_WRITER_POOL,
        execution_timeout=timedelta(hours=8),
    )(snapshot)
    evaluated = stage(stages.evaluate)(candidate)
    challenger = stage(stages.register)(evaluated)
    decision = stage(stages.gate)(challenger)
    answer = ApprovePromotion(task_id="approve", decided=decision, within=timedelta(hours=8)).output
    stage(stages.promote, outlets=[CHAMPION], trigger_rule=AFTER_APPROVAL)(decision, answer)


nightly_training()
