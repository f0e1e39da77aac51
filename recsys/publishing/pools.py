"""Write pools to the staging tables: the items of a user from which lists are chosen when they are read."""

import io
from struct import pack
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from recsys.model.ranking import NO_ITEM
from recsys.publishing.score import ScoredBatch
from recsys.snapshot.catalogue import Catalogue
from recsys.warehouse.copy_binary import COPY_BINARY_HEADER, COPY_BINARY_TRAILER

_TEXT, _FLOAT4 = 25, 700
"""Postgres' numbers of the types of the elements."""


class PoolWriter:
    """Writes pools in Postgres' binary COPY format, in which each item id is encoded only once.

    The text format would cost several times as much for 200 items a user.

    Parameters
    ----------
    connection
        The session that holds the staging tables.
    catalogue
        Names the items of the batches.
    """

    def __init__(self, connection: sa.Connection, catalogue: Catalogue) -> None:
        self._connection = connection
        encoded = [item_id.encode() for item_id in catalogue.item_ids.tolist()]
        self._elements = [pack(">i", len(item_id)) + item_id for item_id in encoded]

    def stage(self, batch: ScoredBatch) -> None:
        """Write the pools of a batch of users."""
        lengths = (batch.pool_items != NO_ITEM).sum(axis=1).tolist()
        elements = self._elements
        message = io.BytesIO()
        message.write(COPY_BINARY_HEADER)
        for row, (length, items) in enumerate(zip(lengths, batch.pool_items.tolist(), strict=True)):
            ids = _array(_TEXT, length, b"".join([elements[item] for item in items[:length]]))
            scores = _array(_FLOAT4, length, _floats(batch.pool_scores[row, :length]))
            message.write(pack(">hii", 3, 4, batch.first + row))
            message.write(pack(">i", len(ids)) + ids)
            message.write(pack(">i", len(scores)) + scores)
        message.write(COPY_BINARY_TRAILER)
        message.seek(0)
        driver: Any = self._connection.connection.driver_connection
        with driver.cursor() as cursor:
            cursor.copy_expert(
                "copy staged_pools (position, item_ids, scores) from stdin (format binary)", message
            )


def _floats(values: NDArray[np.float32]) -> bytes:
    """Return elements of a real[]: each has its length before it."""
    elements = np.empty(len(values), dtype=[("bytes", ">i4"), ("value", ">f4")])
    elements["bytes"] = 4
    elements["value"] = values
    return elements.tobytes()


def _array(element_type: int, length: int, elements: bytes) -> bytes:
    """Return an array of one dimension, of elements that are not null."""
    if length == 0:
        return pack(">iii", 0, 0, element_type)
    return pack(">iiiii", 1, 0, element_type, length, 1) + elements
