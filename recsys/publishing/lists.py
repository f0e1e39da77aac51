"""Write lists and pools to the staging tables: what users see, and the items from which rules choose."""

import json
from collections.abc import Iterable
from struct import pack

import numpy as np
import sqlalchemy as sa

from recsys.model.ranking import NO_ITEM
from recsys.publishing.diversity import POOL_FACTOR
from recsys.publishing.interleaving import BOTH
from recsys.publishing.score import ScoredBatch
from recsys.snapshot.catalogue import WITHOUT_END, Catalogue
from recsys.warehouse.copy_binary import (
    BOOL,
    FLOAT4,
    NULL,
    TEXT,
    array,
    copy_rows,
    field,
    real_elements,
    text_elements,
)

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
        self._ids = text_elements(ids)
        self._titles = text_elements(
            title or item_id for title, item_id in zip(catalogue.titles, ids, strict=True)
        )

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
        lengths = (batch.items != NO_ITEM).sum(axis=1).tolist()
        for row, (length, items) in enumerate(zip(lengths, batch.items.tolist(), strict=True)):
            shown = items[:length]
            yield pack(">hii", 8, 4, batch.first + row)
            yield field(array(TEXT, length, b"".join([self._ids[item] for item in shown])))
            yield field(array(FLOAT4, length, real_elements(batch.scores[row, :length])))
            yield field(array(FLOAT4, length, real_elements(batch.propensities[row, :length])))
            reasons = json.dumps(batch.reasons[row][:length], ensure_ascii=False)
            yield field(_JSONB_VERSION + reasons.encode())
            yield field(array(TEXT, length, b"".join([self._titles[item] for item in shown])))
            yield NULL if until[row] == WITHOUT_END else pack(">iq", 8, int(until[row]) - _EPOCH)
            yield field(batch.languages[row].encode())

    def _pools(self, batch: ScoredBatch) -> Iterable[bytes]:
        lengths = (batch.pool_items != NO_ITEM).sum(axis=1).tolist()
        for row, (length, items) in enumerate(zip(lengths, batch.pool_items.tolist(), strict=True)):
            yield pack(">hii", 4, 4, batch.first + row)
            yield field(array(TEXT, length, b"".join([self._ids[item] for item in items[:length]])))
            yield field(array(FLOAT4, length, real_elements(batch.pool_scores[row, :length])))
            if batch.picked_by is None:
                yield NULL
            else:
                picked_by = batch.picked_by[row, :length].tolist()
                teams = [NULL if team == BOTH else pack(">i?", 1, team) for team in picked_by]
                yield field(array(BOOL, len(teams), b"".join(teams), nulls=BOTH in picked_by))
