"""Publish again for users who have reacted, with the champion as it is and nothing else changed."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

import sqlalchemy as sa

from recsys.errors import NothingToDoError
from recsys.memory import require_memory
from recsys.promotion import ledger
from recsys.publishing.arms import count_champions_users, load_challenger, running_experiment
from recsys.publishing.histories import read_catalogue, read_horizon
from recsys.publishing.prepare import last_publication, published_by
from recsys.publishing.publish import (
    FORGET_READ_FEEDBACK,
    PublishSummary,
    stage_arms,
    summarise,
    swap,
)
from recsys.publishing.score import BatchScorer
from recsys.publishing.servable import load_servable
from recsys.publishing.staging import publishing_session, stage_users, staging_session
from recsys.settings import Settings, VisitorListSettings

NOBODY = "nobody has reacted since the last publication"
_SWAP = (
    "publishing/merge_into_recommendation_lists",
    "publishing/keep_interleaved_lists",
    "publishing/merge_into_user_vectors",
    FORGET_READ_FEEDBACK,
)


class ActiveUsers(NamedTuple):
    """How many users have reacted, with feedback from which id on, while which experiment runs."""

    users: int
    since_transaction_id: int
    experiment_id: int | None


def count_active_users(
    engine: sa.Engine, visitors: VisitorListSettings, *, now: datetime | None = None
) -> ActiveUsers:
    """Return how many users have reacted since the last publication; needs no model.

    Raises
    ------
    NothingToDoError
        The champion is not what is published, or there is none.
    """
    with staging_session(engine) as connection:
        return _stage_active_users(engine, connection, visitors, now or datetime.now(UTC))


def publish_active_users(
    engine: sa.Engine,
    settings: Settings,
    *,
    run_key: str,
    now: datetime | None = None,
) -> PublishSummary:
    """Score the users who have reacted since the last publication, and replace their lists and vectors.

    Lists of others, vectors of items and notes of what is in the catalogue stay: the next publication of
    another kind renews them. Readers see the old lists or the new ones. Killed before the end, it changes
    nothing. It does not wait for another publication that is running.

    Parameters
    ----------
    run_key, now
        As in `recsys.publishing.publish.publish`.

    Raises
    ------
    NothingToDoError
        Nobody has reacted, another publication is running, or the champion is not what is published:
        another publication replaces all lists then.
    ConfigurationError
        The catalogue does not fit into memory.
    """
    started, moment = time.monotonic(), now or datetime.now(UTC)
    with publishing_session(engine, wait=False) as connection:
        recorded = published_by(connection, run_key)
        if recorded is not None:
            return summarise(recorded, started)
        # Before users are staged: of whom nobody is staged, no feedback may count as read.
        through = read_horizon(connection)
        active = _stage_active_users(engine, connection, settings.publishing.visitors, moment)
        if active.users == 0:
            raise NothingToDoError(NOBODY)
        champion = ledger.champion(engine)
        assert champion is not None  # `_stage_active_users` has seen it
        servable = load_servable(settings, champion.model_version)
        challenger = load_challenger(engine, settings, load_servable, moment)
        if (None if challenger is None else challenger.experiment_id) != active.experiment_id:
            raise NothingToDoError(
                "the running experiment has ended; publish_recommendations replaces all lists"
            )
        if challenger is not None:
            challenger = replace(challenger, first=count_champions_users(connection))
        catalogue = read_catalogue(connection)
        require_memory(
            f"publishing {len(catalogue)} items with version {champion.model_version}",
            servable.model.serving_bytes(len(catalogue)),
            "remove items that are no longer needed from the table items",
        )
        model, _ = servable.on_catalogue(catalogue)
        scorer = BatchScorer(model, settings.publishing, servable.explain, moment)
        stage_arms(
            connection,
            settings,
            scorer,
            challenger,
            catalogue,
            users=active.users,
            through=through,
            run_key=run_key,
            moment=moment,
        )
        publication = swap(engine, connection, champion, run_key, _SWAP, through, False, active.experiment_id)
        if publication is None:
            raise NothingToDoError(f"version {champion.model_version} was replaced as champion meanwhile")
        return summarise(publication, started)


def _stage_active_users(
    engine: sa.Engine, connection: sa.Connection, visitors: VisitorListSettings, moment: datetime
) -> ActiveUsers:
    champion, last = ledger.champion(engine), last_publication(connection)
    if champion is None:
        raise NothingToDoError("there is no champion to publish yet; run nightly_training first")
    if last is None or last.model_version != champion.model_version:
        raise NothingToDoError(
            f"version {champion.model_version} is champion but not published yet; "
            "publish_recommendations does that"
        )
    experiment = running_experiment(engine)
    experiment_id = None if experiment is None else experiment.experiment_id
    if last.experiment_id != experiment_id:
        raise NothingToDoError(
            "an experiment has started or ended since the last publication; publish_recommendations gives "
            "all users their lists"
        )
    since = last.through_transaction_id
    users = stage_users(
        connection,
        everyone=False,
        since_transaction_id=since,
        at=moment,
        visitors=visitors,
        only_active=True,
        experiment_id=experiment_id,
    )
    return ActiveUsers(users, since, experiment_id)
