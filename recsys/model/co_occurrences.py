"""Count how many users consumed both of two items, in memory that grows with the items, not their square."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from recsys.memory import require_memory
from recsys.snapshot.sequences import Sequences

MAX_PAIRS = 30_000_000
"""Default of `RECSYS_MODEL__COLLABORATIVE_PAIRS`."""
MAX_EVENTS = 5_000
"""Latest events of a user that count: the pairs of a user grow with their square."""
_BLOCK_PAIRS = 1 << 24
_PAIR_BYTES = 8
_COPIES = 6
"""Copies of the counts while they are joined: both triangles, transposed, merged, and the upper one."""


def interaction_matrix(
    histories: Sequences, n_items: int, *, negative: float = 0.0, max_events: int | None = None
) -> scipy.sparse.csr_matrix:
    """Build the sparse matrix [users, items]: 1 for consumed and `negative` for disliked items.

    An item with several events counts once, with its latest sentiment. `max_events` limits the events of
    each user to the latest ones.
    """
    users = len(histories.offsets) - 1
    lengths = np.diff(histories.offsets)
    rows = np.repeat(np.arange(users), lengths)
    columns = histories.item_index.astype(np.int64)
    keep = (columns >= 0) & (columns < n_items)
    if max_events is not None:
        ends = np.repeat(histories.offsets[1:], lengths)
        keep &= np.arange(histories.offsets[0], histories.offsets[-1]) >= ends - max_events
    values = np.where(histories.sentiment < 0, negative, 1.0).astype(np.float32)
    rows, columns, values = rows[keep], columns[keep], values[keep]
    # np.unique keeps the first of equal keys; in reversed order that is the latest event.
    _, latest = np.unique((rows * n_items + columns)[::-1], return_index=True)
    chosen = len(rows) - 1 - latest
    matrix = scipy.sparse.csr_matrix(
        (values[chosen], (rows[chosen], columns[chosen])), shape=(users, n_items), dtype=np.float32
    )
    matrix.eliminate_zeros()
    return matrix


@dataclass(frozen=True)
class CoOccurrences:
    """Number of users who consumed both of two items; collaborative filtering needs no other feedback.

    Attributes
    ----------
    counts
        [items, items] upper triangle. The diagonal is the number of users who consumed the item.
    """

    counts: scipy.sparse.csr_matrix

    @classmethod
    def fit(cls, parts: Sequence[Sequences], n_items: int, max_pairs: int = MAX_PAIRS) -> "CoOccurrences":
        """Count the non-negative events.

        Parameters
        ----------
        parts
            Parts with some of the users; item indices are below `n_items`.
        max_pairs
            Number of counts to keep at most. An item keeps its nearest items (see `nearness`), and those
            whose nearest it is.

        Raises
        ------
        ConfigurationError
            Memory does not suffice for the counts.
        """
        most = max(1, max_pairs // max(n_items, 1))
        counts = scipy.sparse.csr_matrix((n_items, n_items), dtype=np.float32)
        for part in parts:
            counts = _nearest_only(counts + _co_occurrences(part, n_items, most), most)
        return cls(counts)

    def changed(self, before: Sequences, after: Sequences) -> tuple["CoOccurrences", NDArray[np.bool_]]:
        """Return the counts after some users' events changed, and [items] whose users are others now.

        Of each pair with another count, at least one item is among these. Users who were never counted (they
        gave consent later, for example) cannot make the count of a pair greater than that of its items.
        """
        n_items = self.counts.shape[0]
        change = _co_occurrences(after, n_items) - _co_occurrences(before, n_items)
        change.eliminate_zeros()
        touched: NDArray[np.bool_] = change.diagonal() != 0
        pairs = change.tocoo()
        # One user more and one less leave an item's count as it was.
        alone = ~touched[pairs.row] & ~touched[pairs.col]
        touched[pairs.row[alone]] = touched[pairs.col[alone]] = True
        counts = (self.counts + change).maximum(0).tocoo()
        of_items = counts.tocsr().diagonal()
        possible = np.minimum(of_items[counts.row], of_items[counts.col])
        counts.data = np.minimum(counts.data, possible).astype(np.float32)
        kept = counts.tocsr()
        kept.eliminate_zeros()
        return CoOccurrences(kept), touched

    def aligned(self, positions: NDArray[np.int64], n_items: int) -> "CoOccurrences":
        """Move item i to `positions[i]` in a catalogue of `n_items`; a negative position drops the item."""
        counts = moved(self.counts, positions, n_items).tocoo()
        rows, columns = np.minimum(counts.row, counts.col), np.maximum(counts.row, counts.col)
        return CoOccurrences(scipy.sparse.csr_matrix((counts.data, (rows, columns)), shape=counts.shape))

    def symmetric(self) -> scipy.sparse.csr_matrix:
        """Return both triangles, [items, items]."""
        return _both_triangles(self.counts)


def moved(
    matrix: scipy.sparse.csr_matrix, positions: NDArray[np.int64], n_items: int
) -> scipy.sparse.csr_matrix:
    """Return [n_items, n_items], with row and column i moved to `positions[i]`, or dropped if negative."""
    if np.array_equal(positions, np.arange(n_items)):
        return matrix
    kept = np.flatnonzero(positions >= 0)
    kept = kept[np.argsort(positions[kept])]
    rows = matrix[kept]
    columns = positions[rows.indices]
    stays = columns >= 0
    counts = np.zeros(n_items + 1, dtype=np.int64)
    counts[positions[kept] + 1] = np.diff(np.concatenate([[0], np.cumsum(stays)])[rows.indptr])
    found = scipy.sparse.csr_matrix(
        (rows.data[stays], columns[stays], np.cumsum(counts)), shape=(n_items, n_items), dtype=np.float32
    )
    found.sort_indices()
    return found


def keep_greatest(
    matrix: scipy.sparse.csr_matrix, values: NDArray[np.float32], most: int
) -> scipy.sparse.csr_matrix:
    """Keep the `most` entries of each row that have the greatest values [entries]."""
    keep = np.ones(matrix.nnz, dtype=bool)
    for row in np.flatnonzero(np.diff(matrix.indptr) > most):
        part = slice(matrix.indptr[row], matrix.indptr[row + 1])
        keep[part][np.argpartition(-values[part], most - 1)[most:]] = False
    offsets = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr]
    return scipy.sparse.csr_matrix((matrix.data[keep], matrix.indices[keep], offsets), shape=matrix.shape)


def nearness(together: NDArray[np.float32], of_items: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how near items are to one item, up to a factor: the cosine of the users who consumed them.

    Parameters
    ----------
    together, of_items
        [items] users who consumed both, and users who consumed the item, at least 1.
    """
    return np.asarray(together / np.sqrt(of_items), dtype=np.float32)


def _co_occurrences(histories: Sequences, n_items: int, most: int | None = None) -> scipy.sparse.csr_matrix:
    """Return the upper triangle; with `most`, of the nearest items of each item."""
    users = interaction_matrix(histories, n_items, max_events=MAX_EVENTS)
    items = users.T.tocsr()
    # Pairs of an item, before those of several users become one.
    bounds = np.minimum(items @ np.diff(users.indptr).astype(np.float64), n_items)
    kept = bounds if most is None else np.minimum(bounds, most)
    require_memory(
        "counting what is consumed together",
        {"pairs of items": int(_COPIES * _PAIR_BYTES * kept.sum() + _PAIR_BYTES * _BLOCK_PAIRS)},
        "set RECSYS_MODEL__COLLABORATIVE_PAIRS lower",
    )
    of_items = np.diff(items.indptr).astype(np.float32)
    blocks = []
    for begin, end in _blocks(bounds):
        block = (items[begin:end] @ users).tocsr()
        block.sort_indices()
        blocks.append(block if most is None else _keep_nearest(block, begin, of_items, most))
    if not blocks:
        return scipy.sparse.csr_matrix((n_items, n_items), dtype=np.float32)
    joined = scipy.sparse.vstack(blocks, format="csr")
    return scipy.sparse.triu(joined.maximum(joined.T), format="csr")


def _blocks(bounds: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Divide the items into ranges of about `_BLOCK_PAIRS` pairs."""
    number = (np.cumsum(bounds) // _BLOCK_PAIRS).astype(np.int64)
    cuts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(bounds)]
    return ((begin, end) for begin, end in pairwise(cuts) if end > begin)


def _nearest_only(counts: scipy.sparse.csr_matrix, most: int) -> scipy.sparse.csr_matrix:
    """Keep the nearest items of each item in the upper triangle [items, items]."""
    if counts.nnz <= most * counts.shape[0]:
        return counts
    both = _both_triangles(counts)
    kept = _keep_nearest(both, 0, np.maximum(counts.diagonal(), 1), most)
    return scipy.sparse.triu(kept.maximum(kept.T), format="csr")


def _keep_nearest(
    rows: scipy.sparse.csr_matrix, begin: int, of_items: NDArray[np.float32], most: int
) -> scipy.sparse.csr_matrix:
    """Keep the diagonal and the `most` nearest others of each row; row i is item `begin + i`."""
    lengths = np.diff(rows.indptr)
    if lengths.max(initial=0) <= most + 1:
        return rows
    near = nearness(rows.data, np.maximum(of_items[rows.indices], 1))
    near[rows.indices == np.repeat(np.arange(len(lengths)), lengths) + begin] = np.inf
    return keep_greatest(rows, near, most + 1)


def _both_triangles(counts: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    both = (counts + scipy.sparse.triu(counts, 1).T).tocsr()
    both.sort_indices()
    return both
