"""Write lists and pools to the staging tables: what users see, and the items from which rules choose."""

import json
from collections.abc import Iterable
from itertools import pairwise
from struct import pack

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from recsys.model.ranking import NO_ITEM
from recsys.publishing.diversity import POOL_FACTOR
from recsys.publishing.interleaving import BOTH
from recsys.publishing.score import ScoredBatch
from recsys.snapshot.catalogue import WITHOUT_END, Catalogue
from recsys.warehouse.copy_binary import (
    BOOL,
    FLOAT4,
    NULL,
    REAL_BYTES,
    TEXT,
    array,
    copy_rows,
    field,
    real_elements,
    text_elements,
)

_JSON = json.JSONEncoder(ensure_ascii=False)
_JSONB_VERSION = b"\x01"
_EPOCH = 946_684_800_000_000
"""Postgres counts microseconds from 2000, the catalogue from 1970."""


class ListWriter:
    """Writes the lists and pools of batches of users.

    Parameters
    ----------
    connection
        The session that holds the staging tables.
    catalogue
        Names the items of the batches.
    """

    def __init__(self, connection: sa.Connection, catalogue: Catalogue) -> None:
        self._connection = connection
        self._until = catalogue.available_until
        ids = catalogue.item_ids.tolist()
        titles = [title or item_id for title, item_id in zip(catalogue.titles, ids, strict=True)]
        self._ids = pa.array(text_elements(ids), pa.large_binary())
        self._titles = pa.array(text_elements(titles), pa.large_binary())

    def stage(self, batch: ScoredBatch) -> None:
        """Write a batch; the caller ends the transaction."""
        copy_rows(
            self._connection,
            "staged_lists (position, item_ids, scores, propensities, reasons, titles, available_until,"
            " language)",
            self._lists(batch),
        )
        copy_rows(
            self._connection,
            "staged_pools (position, item_ids, scores, of_challenger)",
            self._pools(batch),
        )

    def _lists(self, batch: ScoredBatch) -> Iterable[bytes]:
        candidates = batch.pool_items[:, : POOL_FACTOR * batch.items.shape[1]]
        until = np.where(candidates == NO_ITEM, WITHOUT_END, self._until[candidates]).min(axis=1)
        ids, titles = _joined(self._ids, batch.items), _joined(self._titles, batch.items)
        scores, propensities = _joined_reals(batch.scores), _joined_reals(batch.propensities)
        lengths = (batch.items != NO_ITEM).sum(axis=1).tolist()
        for row, length in enumerate(lengths):
            reals = length * REAL_BYTES
            yield pack(">hii", 8, 4, batch.first + row)
            yield field(array(TEXT, length, ids[row]))
            yield field(array(FLOAT4, length, scores[row][:reals]))
            yield field(array(FLOAT4, length, propensities[row][:reals]))
            yield field(_JSONB_VERSION + _JSON.encode(batch.reasons[row][:length]).encode())
            yield field(array(TEXT, length, titles[row]))
            yield NULL if until[row] == WITHOUT_END else pack(">iq", 8, int(until[row]) - _EPOCH)
            yield field(batch.languages[row].encode())

    def _pools(self, batch: ScoredBatch) -> Iterable[bytes]:
        ids, scores = _joined(self._ids, batch.pool_items), _joined_reals(batch.pool_scores)
        lengths = (batch.pool_items != NO_ITEM).sum(axis=1).tolist()
        for row, length in enumerate(lengths):
            yield pack(">hii", 4, 4, batch.first + row)
            yield field(array(TEXT, length, ids[row]))
            yield field(array(FLOAT4, length, scores[row][: length * REAL_BYTES]))
            if batch.picked_by is None:
                yield NULL
            else:
                picked_by = batch.picked_by[row, :length].tolist()
                teams = [NULL if team == BOTH else pack(">i?", 1, team) for team in picked_by]
                yield field(array(BOOL, len(teams), b"".join(teams), nulls=BOTH in picked_by))


def _joined(elements: pa.LargeBinaryArray, items: NDArray[np.int32]) -> list[bytes]:
    """Return the elements of the items [rows, k] of each row, joined; an empty place has none."""
    rows, k = items.shape
    taken = elements.take(pa.array(items.ravel(), mask=items.ravel() == NO_ITEM))
    _, offsets, content = taken.buffers()
    joined = b"" if content is None else content.to_pybytes()
    ends = np.frombuffer(offsets, np.int64, rows * k + 1)[::k].tolist()
    return [joined[begin:end] for begin, end in pairwise(ends)]


def _joined_reals(values: NDArray[np.float32]) -> list[bytes]:
    """Return the elements of each row of values [rows, k], joined."""
    rows, k = values.shape
    joined = real_elements(values)
    return [joined[row * k * REAL_BYTES : (row + 1) * k * REAL_BYTES] for row in range(rows)]
