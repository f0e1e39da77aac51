"""Every night: train on all feedback, and promote the new model if it passes the gate."""

from datetime import timedelta

from airflow.sdk import dag

from recsys.airflow.approval_operator import AFTER_APPROVAL, ApprovePromotion
from recsys.airflow.defaults import (
    BESIDE_ON_GPU,
    CHAMPION,
    DEFAULT_ARGS,
    INTERVAL_PARAMS,
    ON_GPU,
    START_DATE,
    WITH_DATA_DOCS,
    alert_of_failure,
    deadline,
    on_schedule,
    other_machines,
)
from recsys.airflow.tasks import chain, on_each_machine, stage
from recsys.pipeline.learning import assist_fine_tune
from recsys.pipeline.order import NIGHTLY


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
The window of new feedback is validated: rows that break a rule go to quarantine. All valid feedback is
snapshotted to Parquet, and the language-model recommender is fine-tuned on it. The candidate is compared with
the champion and the baselines on the latest feedback, which is held out, and registered as `challenger`.
It is promoted when the gate says so and, where the settings require it, a person approves. A run without new
feedback is skipped.

*When a task fails*, its message names the remedy. Clearing it is safe: windows, snapshots, training runs and
registrations are found again, not made twice.
""",
)
def nightly_training() -> None:
    limit = timedelta(hours=8)
    assist = on_each_machine(assist_fine_tune, other_machines(), **BESIDE_ON_GPU, execution_timeout=limit)
    decision = chain(
        NIGHTLY.until_decision,
        beside={"fine_tune": assist},
        validate=WITH_DATA_DOCS,
        fine_tune={**ON_GPU, "execution_timeout": limit},
    )
    answer = ApprovePromotion(task_id="approve", decided=decision, within=timedelta(hours=8)).output
    stage(NIGHTLY.promote, outlets=[CHAMPION], trigger_rule=AFTER_APPROVAL)(decision, answer)


nightly_training()
