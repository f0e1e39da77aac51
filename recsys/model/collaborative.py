"""Collaborative filtering in closed form: EASE and popularity.

EASE (Steck, 2019, "Embarrassingly Shallow Autoencoders for Sparse Data") is the item-to-item matrix
that best reconstructs what users consumed, with a zero diagonal and a quadratic penalty. One matrix
inversion fits it; it is hard to beat on warm items and says nothing about new ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from recsys.errors import ConfigurationError
from recsys.snapshot.sequences import Sequences, parts_of

DISLIKE_SIGN = -0.5
"""What a disliked or low-rated item counts in a history: it pushes its neighbours down."""
_BLOCK_ITEMS = 512


def fit_memory_bytes(n_items: int) -> int:
    """Peak memory of fitting EASE: the Gram matrix and its inverse in float32, with one work copy."""
    return 3 * 4 * n_items * n_items


def interaction_matrix(
    histories: Sequences, n_items: int, *, negative: float = 0.0, max_events: int | None = None
) -> scipy.sparse.csr_matrix:
    """Build the sparse [users, items] matrix: 1 for consumed, `negative` for disliked items.

    An item met more than once counts once, with its latest sentiment. With `max_events` only the
    latest events of a user are read.
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
    # np.unique keeps the first of equal keys; reversed, that is the latest event.
    _, latest = np.unique((rows * n_items + columns)[::-1], return_index=True)
    chosen = len(rows) - 1 - latest
    matrix = scipy.sparse.csr_matrix(
        (values[chosen], (rows[chosen], columns[chosen])), shape=(users, n_items), dtype=np.float32
    )
    matrix.eliminate_zeros()
    return matrix


def _gram_matrix(parts: Sequence[Sequences], n_items: int) -> NDArray[np.float32]:
    """Return [items, items]: how many users consumed both."""
    gram = np.zeros((n_items, n_items), dtype=np.float32)
    for part in parts:
        interactions = interaction_matrix(part, n_items)
        product = (interactions.T @ interactions).tocsr()
        for start in range(0, n_items, _BLOCK_ITEMS):  # no second dense matrix of all items
            gram[start : start + _BLOCK_ITEMS] += product[start : start + _BLOCK_ITEMS].toarray()
    return gram


@dataclass(frozen=True)
class EASE:
    """Item-to-item weights; `weights[i, j]` is what having consumed i adds to the score of j."""

    weights: scipy.sparse.csr_matrix
    negative: float = 1.0

    @classmethod
    def fit(
        cls,
        sequences: Sequences | Sequence[Sequences],
        n_items: int,
        regularisation: float = 100.0,
        *,
        neighbours: int | None = None,
        negative: float = 1.0,
        max_memory_bytes: int = 8 << 30,
    ) -> "EASE":
        """Solve for the weights from the non-negative events of `sequences`.

        Parameters
        ----------
        sequences
            Training events, whole or some users at a time; their item indices are below `n_items`.
        n_items
            Size of the catalogue.
        regularisation
            The quadratic penalty, lambda of the paper.
        neighbours
            Keep only this many weights of the greatest magnitude for each item; all when None.
        negative
            What a disliked item counts when scoring. As a baseline 1 is strongest on ML-100K: there a
            low rating is interest too. Below 0, a dislike pushes its like down.
        max_memory_bytes
            Refuse, before it is spent, to use more than this.

        Raises
        ------
        ConfigurationError
            When the catalogue is too large for the closed form.
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
        seen = np.flatnonzero(gram.diagonal() > 0)
        if len(seen) == 0:
            return cls(scipy.sparse.csr_matrix((n_items, n_items), dtype=np.float32), negative)
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
        full = scipy.sparse.csr_matrix(
            (weights.data, (seen[weights.row], seen[weights.col])), shape=(n_items, n_items), dtype=np.float32
        )
        return cls(full, negative)

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return int(self.weights.shape[0])

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return scores [users, items]; an empty history gives zeros."""
        matrix = interaction_matrix(histories, self.n_items, negative=self.negative)
        return np.asarray((matrix @ self.weights).todense(), dtype=np.float32)

    def aligned(self, positions: NDArray[np.int64], n_items: int) -> "EASE":
        """Move item i to `positions[i]` in a catalogue of `n_items`; a negative position drops it."""
        weights = self.weights.tocoo()
        rows, columns = positions[weights.row], positions[weights.col]
        keep = (rows >= 0) & (columns >= 0)
        moved = scipy.sparse.csr_matrix(
            (weights.data[keep], (rows[keep], columns[keep])), shape=(n_items, n_items), dtype=np.float32
        )
        return replace(self, weights=moved)


@dataclass(frozen=True)
class Popularity:
    """The logarithm of how often an item was consumed: the prior for users nothing is known of."""

    counts: NDArray[np.float32]

    @classmethod
    def fit(cls, sequences: Sequences | Sequence[Sequences], n_items: int) -> "Popularity":
        """Count the non-negative events of each item; they may come whole or some users at a time."""
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
