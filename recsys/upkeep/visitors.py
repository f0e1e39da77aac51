"""Retention of visitors: sessions that nobody has joined are deleted some time after their last feedback."""

import logging
from collections import Counter

import sqlalchemy as sa

from recsys.settings import Settings
from recsys.warehouse.advisory_locks import FEEDBACK_MOVES, SLATES_BY_DAY, block_partition_moves, lock
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import erasure_requests

_TOGETHER = 5_000

logger = logging.getLogger(__name__)


def delete_silent_visitors(engine: sa.Engine, settings: Settings) -> int:
    """Delete visitors who have been silent for `retention.visitors_days`, with their rows; return how many.

    Visitors are deleted in transactions of bounded size, so a killed call can be run again. The rows are
    counted under one entry of `erasure_requests`, so that past windows still reconcile. Models that have
    learned from these visitors stay: nobody has asked to be forgotten.
    """
    removed: Counter[str] = Counter()
    request_id: int | None = None
    seen = ""
    parameters = {
        "days": settings.retention.visitors_days,
        "visitor_consent": settings.privacy.visitor_consent,
        "limit": _TOGETHER,
    }
    while True:
        with engine.begin() as connection:
            visitors = connection.scalars(
                sa.text(read_statement("upkeep/select_expired_visitors")), {**parameters, "after": seen}
            ).all()
            if not visitors:
                break
            lock(connection, FEEDBACK_MOVES)
            lock(connection, SLATES_BY_DAY)
            block_partition_moves(connection)
            if request_id is None:
                request_id = connection.execute(
                    erasure_requests.insert()
                    .values(status="done", done_at=sa.func.clock_timestamp())
                    .returning(erasure_requests.c.request_id)
                ).scalar_one()
            gone = connection.execute(
                sa.text(read_statement("upkeep/delete_visitors")),
                {**parameters, "user_ids": list(visitors), "request_id": request_id},
            ).one()
            forget = sa.text(read_statement("upkeep/forget_changes_of_people"))
            connection.execute(forget, {"user_ids": list(visitors)})
            removed.update(dict(gone._mapping))
            connection.execute(
                erasure_requests.update()
                .where(erasure_requests.c.request_id == request_id)
                .values(
                    receipt={
                        "rows_removed": dict(removed),
                        "snapshots_rewritten": 0,
                        "snapshot_rows_removed": 0,
                        "evaluation_rows_removed": 0,
                    }
                )
            )
            seen = visitors[-1]
    if removed:
        logger.info("deleted %d silent visitors with %d events", removed["users"], removed["feedback"])
    return removed["users"]


def give_slates_to_users(engine: sa.Engine) -> int:
    """Give slates that were written during a login to the user who has logged in; return how many."""
    with engine.begin() as connection:
        return connection.execute(sa.text(read_statement("upkeep/give_slates_to_users"))).rowcount
