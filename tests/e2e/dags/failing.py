"""A task that fails on somebody's event, which it has read from the warehouse."""

import sqlalchemy as sa
from airflow.sdk import dag

from recsys.airflow.defaults import DEFAULT_ARGS, START_DATE, alert_of_failure
from recsys.airflow.tasks import stage
from recsys.pipeline.context import Context
from recsys.warehouse.tables import feedback

_COLUMNS = ("event_id", "user_id", "item_id", "comment", "occurred_at")


def insert_bad_row(context: Context) -> None:
    """Insert an event again, without a type."""
    columns = [feedback.c[name] for name in _COLUMNS]
    with context.engine.begin() as connection:
        found = connection.execute(sa.select(*columns).where(feedback.c.comment.is_not(None)).limit(1)).one()
        connection.execute(sa.insert(feedback), {**found._mapping, "event_type": None})


@dag(
    schedule=None,
    start_date=START_DATE,
    default_args={**DEFAULT_ARGS, "retries": 0},
    on_failure_callback=alert_of_failure,
)
def failing() -> None:
    stage(insert_bad_row)()


failing()
