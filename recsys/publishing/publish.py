"""Publish the champion: score users, then replace lists and vectors in one transaction."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from recsys.errors import NothingToDoError, PublicationConflictError
from recsys.memory import require_memory
from recsys.promotion import ledger
from recsys.promotion.ledger import Champion
from recsys.publishing.comment_sentiment import stage_comment_sentiment
from recsys.publishing.exploration import publication_seed
from recsys.publishing.histories import (
    HISTORY_EVENTS,
    count_items,
    read_catalogue,
    read_histories,
    read_horizon,
)
from recsys.publishing.pools import PoolWriter
from recsys.publishing.score import BatchScorer, score_batches
from recsys.publishing.servable import Servable, load_servable
from recsys.publishing.staging import (
    ChangedItems,
    empty_staging,
    publishing_session,
    stage_catalogue,
    stage_items,
    stage_lists,
    stage_users,
    stage_vectors,
)
from recsys.settings import Settings
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import publications

logger = logging.getLogger(__name__)

Scope = Literal["all", "affected"]
BATCH_USERS = 1_024
"""Users read and staged at a time; `BatchScorer` bounds memory by splitting a batch into blocks."""
_MOST_CHANGED_TITLES = 100
"""With more, all lists are published anew: to look for each title in all reasons would take longer."""
_ATTEMPTS = 2
FORGET_READ_FEEDBACK = "publishing/delete_read_feedback"
"""Last statement of a swap: it reads the new lists, and a login waits for what it deletes."""
_SWAP = (
    "publishing/delete_stale_lists",
    "publishing/delete_stale_user_vectors",
    "publishing/delete_stale_item_vectors",
    "publishing/delete_stale_comment_sentiment",
    "publishing/delete_stale_published_items",
    "publishing/delete_old_item_changes",
    "publishing/merge_into_recommendation_lists",
    "publishing/merge_into_user_vectors",
    "publishing/merge_into_item_vectors",
    "publishing/merge_into_comment_sentiment",
    "publishing/merge_into_published_items",
    FORGET_READ_FEEDBACK,
)


@dataclass(frozen=True)
class PublishSummary:
    """What was published."""

    publication_id: int
    model_version: str
    scope: Scope
    users: int
    items: int
    seconds: float


def publish(
    engine: sa.Engine,
    settings: Settings,
    *,
    scope: Literal["all", "affected", "auto"] = "auto",
    run_key: str,
    load: Callable[[Settings, str], Servable] = load_servable,
    now: datetime | None = None,
    everyone_after: timedelta | None = None,
) -> PublishSummary:
    """Score users with the champion and replace what they see.

    Readers see either the old lists and vectors or the new ones, never a mixture. If the process is killed
    before the end, nothing changes. Only one publication runs at a time; others wait.

    Parameters
    ----------
    scope
        `all`: every user; lists of deleted users are removed. `affected`: users with feedback newer than
        the last publication, new users, and users whose list shows an unavailable item or may name an item by
        a title that has changed; other users keep their lists. `auto`: `affected` if the champion is the
        published version or a micro-update of it and `everyone_after` has not passed, otherwise `all`.
        Whatever the scope, vectors of new and changed items are published, and those of withdrawn items are
        removed.
    run_key
        Identifies the run. If a publication with this key exists, it is returned.
    load
        Loads a model version; by default from MLflow.
    now
        Time for which it is decided what is off a user's list and what is available; default: the clock's.

    everyone_after
        Age of the last publication for everybody at which `auto` publishes for everybody again, so that new
        items reach users without new feedback; None: never for its age.

    Raises
    ------
    NothingToDoError
        There is no champion or no item, or no user is affected and no item has changed.
    PublicationConflictError
        The champion changed twice while users were being scored.
    ConfigurationError
        The catalogue does not fit into memory.
    """
    started, moment = time.monotonic(), now or datetime.now(UTC)
    with publishing_session(engine) as connection:
        recorded = published_by(connection, run_key)
        if recorded is not None:
            return summarise(recorded, started)
        for _ in range(_ATTEMPTS):
            champion = ledger.champion(engine)
            if champion is None:
                raise NothingToDoError("there is no champion to publish yet; run nightly_training first")
            servable = load(settings, champion.model_version)
            last = last_publication(connection)
            changed = stage_catalogue(connection, at=moment)
            everyone = (
                last is None
                or scope == "all"
                or changed.titles > _MOST_CHANGED_TITLES
                or (scope == "auto" and not _continues(champion, servable, last))
                or (
                    scope == "auto"
                    and everyone_after is not None
                    and not _everyone_since(connection, moment - everyone_after)
                )
            )
            through = _stage(
                connection, settings, servable, champion, last, changed, everyone, run_key, moment
            )
            publication = swap(engine, connection, champion, run_key, _SWAP, through, everyone)
            if publication is not None:
                summary = summarise(publication, started)
                logger.info("published %s", summary)
                return summary
            logger.warning("version %s was replaced as champion during scoring", champion.model_version)
            empty_staging(connection)
    raise PublicationConflictError("the champion changed twice during scoring; publish again")


def last_publication(connection: sa.Connection) -> sa.Row[Any] | None:
    """Return the newest row of `publications`."""
    newest_first = publications.c.publication_id.desc()
    return connection.execute(sa.select(publications).order_by(newest_first).limit(1)).first()


def published_by(connection: sa.Connection, run_key: str) -> sa.Row[Any] | None:
    """Return the publication of a run that has published already."""
    recorded = connection.execute(sa.select(publications).where(publications.c.run_key == run_key)).first()
    if recorded is not None:
        logger.info("run %s is already published", run_key)
    return recorded


def _everyone_since(connection: sa.Connection, moment: datetime) -> bool:
    """Return whether a publication since then was for everybody."""
    found = sa.select(publications.c.publication_id).where(
        publications.c.scope == "all", publications.c.published_at > moment
    )
    return connection.execute(found.limit(1)).first() is not None


def _continues(champion: Champion, servable: Servable, last: sa.Row[Any]) -> bool:
    """Return whether users without new feedback may keep their published lists."""
    if champion.model_version == last.model_version:
        return True
    micro_update = servable.kind == "micro" and servable.parent == last.model_version
    return micro_update and champion.action == "promote"


def _stage(
    connection: sa.Connection,
    settings: Settings,
    servable: Servable,
    champion: Champion,
    last: sa.Row[Any] | None,
    changed: ChangedItems,
    everyone: bool,
    run_key: str,
    moment: datetime,
) -> int:
    """Fill the staging tables; return the transaction id up to which feedback was read (exclusive)."""
    through = read_horizon(connection)
    items = count_items(connection)
    if items == 0:
        raise NothingToDoError("there are no items to recommend; load some with `recsys ingest items FILE`")
    require_memory(
        f"publishing {items} items with version {champion.model_version}",
        servable.model.serving_bytes(items),
        "remove items that are no longer needed from the table items",
    )
    catalogue = read_catalogue(connection)
    since = 0 if last is None else last.through_transaction_id
    users = stage_users(
        connection,
        everyone=everyone,
        since_transaction_id=since,
        at=moment,
        visitors=settings.publishing.visitors,
    )
    nothing_new = users == 0 and not everyone and not changed.vectors
    if nothing_new and last is not None and last.model_version == champion.model_version:
        raise NothingToDoError(
            f"no user has feedback newer than publication {last.publication_id}, and no item has changed"
        )
    logger.info(
        "scoring %d users (%s) and %d items with version %s",
        users,
        "all" if everyone else "affected",
        len(catalogue),
        champion.model_version,
    )
    model = servable.model.with_catalogue(catalogue)
    scorer = BatchScorer(model, settings.publishing, servable.explain, moment)
    stage_items(connection, catalogue, scorer.scorer.item_vectors, at=moment)
    if everyone:
        stage_comment_sentiment(connection, model, settings.publishing, through_transaction_id=through)
    stage_scores(connection, settings, scorer, users=users, through=through, run_key=run_key, moment=moment)
    return through


def stage_scores(
    connection: sa.Connection,
    settings: Settings,
    scorer: BatchScorer,
    *,
    users: int,
    through: int,
    run_key: str,
    moment: datetime,
) -> None:
    """Score the staged users and stage their lists, pools and vectors.

    Parameters
    ----------
    users
        Number of staged users.
    through
        The model reads feedback with lower transaction ids.
    run_key, moment
        As in `publish`.
    """
    model = scorer.model
    batches = read_histories(
        connection,
        model.catalogue,
        model.event_types,
        users=users,
        batch_users=BATCH_USERS,
        max_events=max(HISTORY_EVENTS, model.settings.max_events),
        through_transaction_id=through,
        publication_seed=publication_seed(run_key) if settings.publishing.exploration.share else None,
        at=moment,
    )
    pools = PoolWriter(connection, model.catalogue)
    for batch in score_batches(scorer, batches, users=users):
        stage_lists(connection, batch, model.catalogue)
        pools.stage(batch)
        stage_vectors(connection, "staged_user_vectors", batch.first, batch.user_vectors)


def swap(
    engine: sa.Engine,
    connection: sa.Connection,
    champion: Champion,
    run_key: str,
    statements: Sequence[str],
    through: int,
    everyone: bool,
) -> sa.Row[Any] | None:
    """Replace what is published with what is staged, unless the champion has changed; return the publication.

    Parameters
    ----------
    statements
        Names of the statements that replace it, in order.
    through
        Feedback with lower transaction ids was read.
    """
    with connection.begin() as transaction:
        if ledger.champion(engine) != champion:
            transaction.rollback()
            return None
        parameters: dict[str, Any] = {
            "run_key": run_key,
            "model_version": champion.model_version,
            "scope": "all" if everyone else "affected",
            "everyone": everyone,
            "through_transaction_id": through,
        }
        publication = connection.execute(
            sa.text(read_statement("publishing/insert_publication")), parameters
        ).one()
        parameters["publication_id"] = publication.publication_id
        for name in statements:
            connection.execute(sa.text(read_statement(name)), parameters)
        # The swap takes a while, so check again. A later change triggers its own publication.
        if ledger.champion(engine) != champion:
            transaction.rollback()
            return None
    return publication


def summarise(publication: sa.Row[Any], started: float) -> PublishSummary:
    """Return what a row of `publications` says."""
    return PublishSummary(
        publication_id=publication.publication_id,
        model_version=publication.model_version,
        scope=publication.scope,
        users=publication.users,
        items=publication.items,
        seconds=round(time.monotonic() - started, 3),
    )
