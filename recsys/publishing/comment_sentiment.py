"""Average sentiment of the comments on each item, predicted by the champion.

An average is stored only when enough people commented, so that nobody's comment can be inferred.
"""

import logging
from typing import Protocol

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from recsys.settings import PublishingSettings
from recsys.snapshot.scrub import scrub_comments
from recsys.warehouse.analytics import MIN_PEOPLE
from recsys.warehouse.statements import read_statement

logger = logging.getLogger(__name__)

_COMMENTS_PER_ITEM = 20
"""Latest comments read per item; more would take time and hardly change the average."""


class CommentReader(Protocol):
    """A recommender that predicts opinions from comments."""

    def comment_opinions(self, texts: list[str]) -> tuple[NDArray[np.float32], NDArray[np.int8]] | None:
        """Return values (0 to 1) and sentiments (-1, 0, 1), each [texts]; None if not trained for it.

        A text that is not understood has the value nan and the sentiment 0.
        """
        ...


def stage_comment_sentiment(
    connection: sa.Connection,
    model: CommentReader,
    settings: PublishingSettings,
    *,
    through_transaction_id: int,
) -> int:
    """Stage the average predicted sentiment per item; return the number of items.

    Reads each person's latest comment on an item. Comments are scrubbed in the same way as in training and
    are not stored. When `PublishingSettings.comments_read` does not suffice, items with the most comments
    come first.

    Parameters
    ----------
    through_transaction_id
        Comments below it (exclusive) are validated and may be read.
    """
    if settings.comments_read == 0:
        return 0
    rows = connection.execute(
        sa.text(read_statement("publishing/select_item_comments")),
        {
            "through_transaction_id": through_transaction_id,
            "least_people": MIN_PEOPLE,
            "per_item": _COMMENTS_PER_ITEM,
            "most": settings.comments_read,
        },
    ).all()
    connection.commit()
    if not rows:
        return 0
    opinions = model.comment_opinions(scrub_comments(pa.array([row.comment for row in rows])).to_pylist())
    if opinions is None:
        return 0
    read = np.isfinite(opinions[0])
    items, item = np.unique(
        [row.item_id for row, one in zip(rows, read, strict=True) if one], return_inverse=True
    )
    counts = np.bincount(item)
    value, sentiment = (np.bincount(item, opinion[read]) / counts for opinion in opinions)
    # The limit on all comments may have cut off some of an item's.
    enough = np.flatnonzero(counts >= MIN_PEOPLE)
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
