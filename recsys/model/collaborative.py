"""Collaborative filtering in closed form: EASE and popularity.

EASE (Steck, 2019, "Embarrassingly Shallow Autoencoders for Sparse Data") is the item-to-item matrix
that best reconstructs what users consumed, with a zero diagonal and a quadratic penalty. One matrix
inversion fits it. It is hard to beat on warm items and knows nothing about new ones.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from recsys.errors import ConfigurationError
from recsys.snapshot.sequences import Sequences, parts_of

_log = logging.getLogger(__name__)

DISLIKE_SIGN = -0.5
"""Weight of a disliked or low-rated item in a history: it lowers the scores of its neighbours."""
NEIGHBOURS = 300
"""Weights that a recommender keeps for each item. Keeping all would make the matrix dense: 12,000 items
would take half a gigabyte in every checkpoint."""
_BLOCK_ITEMS = 512


def fit_memory_bytes(n_items: int) -> int:
    """Return the peak memory of fitting EASE in bytes: Gram matrix, inverse and a work copy, in float32."""
    return 3 * 4 * n_items * n_items


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


def _gram_matrix(parts: Sequence[Sequences], n_items: int) -> NDArray[np.float32]:
    """Return how many users consumed both items, [items, items]."""
    gram = np.zeros((n_items, n_items), dtype=np.float32)
    for part in parts:
        _add_blocks(gram, _co_occurrences(part, n_items))
    return gram


def _co_occurrences(histories: Sequences, n_items: int) -> scipy.sparse.csr_matrix:
    interactions = interaction_matrix(histories, n_items)
    return (interactions.T @ interactions).tocsr()


def _add_blocks(dense: NDArray[np.float32], added: scipy.sparse.csr_matrix) -> None:
    for start in range(0, len(dense), _BLOCK_ITEMS):  # avoids a second dense matrix of all items
        dense[start : start + _BLOCK_ITEMS] += added[start : start + _BLOCK_ITEMS].toarray()


@dataclass(frozen=True)
class CoOccurrences:
    """Number of users who consumed both of two items; EASE needs nothing else from the feedback.

    Attributes
    ----------
    counts
        [items, items] upper triangle. The diagonal is the number of users who consumed the item.
    """

    counts: scipy.sparse.csr_matrix

    @classmethod
    def of(cls, gram: NDArray[np.float32]) -> "CoOccurrences":
        """Build the counts from a symmetric matrix [items, items]."""
        blocks = [
            scipy.sparse.csr_matrix(np.triu(gram[start : start + _BLOCK_ITEMS], start))
            for start in range(0, len(gram), _BLOCK_ITEMS)
        ]
        return cls(scipy.sparse.vstack(blocks, format="csr"))

    def changed(self, before: Sequences, after: Sequences) -> "CoOccurrences":
        """Return the counts after some users' events changed from `before` to `after`."""
        n_items = self.counts.shape[0]
        change = _co_occurrences(after, n_items) - _co_occurrences(before, n_items)
        counts = (self.counts + scipy.sparse.triu(change, format="csr")).maximum(0).tocsr()
        counts.eliminate_zeros()
        return CoOccurrences(counts.astype(np.float32))

    def aligned(self, positions: NDArray[np.int64], n_items: int) -> "CoOccurrences":
        """Move item i to `positions[i]` in a catalogue of `n_items`; a negative position drops the item."""
        moved = _moved(self.counts, positions, n_items).tocoo()
        rows, columns = np.minimum(moved.row, moved.col), np.maximum(moved.row, moved.col)
        return CoOccurrences(scipy.sparse.csr_matrix((moved.data, (rows, columns)), shape=moved.shape))

    def gram(self) -> NDArray[np.float32]:
        """Return the symmetric matrix [items, items]."""
        gram = np.zeros(self.counts.shape, dtype=np.float32)
        _add_blocks(gram, scipy.sparse.triu(self.counts, 1).T.tocsr())
        _add_blocks(gram, self.counts)
        return gram


def _moved(
    matrix: scipy.sparse.csr_matrix, positions: NDArray[np.int64], n_items: int
) -> scipy.sparse.csr_matrix:
    found = matrix.tocoo()
    rows, columns = positions[found.row], positions[found.col]
    keep = (rows >= 0) & (columns >= 0)
    return scipy.sparse.csr_matrix(
        (found.data[keep], (rows[keep], columns[keep])), shape=(n_items, n_items), dtype=np.float32
    )


@dataclass(frozen=True)
class EASE:
    """Item-to-item weights of collaborative filtering.

    Attributes
    ----------
    weights
        [items, items] `weights[i, j]` is what having consumed i adds to the score of j.
    negative
        Weight of a disliked item in a history.
    co_occurrences
        The counts that the weights were solved from. None if the weights are never updated.
    """

    weights: scipy.sparse.csr_matrix
    negative: float = 1.0
    co_occurrences: CoOccurrences | None = None

    @classmethod
    def fit(
        cls,
        sequences: Sequences | Sequence[Sequences],
        n_items: int,
        regularisation: float = 100.0,
        *,
        neighbours: int | None = None,
        negative: float = 1.0,
        keep_counts: bool = False,
        max_memory_bytes: int = 8 << 30,
    ) -> "EASE":
        """Solve for the weights from the non-negative events of `sequences`.

        Parameters
        ----------
        sequences
            Training events of all users, or parts with some of the users; item indices are below `n_items`.
        n_items
            Size of the catalogue.
        regularisation
            The quadratic penalty, lambda in the paper.
        neighbours
            Number of weights to keep for each item, those with the greatest magnitude; None keeps all.
        negative
            Weight of a disliked item when scoring. As a baseline 1 is best on ML-100K, where a low rating
            also shows interest. Below 0, a dislike lowers the scores of similar items.
        keep_counts
            Keep `co_occurrences`, so that `updated` works.
        max_memory_bytes
            Limit of the memory, checked before any is allocated.

        Raises
        ------
        ConfigurationError
            The catalogue is too large for the closed form, or the penalty is not above 0.
        """
        needed = fit_memory_bytes(n_items)
        if needed > max_memory_bytes:
            raise ConfigurationError(
                f"the collaborative-filtering part needs {needed / 2**30:.1f} GiB for {n_items} items, more "
                f"than its limit of {max_memory_bytes / 2**30:.1f} GiB; set "
                "RECSYS_MODEL__COLLABORATIVE_MAX_ITEMS lower to leave it out, or raise the limit"
            )
        if regularisation <= 0:
            raise ConfigurationError(f"the EASE penalty must be above 0, not {regularisation}")
        gram = _gram_matrix(parts_of(sequences), n_items)
        counts = CoOccurrences.of(gram) if keep_counts else None
        return cls(_solve(gram, regularisation, neighbours), negative, counts)

    def updated(
        self, before: Sequences, after: Sequences, regularisation: float, *, neighbours: int | None = None
    ) -> "EASE":
        """Return the weights after some users' events changed from `before` to `after`.

        The weights stay as they are without `co_occurrences`, and when the counts are inconsistent because
        `before` was never counted, for example because a user gave consent later.
        """
        if self.co_occurrences is None:
            return self
        counts = self.co_occurrences.changed(before, after)
        try:
            weights = _solve(counts.gram(), regularisation, neighbours)
        except scipy.linalg.LinAlgError as error:
            _log.warning("collaborative filtering is not updated until the next full fine-tune: %s", error)
            return self
        return EASE(weights, self.negative, counts)

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return int(self.weights.shape[0])

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return scores [users, items]; an empty history gives zeros."""
        matrix = interaction_matrix(histories, self.n_items, negative=self.negative)
        return np.asarray((matrix @ self.weights).todense(), dtype=np.float32)

    def aligned(self, positions: NDArray[np.int64], n_items: int) -> "EASE":
        """Move item i to `positions[i]` in a catalogue of `n_items`; a negative position drops the item."""
        counts = self.co_occurrences
        return replace(
            self,
            weights=_moved(self.weights, positions, n_items),
            co_occurrences=None if counts is None else counts.aligned(positions, n_items),
        )


def _solve(
    gram: NDArray[np.float32], regularisation: float, neighbours: int | None
) -> scipy.sparse.csr_matrix:
    """Solve for the weights [items, items]; overwrites the Gram matrix [items, items]."""
    n_items = len(gram)
    seen = np.flatnonzero(gram.diagonal() > 0)
    if len(seen) == 0:
        return scipy.sparse.csr_matrix((n_items, n_items), dtype=np.float32)
    gram = gram[np.ix_(seen, seen)]
    gram[np.diag_indices_from(gram)] += regularisation
    factor = scipy.linalg.cho_factor(gram, overwrite_a=True, check_finite=False)
    inverse = scipy.linalg.cho_solve(
        factor, np.eye(len(seen), dtype=np.float32), overwrite_b=True, check_finite=False
    )
    inverse /= -np.diag(inverse).copy()
    np.fill_diagonal(inverse, 0.0)
    if neighbours is not None and neighbours < len(seen):
        cut = np.partition(np.abs(inverse), len(seen) - neighbours, axis=0)[len(seen) - neighbours]
        inverse[np.abs(inverse) < cut] = 0.0
    weights = scipy.sparse.coo_matrix(inverse)
    return scipy.sparse.csr_matrix(
        (weights.data, (seen[weights.row], seen[weights.col])), shape=(n_items, n_items), dtype=np.float32
    )


@dataclass(frozen=True)
class Popularity:
    """Logarithm of how often an item was consumed: the prior for users without history."""

    counts: NDArray[np.float32]

    @classmethod
    def fit(cls, sequences: Sequences | Sequence[Sequences], n_items: int) -> "Popularity":
        """Count the non-negative events of each item, of all users or of parts with some of the users."""
        counts = np.zeros(n_items, dtype=np.int64)
        for part in parts_of(sequences):
            wanted = part.item_index[(part.sentiment >= 0) & (part.item_index >= 0)]
            counts += np.bincount(wanted, minlength=n_items)[:n_items]
        return cls(counts.astype(np.float32))

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return the same scores [users, items] for every user."""
        users = len(histories.offsets) - 1
        return np.broadcast_to(np.log1p(self.counts), (users, len(self.counts))).copy()

    def aligned(self, positions: NDArray[np.int64], n_items: int) -> "Popularity":
        """Move item i to `positions[i]` in a catalogue of `n_items`; new items have no count."""
        counts = np.zeros(n_items, dtype=np.float32)
        counts[positions[positions >= 0]] = self.counts[positions >= 0]
        return replace(self, counts=counts)
