"""Lists of what is similar to each item: those whose vectors point most in its direction."""

from collections.abc import Iterator
from struct import pack

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from recsys.model.ranking import NO_ITEM, top_k
from recsys.publishing.score import SCORES_IN_MEMORY
from recsys.warehouse.copy_binary import FLOAT4, TEXT, array, copy_rows, field, real_elements, text_elements
from recsys.warehouse.statements import read_statement

LENGTH = 100
"""Items of a list. A reader who needs more of them asks for all vectors."""
_WRITTEN_ITEMS = 4_096
"""Lists that are written in one transaction."""


def stage_similar_items(
    connection: sa.Connection, item_ids: list[str], vectors: NDArray[np.float32], *, device: str
) -> None:
    """Write each item's list to the staging table; an item whose vector has no direction has none.

    Parameters
    ----------
    item_ids
        [items] that may be shown, in the order in which equally similar items are listed.
    vectors
        [items, dim]
    device
        Where the vectors are compared.
    """
    lengths = np.linalg.norm(vectors, axis=1)
    directed = np.flatnonzero(np.isfinite(lengths) & (lengths > 0))
    directions = vectors[directed] / lengths[directed, None]
    names = text_elements(item_ids[item] for item in directed.tolist())
    rows: list[bytes] = []
    for first, items, cosines in nearest_items(directions, LENGTH, device=device):
        found = (items != NO_ITEM).sum(axis=1).tolist()
        for row, (count, near) in enumerate(zip(found, items.tolist(), strict=True)):
            listed = array(TEXT, count, b"".join([names[item] for item in near[:count]]))
            scores = array(FLOAT4, count, real_elements(cosines[row, :count]))
            rows.append(pack(">h", 3) + names[first + row] + field(listed) + field(scores))
        if len(rows) >= _WRITTEN_ITEMS:
            _write(connection, rows)
            rows = []
    _write(connection, rows)


def nearest_items(
    directions: NDArray[np.float32], k: int, *, device: str = "cpu"
) -> Iterator[tuple[int, NDArray[np.int32], NDArray[np.float32]]]:
    """Yield the k nearest others of consecutive items, in constant memory.

    Every item is compared with every other one, so the time grows with the square of their number.

    Parameters
    ----------
    directions
        [items, dim], each of length 1.

    Yields
    ------
    The first item of a block; the nearest items [block, k] of each, best first and equals in their order,
    with `NO_ITEM` where there are fewer; and their cosines [block, k].
    """
    import torch  # imported here because reading published lists must not load torch

    table = torch.from_numpy(directions).to(device)
    block = max(1, SCORES_IN_MEMORY // max(1, len(table)))
    for first in range(0, len(table), block):
        cosines = table[first : first + block] @ table.T
        rows = torch.arange(len(cosines), device=device)
        cosines[rows, first + rows] = -torch.inf
        yield first, *top_k(cosines, k)


def keep_similar_items(connection: sa.Connection) -> None:
    """Stage the lists that are published: no vector has changed."""
    with connection.begin():
        connection.exec_driver_sql(read_statement("publishing/keep_similar_items"))


def _write(connection: sa.Connection, rows: list[bytes]) -> None:
    with connection.begin():
        copy_rows(connection, "staged_similar_items (item_id, item_ids, scores)", rows)
