"""Keep what people praise and criticise about each item, in their own words.

Every night, items whose comments have changed are read again. A phrase is kept when enough people use it, so
that it is nobody's own. What comes from a comment that may no longer be read is removed first, whether or not
there is time to read the item again.
"""

import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from recsys.errors import NothingToDoError
from recsys.promotion import ledger
from recsys.publishing.histories import read_horizon
from recsys.publishing.phrase_opinions import Comment, PhraseReader
from recsys.publishing.servable import Servable, load_servable
from recsys.settings import Settings
from recsys.warehouse.advisory_locks import FEEDBACK_MOVES, lock
from recsys.warehouse.analytics import MIN_PEOPLE
from recsys.warehouse.statements import read_statement

logger = logging.getLogger(__name__)

_PEOPLE_PER_ITEM = 200
"""Latest comments that are read of an item; more would take time and hardly change what is found."""
_CHARACTERS = 4_000
"""Of a longer comment, the beginning is read."""
_SAMPLE = 20_000
"""Comments from which it is learned how people write in this catalogue."""
_ITEMS_AT_A_TIME = 32
_SECONDS = 1_800.0
"""Time after which no further item is read; the next night goes on with those that have waited longest."""


def renew_item_phrases(
    engine: sa.Engine,
    settings: Settings,
    *,
    load: Callable[[Settings, str], Servable] = load_servable,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Read the comments on items that changed, with the champion; return the number of items read.

    Each batch of items is written in its own transaction, so a run that is killed has lost one batch, and the
    next one goes on. Two runs at once read the same items and write the same phrases.

    Parameters
    ----------
    clock
        Seconds that only grow.

    Raises
    ------
    NothingToDoError
        Reading comments is switched off, no item has new comments of enough people, there is no champion, or
        the champion cannot read comments.
    """
    started = clock()
    items = _forget_withdrawn(engine)
    unread = [item for item in items if not item.is_read]
    if settings.publishing.comments_read == 0:
        raise NothingToDoError("comments are not read: RECSYS_PUBLISHING__COMMENTS_READ is 0")
    if not unread:
        raise NothingToDoError(f"no item has new comments of at least {MIN_PEOPLE} people")
    champion = ledger.champion(engine)
    if champion is None:
        raise NothingToDoError("there is no champion yet that reads comments; run nightly_training first")
    model = load(settings, champion.model_version).model
    if model.comment_opinions([]) is None:
        raise NothingToDoError(f"version {champion.model_version} has not learned to read comments")
    reader = PhraseReader(model, list(_sample(engine, items)), MIN_PEOPLE)
    read = 0
    for batch in _batches(unread):
        if clock() - started > _SECONDS:
            break
        read += _read(engine, reader, batch, champion.model_version)
    logger.info("found phrases in the comments on %d of %d items with new comments", read, len(unread))
    return read


def _forget_withdrawn(engine: sa.Engine) -> Sequence[sa.Row[Any]]:
    """Delete what comes from comments that may not be read any more; return items with enough comments."""
    with engine.connect() as connection:
        horizon = read_horizon(connection)
        items = connection.execute(
            sa.text(read_statement("publishing/select_commented_items")),
            {
                "through_transaction_id": horizon,
                "least_people": MIN_PEOPLE,
                "per_item": _PEOPLE_PER_ITEM,
            },
        ).all()
        kept = [item.item_id for item in items if not item.is_withdrawn]
        connection.execute(
            sa.text("delete from item_phrases where item_id <> all(cast(:kept as text[]))"), {"kept": kept}
        )
        connection.commit()
    return items


def _sample(engine: sa.Engine, items: Iterable[sa.Row[Any]]) -> Iterator[Comment]:
    """Return comments on items that are chosen by their hash: much the same ones every night."""
    chosen, comments = [], 0
    for item in sorted(items, key=lambda item: sha256(item.item_id.encode()).digest()):
        chosen.append(item)
        comments += len(item.comment_ids)
        if comments >= _SAMPLE:
            break
    for batch in _batches(chosen):
        yield from _comments(engine, batch)


def _batches(items: Sequence[sa.Row[Any]]) -> Iterator[Sequence[sa.Row[Any]]]:
    return (items[first : first + _ITEMS_AT_A_TIME] for first in range(0, len(items), _ITEMS_AT_A_TIME))


def _comments(engine: sa.Engine, items: Sequence[sa.Row[Any]]) -> list[Comment]:
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(read_statement("publishing/select_comments_of_items")),
            {
                "items": [item.item_id for item in items],
                "comment_ids": [comment for item in items for comment in item.comment_ids],
                "characters": _CHARACTERS,
            },
        )
        return [Comment(row.item_id, row.user_id, row.comment, row.stated) for row in rows]


def _read(engine: sa.Engine, reader: PhraseReader, items: Sequence[sa.Row[Any]], version: str) -> int:
    comments = defaultdict(list)
    for comment in _comments(engine, items):
        comments[comment.item_id].append(comment)
    phrases = reader.read([(item.title, comments[item.item_id]) for item in items])
    with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
        # An erasure holds this lock: it comes before and is seen below, or after and deletes what is written.
        lock(connection, FEEDBACK_MOVES)
        gone = _no_longer_eligible(connection, {c.person for theirs in comments.values() for c in theirs})
        read = [
            {
                "item_id": item.item_id,
                "comment_ids": item.comment_ids,
                "people": len(comments[item.item_id]),
                "phrases": json.dumps([asdict(phrase) for phrase in found], ensure_ascii=False),
                "model_version": version,
            }
            for item, found in zip(items, phrases, strict=True)
            if len(comments[item.item_id]) == len(item.comment_ids)
            and gone.isdisjoint(comment.person for comment in comments[item.item_id])
        ]
        if read:
            connection.execute(sa.text(read_statement("publishing/merge_into_item_phrases")), read)
    return len(read)


def _no_longer_eligible(connection: sa.Connection, people: set[str]) -> set[str]:
    """Return who has withdrawn consent, asked to be forgotten or been erased in the meantime."""
    eligible = connection.scalars(
        sa.text("select user_id from user_eligibility where may_train and user_id = any(:people)"),
        {"people": sorted(people)},
    )
    return people - set(eligible)
