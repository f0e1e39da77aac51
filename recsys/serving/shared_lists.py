"""Lists for everybody: what is trending, what is popular, both by segment, and what goes together."""

import logging
import math
from datetime import datetime, timedelta

import sqlalchemy as sa

from recsys.publishing.histories import read_horizon
from recsys.settings import ServingSettings
from recsys.warehouse.advisory_locks import lock
from recsys.warehouse.analytics import MIN_PEOPLE
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import item_lists, model_versions, publications, shared_lists

logger = logging.getLogger(__name__)

LENGTH = 500
"""Items of a shared list: filters and what somebody has had leave enough of them."""
MOST_SEGMENTS = 1_000
_MOST_HALF_LIVES = 100
"""With more of them, the weight of an event is too small for a number of Postgres' type `real`."""
_POPULAR_FOR = timedelta(hours=20)
"""What is popular of all time, and what goes together, is counted over the whole log, once a day."""
FAST_DAYS = 1.0
"""Half-life of what is trending up to which minutes matter."""
_EVENTS_PER_PERSON = 50
_NEIGHBOURS = 100


def refresh_shared_lists(engine: sa.Engine, settings: ServingSettings, *, at: datetime) -> list[str]:
    """Compute the lists that depend on time again; return the kinds that are new.

    Readers see the old lists or the new ones. A killed refresh changes nothing, and of two at once the second
    waits.

    Parameters
    ----------
    at
        Later feedback is not counted.
    """
    renewed, through = [], _horizon(engine)
    for kind, days in (("trending", settings.trending_days), ("popular", None)):
        with engine.begin() as connection:
            lock(connection, "refresh_shared_lists")
            if days is None and _computed_since(connection, kind, at - _POPULAR_FOR):
                continue
            made = compute_shared_lists(connection, settings, kind, days, at=at, through=through)
            if days is None:
                compute_item_lists(connection, at, through)
        renewed.append(kind)
        _say(settings, kind, made)
    return renewed


def refresh_fast_trends(engine: sa.Engine, settings: ServingSettings, *, at: datetime) -> bool:
    """Compute what is trending again if it has a half-life of a day or less; return whether it has.

    `at` and two at once: as in `refresh_shared_lists`.
    """
    with engine.connect() as connection:
        if published_half_life_days(connection) > FAST_DAYS:
            return False
    through = _horizon(engine)
    with engine.begin() as connection:
        lock(connection, "refresh_shared_lists")
        days = settings.trending_days
        made = compute_shared_lists(connection, settings, "trending", days, at=at, through=through)
    _say(settings, "trending", made)
    return True


def _horizon(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return read_horizon(connection)


def _say(settings: ServingSettings, kind: str, made: int) -> None:
    if made > MOST_SEGMENTS:  # the list of all users is one more
        logger.warning(
            "the attribute %r of users has very many values; the %d that most people share have "
            "lists of their own. RECSYS_SERVING__SEGMENT_ATTRIBUTE should name one with fewer values",
            settings.segment_attribute,
            MOST_SEGMENTS,
        )
    logger.info("computed %d lists of what is %s", made, kind)


def compute_shared_lists(
    connection: sa.Connection,
    settings: ServingSettings,
    kind: str,
    days: float | None,
    *,
    at: datetime,
    through: int,
) -> int:
    """Replace the lists of a kind; return how many there are.

    Parameters
    ----------
    days
        Days before the newest event that count; None: all. An event counts half after a quarter of them, or
        after the half-life of the published model if that is shorter.
    at, through
        Feedback until this time and below this transaction id counts.
    """
    half_life_days = None
    if days is not None:
        half_life_days = min(days / 4, published_half_life_days(connection))
        days = min(days, _MOST_HALF_LIVES * half_life_days)
    connection.execute(shared_lists.delete().where(shared_lists.c.kind == kind))
    return connection.execute(
        sa.text(read_statement("serving/compute_shared_lists")),
        {
            "kind": kind,
            "at": at,
            "days": days,
            "half_life_days": half_life_days,
            "through_transaction_id": through,
            "attribute": settings.segment_attribute,
            "least_people": MIN_PEOPLE,
            "length": LENGTH,
            "most_segments": MOST_SEGMENTS,
        },
    ).rowcount


def published_half_life_days(connection: sa.Connection) -> float:
    """Return the days after which an event counts half for what is trending, as the published model found.

    Infinite if nothing is published, or a version that has not looked for it.
    """
    newest = sa.select(publications.c.model_version).order_by(publications.c.publication_id.desc()).limit(1)
    found = sa.select(model_versions.c.live_trending_half_life_days).where(
        model_versions.c.model_version == newest.scalar_subquery()
    )
    return float(connection.scalar(found) or math.inf)


def _computed_since(connection: sa.Connection, kind: str, moment: datetime) -> bool:
    found = sa.select(shared_lists.c.kind).where(
        shared_lists.c.kind == kind, shared_lists.c.computed_at > moment
    )
    return connection.execute(found.limit(1)).first() is not None


def compute_item_lists(connection: sa.Connection, at: datetime, through: int) -> None:
    """Compute what goes together again, from feedback until a time and below a transaction id."""
    connection.execute(item_lists.delete().where(item_lists.c.kind.in_(("together", "next"))))
    connection.execute(
        sa.text(read_statement("serving/compute_item_lists")),
        {
            "at": at,
            "through_transaction_id": through,
            "least_people": MIN_PEOPLE,
            "events": _EVENTS_PER_PERSON,
            "length": _NEIGHBOURS,
        },
    )
