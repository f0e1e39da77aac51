"""Candidates of the nights: what was decided about them, and what they are truly worth."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from recsys.model.ranking import NO_ITEM
from recsys.publishing.histories import HISTORY_EVENTS, read_catalogue, read_histories, read_horizon
from recsys.publishing.publish import BATCH_USERS
from recsys.publishing.score import BatchScorer
from recsys.publishing.servable import load_servable_on_cpu
from recsys.publishing.staging import stage_users, staging_session
from recsys.settings import Settings
from recsys.simulation.world import World


@dataclass
class Candidate:
    """A model that a night has trained, beside the champion of that night.

    Attributes
    ----------
    is_bad
        Whether it was trained badly on purpose.
    passed
        Whether the gate would promote it.
    waits
        Whether an experiment is still to decide on it.
    promoted
        Whether it became champion, at once or after an experiment.
    decision
        Why, or why not: the reason in the ledger, or the outcome of the experiment.
    value, champion_value
        True expected clicks on a list of a user, if everybody had the lists of this version.
    """

    day: int
    version: str
    is_bad: bool
    passed: bool
    waits: bool
    promoted: bool
    decision: str
    value: float
    champion_value: float

    @property
    def gain(self) -> float:
        """True gain over the champion, a share of its value."""
        return self.value / self.champion_value - 1


def expected_clicks(
    engine: sa.Engine, settings: Settings, world: World, version: str, positions: int
) -> NDArray[np.float64]:
    """Return [users] the true expected clicks on the list that a version would show each user now.

    Lists are made as a publication for everybody makes them, without exploration, and nothing is published.
    """
    moment = datetime.now(UTC)
    world_item = {item: position for position, item in enumerate(world.item_ids.tolist())}
    with staging_session(engine) as connection:
        users = stage_users(connection, everyone=True, since_transaction_id=0, at=moment)
        staged = connection.exec_driver_sql("select user_id from staged_users order by position").scalars()
        world_user = {user: position for position, user in enumerate(world.user_ids.tolist())}
        order = np.array([world_user[user] for user in staged], dtype=np.int64)
        catalogue = read_catalogue(connection)
        model, _ = load_servable_on_cpu(settings, version).on_catalogue(catalogue)
        scorer = BatchScorer(model, settings.publishing, None, moment)
        batches = read_histories(
            connection,
            catalogue,
            model.event_types,
            last=users,
            batch_users=BATCH_USERS,
            max_events=max(HISTORY_EVENTS, model.settings.max_events),
            through_transaction_id=read_horizon(connection),
            at=moment,
        )
        lists = np.concatenate([scorer.score(batch).items[:, :positions] for batch in batches])
    there = lists != NO_ITEM
    items = np.array([world_item[item] for item in catalogue.item_ids.tolist()])[np.where(there, lists, 0)]
    preference = np.take_along_axis(world.preference(order), items, axis=1)
    clicks = world.click_probability(preference) * world.examination(lists.shape[1])
    values = np.zeros(world.users)
    values[order] = np.where(there, clicks, 0.0).sum(axis=1)
    return values


@dataclass(frozen=True)
class Decisions:
    """How often a policy was right about the candidates of its nights.

    Attributes
    ----------
    passed, passed_wrongly
        Candidates that the gate would promote, and those of them that are truly worse than the champion.
    promoted, promoted_wrongly
        The same for those that became champion.
    missed
        Candidates that are truly better and were not promoted.
    """

    candidates: int
    passed: int
    passed_wrongly: int
    promoted: int
    promoted_wrongly: int
    missed: int


def count_decisions(candidates: Sequence[Candidate]) -> Decisions:
    """Return how often the decisions were right."""

    def wrongly(chosen: list[Candidate]) -> int:
        return sum(candidate.gain < 0 for candidate in chosen)

    passed = [candidate for candidate in candidates if candidate.passed]
    promoted = [candidate for candidate in candidates if candidate.promoted]
    return Decisions(
        candidates=len(candidates),
        passed=len(passed),
        passed_wrongly=wrongly(passed),
        promoted=len(promoted),
        promoted_wrongly=wrongly(promoted),
        missed=sum(candidate.gain > 0 and not candidate.promoted for candidate in candidates),
    )
