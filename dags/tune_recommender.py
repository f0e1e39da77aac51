"""Every week: search for better settings, and promote a model trained with them if it passes the gate."""

from datetime import timedelta

from airflow.sdk import dag

from recsys.airflow.approval_operator import AFTER_APPROVAL, ApprovePromotion
from recsys.airflow.defaults import (
    BESIDE_ON_GPU,
    CHAMPION,
    DEFAULT_ARGS,
    START_DATE,
    alert_of_failure,
    deadline,
    on_schedule,
    trials_at_once,
)
from recsys.airflow.tasks import chain, for_each, stage
from recsys.pipeline.order import SEARCH


@dag(
    schedule=on_schedule("0 8 * * 6"),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=36),
    deadline=deadline(timedelta(hours=24)),
    default_args=DEFAULT_ARGS,
    on_failure_callback=alert_of_failure,
    tags=["recommender", "training"],
    doc_md=__doc__
    + """
Each trial trains on the newest full snapshot with other settings and is validated on half of the users; the
first one has the settings in force. A trial whose validation falls behind is ended. The best model is
compared with that of the settings in force on the other half of the users. Only if it is better there does it
go on to evaluation, the gate and, where the settings require it, a person, like the candidate of any night.
Nights train with its settings while it, or a model trained like it, is champion. What is set in the
environment always wins.

*When a task fails*, its message names the remedy. Clearing it is safe: a trial keeps its settings and goes on
after its last epoch. A search without a better trial ends as skipped, with the figures.
""",
)
def tune_recommender() -> None:
    limit = {"execution_timeout": timedelta(hours=8), "max_active_tis_per_dagrun": trials_at_once()}
    trials = for_each(SEARCH.run_trial, **BESIDE_ON_GPU, **limit)(stage(SEARCH.begin)())
    decision = chain(SEARCH.until_decision, trials)
    answer = ApprovePromotion(task_id="approve", decided=decision, within=timedelta(hours=8)).output
    stage(SEARCH.promote, outlets=[CHAMPION], trigger_rule=AFTER_APPROVAL)(decision, answer)


tune_recommender()
