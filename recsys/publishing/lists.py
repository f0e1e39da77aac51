"""Write lists and pools to the staging tables: what users see, and the items from which rules choose.

Postgres' binary COPY format takes each item id and title as bytes that are encoded only once. The text format
would cost several times as much.
"""

import io
import json
from collections.abc import Iterable
from struct import pack
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from recsys.model.ranking import NO_ITEM
from recsys.publishing.diversity import POOL_FACTOR
from recsys.publishing.interleaving import BOTH
from recsys.publishing.score import ScoredBatch
from recsys.snapshot.catalogue import WITHOUT_END, Catalogue
from recsys.warehouse.copy_binary import COPY_BINARY_HEADER, COPY_BINARY_TRAILER

_BOOL, _TEXT, _FLOAT4 = 16, 25, 700
"""Postgres' numbers of the types of the elements."""
_NULL = pack(">i", -1)
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
        self._ids = _elements(ids)
        self._titles = _elements(
            title or item_id for title, item_id in zip(catalogue.titles, ids, strict=True)
        )

    def stage(self, batch: ScoredBatch) -> None:
        """Write a batch; the caller ends the transaction."""
        self._copy(
            "staged_lists (position, item_ids, scores, propensities, reasons, titles, available_until,"
            " language)",
            self._lists(batch),
        )
        self._copy("staged_pools (position, item_ids, scores, of_challenger)", self._pools(batch))

    def _lists(self, batch: ScoredBatch) -> Iterable[bytes]:
        candidates = batch.pool_items[:, : POOL_FACTOR * batch.items.shape[1]]
        until = np.where(candidates == NO_ITEM, WITHOUT_END, self._until[candidates]).min(axis=1)
        lengths = (batch.items != NO_ITEM).sum(axis=1).tolist()
        for row, (length, items) in enumerate(zip(lengths, batch.items.tolist(), strict=True)):
            shown = items[:length]
            yield pack(">hii", 8, 4, batch.first + row)
            yield _field(_array(_TEXT, length, b"".join([self._ids[item] for item in shown])))
            yield _field(_array(_FLOAT4, length, _floats(batch.scores[row, :length])))
            yield _field(_array(_FLOAT4, length, _floats(batch.propensities[row, :length])))
            reasons = json.dumps(batch.reasons[row][:length], ensure_ascii=False)
            yield _field(_JSONB_VERSION + reasons.encode())
            yield _field(_array(_TEXT, length, b"".join([self._titles[item] for item in shown])))
            yield _NULL if until[row] == WITHOUT_END else pack(">iq", 8, int(until[row]) - _EPOCH)
            yield _field(batch.languages[row].encode())

    def _pools(self, batch: ScoredBatch) -> Iterable[bytes]:
        lengths = (batch.pool_items != NO_ITEM).sum(axis=1).tolist()
        for row, (length, items) in enumerate(zip(lengths, batch.pool_items.tolist(), strict=True)):
            yield pack(">hii", 4, 4, batch.first + row)
            yield _field(_array(_TEXT, length, b"".join([self._ids[item] for item in items[:length]])))
            yield _field(_array(_FLOAT4, length, _floats(batch.pool_scores[row, :length])))
            if batch.picked_by is None:
                yield _NULL
            else:
                picked_by = batch.picked_by[row, :length].tolist()
                teams = [_NULL if team == BOTH else pack(">i?", 1, team) for team in picked_by]
                yield _field(_array(_BOOL, len(teams), b"".join(teams), nulls=BOTH in picked_by))

    def _copy(self, target: str, rows: Iterable[bytes]) -> None:
        message = io.BytesIO(b"".join([COPY_BINARY_HEADER, *rows, COPY_BINARY_TRAILER]))
        driver: Any = self._connection.connection.driver_connection
        with driver.cursor() as cursor:
            cursor.copy_expert(f"copy {target} from stdin (format binary)", message)


def _elements(texts: Iterable[str]) -> list[bytes]:
    """Return elements of a text[]: each has its length before it."""
    return [_field(text.encode()) for text in texts]


def _floats(values: NDArray[np.float32]) -> bytes:
    """Return elements of a real[]: each has its length before it."""
    elements = np.empty(len(values), dtype=[("bytes", ">i4"), ("value", ">f4")])
    elements["bytes"] = 4
    elements["value"] = values
    return elements.tobytes()


def _array(element_type: int, length: int, elements: bytes, *, nulls: bool = False) -> bytes:
    """Return an array of one dimension; `nulls` says whether elements are null."""
    if length == 0:
        return pack(">iii", 0, 0, element_type)
    return pack(">iiiii", 1, nulls, element_type, length, 1) + elements


def _field(value: bytes) -> bytes:
    return pack(">i", len(value)) + value
