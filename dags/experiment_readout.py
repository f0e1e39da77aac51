"""Every hour: what users say about the version of the running experiment."""

from datetime import timedelta

from airflow.sdk import dag

from recsys.airflow.defaults import (
    CHAMPION,
    DEFAULT_ARGS,
    START_DATE,
    alert_of_failure,
    deadline,
    on_schedule,
)
from recsys.airflow.tasks import chain
from recsys.pipeline.order import EXPERIMENT


@dag(
    schedule=on_schedule("0 * * * *"),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    deadline=deadline(timedelta(minutes=50)),
    default_args=DEFAULT_ARGS,
    on_failure_callback=alert_of_failure,
    tags=["recommender", "experiments"],
    doc_md=__doc__
    + """
Reads what the users of each arm did until now, with error rates that hold for all looks together, and
ends the experiment when that decides: the challenger is better, it is worse, a guardrail breaks, users do not
appear in the planned shares, or the time is over. The ledger keeps the evidence. The next publication, at
the end of `hourly_micro_update` or by `publish_recommendations`, gives all users the champion's lists again.
With `RECSYS_GATE__REQUIRE_EXPERIMENT` a challenger that won becomes champion. Skipped when no experiment is
running.
""",
)
def experiment_readout() -> None:
    chain(EXPERIMENT, promote_winner={"outlets": [CHAMPION]})


experiment_readout()
