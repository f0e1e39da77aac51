"""Read one user's published recommendations, or rank items for a natural-language request."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from recsys.errors import NothingToDoError, WarehouseError
from recsys.promotion import ledger
from recsys.publishing.histories import read_catalogue
from recsys.publishing.requests import RequestRanker
from recsys.publishing.servable import Servable, load_servable
from recsys.settings import Settings
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import recommendation_lists, users


@dataclass(frozen=True)
class Recommendation:
    """One recommended item."""

    rank: int
    item_id: str
    title: str
    score: float
    reason: str


@dataclass(frozen=True)
class RecommendationList:
    """Recommendations for one user; `published_at` is None if they were made for a request."""

    model_version: str
    published_at: datetime | None
    recommendations: list[Recommendation]


def has_list(engine: sa.Engine, user_id: str) -> bool:
    """Return whether a list is published for a user."""
    query = sa.select(recommendation_lists.c.user_id).where(recommendation_lists.c.user_id == user_id)
    with engine.connect() as connection:
        return connection.execute(query).first() is not None


def published_recommendations(engine: sa.Engine, user_id: str, k: int) -> RecommendationList:
    """Return the first k items of a user's published list; none if the user has had all available items.

    Raises
    ------
    WarehouseError
        The user is unknown, or nothing is published for them yet.
    """
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(read_statement("publishing/select_recommendations")), {"user_id": user_id, "k": k}
        ).all()
        published = connection.execute(
            sa.select(recommendation_lists.c.model_version, recommendation_lists.c.published_at).where(
                recommendation_lists.c.user_id == user_id
            )
        ).first()
        known = connection.execute(sa.select(users.c.user_id).where(users.c.user_id == user_id)).first()
    if known is None:
        raise _unknown(user_id)
    if published is None:
        raise WarehouseError(
            f"no recommendations are published for user {user_id!r} yet; trigger publish_recommendations"
        )
    return RecommendationList(
        published.model_version,
        published.published_at,
        [
            Recommendation(row.rank, row.item_id, row.title or row.item_id, row.score, row.reason or "")
            for row in rows
        ],
    )


def requested_recommendations(
    engine: sa.Engine,
    settings: Settings,
    user_id: str,
    request: str,
    k: int,
    load: Callable[[Settings, str], Servable] = load_servable,
) -> RecommendationList:
    """Let the champion rank k items for a user and, unless it is empty, a request; publish nothing.

    The request is in natural language.

    Raises
    ------
    WarehouseError
        The user is unknown.
    NothingToDoError
        There is no champion.
    """
    champion = ledger.champion(engine)
    if champion is None:
        raise NothingToDoError("there is no champion yet; run nightly_training first")
    servable = load(settings, champion.model_version)
    with engine.connect() as connection:
        catalogue = read_catalogue(connection)
    ranker = RequestRanker(servable, catalogue, settings.publishing.model_copy(update={"k": k, "pool": k}))
    history = ranker.read_history(engine, user_id)
    if history is None:
        raise _unknown(user_id)
    ranked = ranker.rank(history, request)
    reasons = ranker.reasons(history, ranked)
    return RecommendationList(
        champion.model_version,
        None,
        [
            Recommendation(rank, item.item_id, item.title, item.score, reason)
            for rank, (item, reason) in enumerate(zip(ranked, reasons, strict=True), start=1)
        ],
    )


def _unknown(user_id: str) -> WarehouseError:
    return WarehouseError(f"user {user_id!r} is not in this warehouse (table users)")
