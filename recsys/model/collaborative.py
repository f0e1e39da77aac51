"""Collaborative filtering in closed form, on the neighbours of each item; and popularity.

EASE (Steck, 2019, "Embarrassingly Shallow Autoencoders for Sparse Data") is the item-to-item matrix that
best reconstructs what users consumed, with a zero diagonal and a quadratic penalty. It inverts
[items, items]. Here the weights of each item are solved on its nearest items only, which are chosen by cosine
as in fsSLIM (Ning and Karypis, 2011, "SLIM: Sparse Linear Methods for Top-N Recommender Systems"): cost and
memory grow with the number of items, not with its square or cube, and after new events only the items with
other neighbours or other counts among them are solved again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
import scipy.linalg.lapack
import scipy.sparse
from numpy.typing import NDArray

from recsys.errors import ConfigurationError
from recsys.model.co_occurrences import MAX_PAIRS, CoOccurrences, interaction_matrix, moved, nearness
from recsys.model.sparse_scores import standardise_sparse, with_proxies
from recsys.snapshot.sequences import Sequences, parts_of

DISLIKE_SIGN = -0.5
"""Weight of a disliked or low-rated item in a history: it lowers the scores of its neighbours."""
NEIGHBOURS = 100
"""Items whose weights for an item are solved."""
_LARGER_PENALTY = 4.0
_TESTED_PENALTY = 0.1
_DENSE_COUNTS = 1 << 24
"""Counts, 64 MiB, up to which they are read from a dense matrix, which is four times as fast."""


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
        neighbours: int = NEIGHBOURS,
        negative: float = 1.0,
        keep_counts: bool = False,
        max_pairs: int = MAX_PAIRS,
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
            Number of nearest items that the weights of an item are solved on.
        negative
            Weight of a disliked item when scoring. As a baseline 1 is best on ML-100K, where a low rating
            also shows interest. Below 0, a dislike lowers the scores of similar items.
        keep_counts
            Keep `co_occurrences`, so that `updated` works.
        max_pairs
            Pairs of items that are counted; see `CoOccurrences.fit`.

        Raises
        ------
        ConfigurationError
            The penalty is not above 0, or memory does not suffice.
        """
        if regularisation <= 0:
            raise ConfigurationError(f"the EASE penalty must be above 0, not {regularisation}")
        counts = CoOccurrences.fit(parts_of(sequences), n_items, max_pairs)
        weights = _Neighbourhoods(counts, neighbours).solve(np.arange(n_items), regularisation)
        return cls(weights, negative, counts if keep_counts else None)

    def updated(
        self, before: Sequences, after: Sequences, regularisation: float, *, neighbours: int = NEIGHBOURS
    ) -> "EASE":
        """Return the weights after some users' events changed from `before` to `after`.

        They are those of solving all items again from the changed counts. Only items are solved whose own
        count or that of a neighbour, old or new, has changed. The weights stay as they are without
        `co_occurrences`.
        """
        if self.co_occurrences is None:
            return self
        counts, touched = self.co_occurrences.changed(before, after)
        solver = _Neighbourhoods(counts, neighbours)
        marked = touched.astype(np.float32)
        had = (self.weights != 0).T.astype(np.float32) @ marked > 0
        together = np.flatnonzero(solver.both @ marked > 0)
        has = [bool(touched[solver.nearest(item)[0]].any()) for item in together.tolist()]
        stale = np.union1d(np.flatnonzero(touched | had), together[np.array(has, dtype=np.bool_)])
        kept = np.ones(self.n_items, dtype=np.float32)
        kept[stale] = 0.0
        old = (self.weights @ scipy.sparse.diags(kept)).tocsr()
        old.eliminate_zeros()
        return EASE((old + solver.solve(stale, regularisation)).tocsr(), self.negative, counts)

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
            weights=moved(self.weights, positions, n_items),
            co_occurrences=None if counts is None else counts.aligned(positions, n_items),
        )


class StandardisedEASE:
    """Scores of EASE with mean 0 and standard deviation 1 for each user; see `with_proxies`."""

    def __init__(self, model: EASE, proxies: NDArray[np.int64], known: NDArray[np.bool_]) -> None:
        self._model = model
        self._known = int(known.sum())
        self._weights = with_proxies(model.weights, proxies, known)

    def __call__(self, histories: Sequences) -> tuple[scipy.sparse.csr_matrix, NDArray[np.float32]]:
        """Return scores [users, items] and shifts [users]; see `standardise_sparse`."""
        matrix = interaction_matrix(histories, self._model.n_items, negative=self._model.negative)
        return standardise_sparse((matrix @ self._weights).tocsr(), self._known)


class _Neighbourhoods:
    """Solves for the weights of single items on their nearest items.

    Parameters
    ----------
    counts
        How many users consumed both of two items.
    neighbours
        Number of nearest items.
    """

    def __init__(self, counts: CoOccurrences, neighbours: int) -> None:
        self.both = counts.symmetric()
        self.of_items = np.maximum(self.both.diagonal(), 1).astype(np.float32)
        self.neighbours = neighbours
        self._place = np.full(self.both.shape[0], -1, dtype=np.int32)
        is_small = self.both.shape[0] ** 2 <= _DENSE_COUNTS
        self._dense = self.both.toarray() if is_small else None

    def nearest(self, item: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the item's nearest items and the number of users who consumed both."""
        part = slice(self.both.indptr[item], self.both.indptr[item + 1])
        others, together = self.both.indices[part], self.both.data[part]
        is_other = others != item
        others, together = others[is_other], together[is_other]
        if len(others) > self.neighbours:
            near = nearness(together, self.of_items[others])
            last = np.partition(near, len(near) - self.neighbours)[len(near) - self.neighbours]
            chosen = near > last
            # Of equally near items the first: which other items there are makes no difference.
            chosen[np.flatnonzero(near == last)[: self.neighbours - chosen.sum()]] = True
            others, together = others[chosen], together[chosen]
        return others, together

    def solve(self, items: NDArray[np.int64], penalty: float) -> scipy.sparse.csr_matrix:
        """Return weights [items, items] with the columns of `items`; all others are empty."""
        found = [self._solve_one(int(item), penalty) for item in items]
        rows = np.concatenate([np.zeros(0, dtype=np.int32), *(near for near, _ in found)])
        weights = np.concatenate([np.zeros(0, dtype=np.float32), *(values for _, values in found)])
        columns = np.repeat(items, [len(near) for near, _ in found])
        return scipy.sparse.csr_matrix((weights, (rows, columns)), shape=self.both.shape, dtype=np.float32)

    def _solve_one(self, item: int, penalty: float) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        near, together = self.nearest(item)
        if not len(near):
            return near, together
        gram = self._gram(near)
        diagonal = np.diag_indices_from(gram)
        tested = gram.copy(order="F")
        tested[diagonal] += _TESTED_PENALTY * penalty
        if scipy.linalg.lapack.spotrf(tested, overwrite_a=True)[1]:
            # Counts of which only the nearest were kept belong to no set of users, and their eigenvalues may
            # be below 0. A penalty that only just outweighs those would leave huge weights.
            gram[diagonal] -= 2 * scipy.linalg.eigvalsh(gram, subset_by_index=(0, 0))[0]
        while True:
            regularised = gram.copy(order="F")
            regularised[diagonal] += penalty
            _, weights, failed = scipy.linalg.lapack.sposv(regularised, together, overwrite_a=True)
            if not failed:
                return near, weights
            penalty *= _LARGER_PENALTY

    def _gram(self, near: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the counts [near, near]."""
        if self._dense is not None:
            gram: NDArray[np.float32] = self._dense[np.ix_(near, near)]
            return gram.T  # in the order of LAPACK; the counts are symmetric
        rows = self.both[near]
        self._place[near] = np.arange(len(near), dtype=np.int32)
        column = self._place[rows.indices]
        self._place[near] = -1
        row = np.repeat(np.arange(len(near)), np.diff(rows.indptr))
        gram = np.zeros((len(near), len(near)), dtype=np.float32, order="F")
        kept = column >= 0
        gram[row[kept], column[kept]] = rows.data[kept]
        return gram


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
