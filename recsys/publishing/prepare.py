"""Decide what a publication does: with which champion, for which users, with feedback up to where."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from recsys.errors import NothingToDoError
from recsys.memory import require_memory
from recsys.promotion import ledger
from recsys.promotion.ledger import Champion
from recsys.publishing.arms import Challenger, count_champions_users, load_challenger
from recsys.publishing.histories import count_items, read_horizon
from recsys.publishing.servable import Servable
from recsys.publishing.staging import stage_catalogue, stage_users
from recsys.settings import Settings
from recsys.warehouse.tables import publications

logger = logging.getLogger(__name__)

_MOST_CHANGED_TITLES = 100
"""With more, all lists are published anew: to look for each title in all reasons would take longer."""


@dataclass(frozen=True)
class Prepared:
    """A publication whose users are staged and not scored yet.

    Attributes
    ----------
    everyone
        All users instead of those whom it would change something for.
    through
        The model reads feedback with lower transaction ids.
    moment
        Time for which it is decided what is off a user's list and what is available.
    users, items
        How many there are.
    vectors_change
        The published vectors of items are not those of this model and catalogue.
    challenger
        The version that the last of the users get, while an experiment runs.
    """

    champion: Champion
    servable: Servable
    everyone: bool
    through: int
    moment: datetime
    users: int
    items: int
    vectors_change: bool
    challenger: Challenger | None = None

    @property
    def serving_bytes(self) -> dict[str, int]:
        """Memory in bytes, by part, that a process which scores all of them needs."""
        return serving_bytes(self.servable, self.challenger, self.items)

    @property
    def experiment_id(self) -> int | None:
        """The experiment that runs."""
        return None if self.challenger is None else self.challenger.experiment_id


def prepare(
    engine: sa.Engine,
    connection: sa.Connection,
    settings: Settings,
    *,
    scope: Literal["all", "affected", "auto"],
    load: Callable[[Settings, str], Servable],
    moment: datetime,
    everyone_after: timedelta | None,
) -> Prepared:
    """Load the champion and stage the users to score; parameters and errors are those of `publish`."""
    champion = ledger.champion(engine)
    if champion is None:
        raise NothingToDoError("there is no champion to publish yet; run nightly_training first")
    servable = load(settings, champion.model_version)
    challenger = load_challenger(engine, settings, load, moment)
    experiment_id = None if challenger is None else challenger.experiment_id
    last = last_publication(connection)
    changed = stage_catalogue(connection, at=moment)
    everyone = (
        last is None
        or scope == "all"
        or last.experiment_id != experiment_id
        or changed.titles > _MOST_CHANGED_TITLES
        or (scope == "auto" and not _continues(champion, servable, last))
        or (
            scope == "auto"
            and everyone_after is not None
            and not _everyone_since(connection, moment - everyone_after)
        )
    )
    through = read_horizon(connection)
    items = count_items(connection)
    if items == 0:
        raise NothingToDoError("there are no items to recommend; load some with `recsys ingest items FILE`")
    require_memory(
        f"publishing {items} items with version {champion.model_version}",
        serving_bytes(servable, challenger, items),
        "remove items that are no longer needed from the table items",
    )
    users = stage_users(
        connection,
        everyone=everyone,
        since_transaction_id=0 if last is None else last.through_transaction_id,
        at=moment,
        visitors=settings.publishing.visitors,
        experiment_id=experiment_id,
    )
    if challenger is not None:
        challenger = replace(challenger, first=count_champions_users(connection))
    vectors_change = (
        last is None or last.model_version != champion.model_version or bool(changed.vectors) or everyone
    )
    if last is not None and users == 0 and not vectors_change:
        raise NothingToDoError(
            f"no user has feedback newer than publication {last.publication_id}, and no item has changed"
        )
    logger.info(
        "scoring %d users (%s) and %d items with version %s",
        users,
        "all" if everyone else "affected",
        items,
        champion.model_version,
    )
    return Prepared(champion, servable, everyone, through, moment, users, items, vectors_change, challenger)


def serving_bytes(servable: Servable, challenger: Challenger | None, items: int) -> dict[str, int]:
    """Return the memory in bytes, by part, that the champion needs, and a challenger beside it."""
    parts = servable.model.serving_bytes(items)
    if challenger is not None:
        beside = challenger.servable.model.serving_bytes(items)
        parts = parts | {f"challenger: {part}": size for part, size in beside.items()}
    return parts


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
