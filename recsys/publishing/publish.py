"""Publish the champion: score users, then replace lists and vectors in one transaction."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from recsys.errors import PublicationConflictError
from recsys.promotion import ledger
from recsys.promotion.ledger import Champion
from recsys.publishing.arms import Challenger, divide, running_experiment
from recsys.publishing.comment_sentiment import stage_comment_sentiment
from recsys.publishing.exploration import publication_seed
from recsys.publishing.histories import HISTORY_EVENTS, UserBatch, read_catalogue, read_histories
from recsys.publishing.interleaving import score_interleaved
from recsys.publishing.lists import ListWriter
from recsys.publishing.prepare import Prepared, prepare, published_by
from recsys.publishing.score import BatchScorer, ServingModel, score_batches
from recsys.publishing.servable import Servable, load_servable
from recsys.publishing.similar_items import keep_similar_items, stage_similar_items
from recsys.publishing.staging import (
    empty_staging,
    publishing_session,
    stage_items,
    stage_vectors,
)
from recsys.settings import Settings
from recsys.snapshot.catalogue import Catalogue
from recsys.snapshot.sequences import microseconds
from recsys.warehouse.statements import read_statement

logger = logging.getLogger(__name__)

Scope = Literal["all", "affected"]
BATCH_USERS = 1_024
"""Users read and staged at a time; `BatchScorer` bounds memory by splitting a batch into blocks."""
_ATTEMPTS = 2
FORGET_READ_FEEDBACK = "publishing/delete_read_feedback"
"""Last statement of a swap: it reads the new lists, and a login waits for what it deletes."""
SWAP = (
    "publishing/delete_stale_lists",
    "publishing/delete_stale_user_vectors",
    "publishing/delete_stale_item_vectors",
    "publishing/delete_stale_similar_items",
    "publishing/delete_stale_comment_sentiment",
    "publishing/delete_stale_published_items",
    "publishing/delete_old_item_changes",
    "publishing/merge_into_recommendation_lists",
    "publishing/keep_interleaved_lists",
    "publishing/merge_into_user_vectors",
    "publishing/merge_into_item_vectors",
    "publishing/merge_into_similar_items",
    "publishing/merge_into_comment_sentiment",
    "publishing/merge_into_published_items",
    "publishing/note_experiment",
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
            prepared = prepare(
                engine,
                connection,
                settings,
                scope=scope,
                load=load,
                moment=moment,
                everyone_after=everyone_after,
            )
            publication = publish_prepared(engine, connection, settings, prepared, run_key)
            if publication is not None:
                return summarise(publication, started)
    raise PublicationConflictError("the champion changed twice during scoring; publish again")


def publish_prepared(
    engine: sa.Engine, connection: sa.Connection, settings: Settings, prepared: Prepared, run_key: str
) -> sa.Row[Any] | None:
    """Score the staged users in this session and swap; return the publication.

    If the champion has changed meanwhile, the staging tables are emptied and None is returned.
    """
    catalogue = read_catalogue(connection)
    model, device = prepared.servable.on_catalogue(catalogue)
    scorer = BatchScorer(model, settings.publishing, prepared.servable.explain, prepared.moment)
    stage_catalogue_vectors(connection, settings, prepared, scorer, device)
    stage_arms(
        connection,
        settings,
        scorer,
        prepared.challenger,
        catalogue,
        users=prepared.users,
        through=prepared.through,
        run_key=run_key,
        moment=prepared.moment,
    )
    publication = swap(
        engine,
        connection,
        prepared.champion,
        run_key,
        SWAP,
        prepared.through,
        prepared.everyone,
        prepared.experiment_id,
    )
    if publication is None:
        logger.warning(
            "the champion, version %s, or the running experiment has changed during scoring",
            prepared.champion.model_version,
        )
        empty_staging(connection)
    return publication


def stage_catalogue_vectors(
    connection: sa.Connection, settings: Settings, prepared: Prepared, scorer: BatchScorer, device: str
) -> None:
    """Stage what depends on the items of a scorer only; what is similar is found on the device."""
    model = scorer.model
    available = model.catalogue.available_at(microseconds(prepared.moment))
    item_ids, vectors = model.catalogue.item_ids[available].tolist(), scorer.scorer.item_vectors[available]
    with connection.begin():
        stage_items(connection, item_ids, vectors)
    if len(item_ids) > settings.publishing.similar_items:
        logger.info(
            "%d items are too many to list what is similar to each: readers look for it", len(item_ids)
        )
    elif prepared.vectors_change:
        stage_similar_items(connection, item_ids, vectors, device=device)
    else:
        keep_similar_items(connection)
    if prepared.everyone:
        stage_comment_sentiment(
            connection, model, settings.publishing, through_transaction_id=prepared.through
        )


def stage_arms(
    connection: sa.Connection,
    settings: Settings,
    scorer: BatchScorer,
    challenger: Challenger | None,
    catalogue: Catalogue,
    *,
    users: int,
    through: int,
    run_key: str,
    moment: datetime,
) -> None:
    """Score the staged users with the champion's scorer, and those of the challenger with its own."""
    champions, challengers = divide(0, users, None if challenger is None else challenger.first)
    for first, last in (champions, challengers):
        against = None
        if challenger is not None and (first, last) == challengers and first < last:
            model, _ = challenger.servable.on_catalogue(catalogue)
            own = BatchScorer(model, settings.publishing, challenger.servable.explain, moment)
            scorer, against = (scorer, own) if challenger.interleaved else (own, None)
        stage_scores(
            connection,
            settings,
            scorer,
            against=against,
            first=first,
            last=last,
            through=through,
            run_key=run_key,
            moment=moment,
        )


def whole_batches(users: int) -> int:
    """Return the number of users rounded down to whole batches, but at least one batch."""
    return max(1, users // BATCH_USERS) * BATCH_USERS


def stage_scores(
    connection: sa.Connection,
    settings: Settings,
    scorer: BatchScorer,
    *,
    last: int,
    through: int,
    run_key: str,
    moment: datetime,
    first: int = 0,
    against: BatchScorer | None = None,
    before_write: Callable[[], None] = lambda: None,
) -> None:
    """Score the staged users and stage their lists, pools and vectors, a batch in one transaction.

    Parameters
    ----------
    first, last
        Positions of the users to score; the last one is exclusive. Batches start at multiples of
        `BATCH_USERS`, wherever a shard begins.
    through
        The model reads feedback with lower transaction ids.
    run_key, moment
        As in `publish`.
    against
        The challenger, if both versions pick the items of a list in turn.
    before_write
        Called in the transaction that writes a batch, before it does.
    """

    def read(model: ServingModel) -> Iterator[UserBatch]:
        by_chance = settings.publishing.exploration.share or against is not None
        return read_histories(
            connection,
            model.catalogue,
            model.event_types,
            first=first,
            last=last,
            batch_users=BATCH_USERS,
            max_events=max(HISTORY_EVENTS, model.settings.max_events),
            through_transaction_id=through,
            publication_seed=publication_seed(run_key) if by_chance else None,
            at=moment,
        )

    model = scorer.model
    if against is None:
        scored = score_batches(scorer, read(model), users=last - first)
    else:
        scored = score_interleaved(scorer, against, zip(read(model), read(against.model), strict=True))
    lists = ListWriter(connection, model.catalogue)
    for batch in scored:
        with connection.begin():
            before_write()
            lists.stage(batch)
            stage_vectors(connection, "staged_user_vectors", batch.first, batch.user_vectors)


def swap(
    engine: sa.Engine,
    connection: sa.Connection,
    champion: Champion,
    run_key: str,
    statements: Sequence[str],
    through: int,
    everyone: bool,
    experiment_id: int | None = None,
) -> sa.Row[Any] | None:
    """Replace what is published with what is staged, unless the champion has changed; return the publication.

    Parameters
    ----------
    statements
        Names of the statements that replace it, in order.
    through
        Feedback with lower transaction ids was read.
    experiment_id
        The experiment whose arms are staged. If another one runs by now, nothing is replaced either.
    """
    with connection.begin() as transaction:
        current = running_experiment(engine)
        if ledger.champion(engine) != champion or experiment_id != (current and current.experiment_id):
            transaction.rollback()
            return None
        parameters: dict[str, Any] = {
            "run_key": run_key,
            "model_version": champion.model_version,
            "scope": "all" if everyone else "affected",
            "everyone": everyone,
            "through_transaction_id": through,
            "experiment_id": experiment_id,
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
    summary = PublishSummary(
        publication_id=publication.publication_id,
        model_version=publication.model_version,
        scope=publication.scope,
        users=publication.users,
        items=publication.items,
        seconds=round(time.monotonic() - started, 3),
    )
    logger.info("published %s", summary)
    return summary
