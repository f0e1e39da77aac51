"""What the champion reads in the comments on each item: averages over enough people to hide each of them."""

import logging
from typing import Protocol

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from recsys.settings import PublishingSettings
from recsys.snapshot.scrub import scrub_comments
from recsys.warehouse.statements import read_statement

logger = logging.getLogger(__name__)

LEAST_PEOPLE = 5
"""Who commented on an item, below which nothing is said of it: an average of few shows what one wrote."""


class ReadsComments(Protocol):
    """What is asked of a recommender."""

    def comment_opinions(self, texts: list[str]) -> tuple[NDArray[np.float32], NDArray[np.int8]] | None:
        """Return values (0 to 1) and sentiments (-1, 0, 1) [texts]; None: it has not learned to read."""
        ...


def stage_comment_sentiment(
    connection: sa.Connection,
    model: ReadsComments,
    settings: PublishingSettings,
    *,
    through_transaction_id: int,
) -> int:
    """Read the latest comments on items, one a person, and stage averages; return how many items have one.

    Comments are scrubbed as those are that the model has learned from, and are kept nowhere.
    """
    if settings.comments_per_item < LEAST_PEOPLE:
        return 0
    rows = connection.execute(
        sa.text(read_statement("publishing/select_item_comments")),
        {
            "through_transaction_id": through_transaction_id,
            "least_people": LEAST_PEOPLE,
            "per_item": settings.comments_per_item,
            "most": settings.comments_read,
        },
    ).all()
    connection.commit()
    if not rows:
        return 0
    opinions = model.comment_opinions(scrub_comments(pa.array([row.comment for row in rows])).to_pylist())
    if opinions is None:
        return 0
    items, item = np.unique([row.item_id for row in rows], return_inverse=True)
    counts = np.bincount(item)
    value, sentiment = (np.bincount(item, opinion) / counts for opinion in opinions)
    enough = np.flatnonzero(counts >= LEAST_PEOPLE)  # the limit on all comments may have cut an item's
    connection.execute(
        sa.text(
            "insert into staged_comment_sentiment (item_id, comments, average_value, average_sentiment)"
            " select * from unnest(cast(:items as text[]), cast(:counts as integer[]),"
            " cast(:values as real[]), cast(:sentiments as real[]))"
        ),
        {
            "items": items[enough].tolist(),
            "counts": counts[enough].tolist(),
            "values": value[enough].tolist(),
            "sentiments": sentiment[enough].tolist(),
        },
    )
    connection.commit()
    logger.info("read %d comments on %d items", len(rows), len(enough))
    return len(enough)
