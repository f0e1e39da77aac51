"""Every hour, if a language model is configured: short texts about new lists and about comments."""

from datetime import timedelta

from airflow.sdk import dag

from recsys.airflow.defaults import DEFAULT_ARGS, START_DATE, after_publications, alert_of_failure, deadline
from recsys.airflow.tasks import chain
from recsys.pipeline.order import SUMMARIES


@dag(
    schedule=after_publications(),
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    deadline=deadline(timedelta(hours=5)),
    default_args=DEFAULT_ARGS | {"execution_timeout": timedelta(hours=5)},
    on_failure_callback=alert_of_failure,
    tags=["recommender", "publishing"],
    doc_md=__doc__
    + """
A language model says why a user is shown a list, and what people praise and criticise about an item. It is
told titles, attributes, reasons and phrases, and neither ids nor comments. A guard refuses what it was not
told. Lists never wait for it: where there is no text, `serving.summary` and `serving.item_summary` answer
from templates.

It runs if `RECSYS_SUMMARIES__WRITER` names a model, and ends after `RECSYS_SUMMARIES__MINUTES`; what is left
is written by the next run. A model that does not answer is alerted of once.
""",
)
def write_summaries() -> None:
    chain(SUMMARIES)


write_summaries()
