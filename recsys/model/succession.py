"""What follows what: how many people chose an item soon after another one.

The user encoder learns order in general, in few weights. Which item follows a certain other one, such as the
next part of a series, is counted more exactly than it is learned, and a new pair counts at once. The score of
an item is the square root of

    sum over the user's latest events with items i, the newest first: DECAY^t * w(i, item)
    w(i, j) = n(i, j) / sqrt((n(i, .) + PRIOR) (n(., j) + PRIOR))

where n(i, j) is the number of people who chose j within `SPAN` events after an event with i. These are the
sequential rules of session-based recommendation (Ludewig and Jannach, 2018, "Evaluation of Session-based
Recommendation Algorithms"), divided as in a cosine, since what is chosen often follows everything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from recsys.memory import require_memory
from recsys.model.co_occurrences import MAX_EVENTS, MAX_PAIRS, keep_greatest, moved
from recsys.model.sparse_scores import standardise_sparse, with_proxies
from recsys.snapshot.sequences import Sequences
from recsys.snapshot.targets import find_targets

SPAN = 10
"""Events after an item in which a choice follows it, and latest events of a user that are read."""
DECAY = 0.8
"""Weight of an event as a share of that of the next newer one."""
PRIOR = 20.0
"""Pairs that an item has in addition, so that the few of a rare item are not trusted too much."""
_BLOCK_PAIRS = 1 << 23
_BLOCK_BYTES = 48 * _BLOCK_PAIRS
"""Keys of the pairs of some users, sorted, and their counts."""
_PAIR_BYTES = 8
_COPIES = 4
"""Copies of the counts while they are added and cut."""
_LARGEST_KEY = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Succession:
    """How many people chose an item soon after another one.

    Attributes
    ----------
    counts
        [items, items] `counts[i, j]` people chose j within `SPAN` events after i.
    """

    counts: scipy.sparse.csr_matrix

    @classmethod
    def fit(cls, parts: Sequence[Sequences], n_items: int, max_pairs: int = MAX_PAIRS) -> "Succession":
        """Count pairs of a non-negative event and a target after it, each person once.

        Parameters
        ----------
        parts
            Parts with some of the users; item indices are below `n_items`. Of a user the latest
            `co_occurrences.MAX_EVENTS` events count.
        max_pairs
            Number of counts to keep at most. An item keeps those of the items that follow it most.

        Raises
        ------
        ConfigurationError
            Memory does not suffice for the counts.
        """
        most = max(1, max_pairs // max(n_items, 1))
        counts = scipy.sparse.csr_matrix((n_items, n_items), dtype=np.float32)
        for part in parts:
            kept = min(most * n_items, counts.nnz + SPAN * part.events)
            require_memory(
                "counting the successions of items",
                {"pairs of items": _COPIES * _PAIR_BYTES * kept + _BLOCK_BYTES},
                "set RECSYS_MODEL__COLLABORATIVE_PAIRS lower",
            )
            for block in _pairs(part, n_items):
                counts = counts + block
                if counts.nnz > most * n_items:
                    counts = keep_greatest(counts, counts.data, most)
        return cls(counts)

    def changed(self, before: Sequences, after: Sequences) -> "Succession":
        """Return the counts after some users' events changed from `before` to `after`."""
        counts, n_items = self.counts, int(self.counts.shape[0])
        for block in _pairs(after, n_items):
            counts = counts + block
        for block in _pairs(before, n_items):
            counts = counts - block
        counts = counts.maximum(0).tocsr()
        counts.eliminate_zeros()
        return Succession(counts)

    def aligned(self, positions: NDArray[np.int64], n_items: int) -> "Succession":
        """Move item i to `positions[i]` in a catalogue of `n_items`; a negative position drops the item."""
        return Succession(moved(self.counts, positions, n_items))

    def weights(self) -> scipy.sparse.csr_matrix:
        """Return w [items, items]; see the module's docstring."""
        first = np.asarray(self.counts.sum(axis=1)).ravel() + PRIOR
        second = np.asarray(self.counts.sum(axis=0)).ravel() + PRIOR
        weights = self.counts.copy()
        weights.data /= np.repeat(np.sqrt(first), np.diff(weights.indptr)) * np.sqrt(second)[weights.indices]
        return weights


class StandardisedSuccession:
    """Scores of what follows, with mean 0 and standard deviation 1 for each user; see `with_proxies`."""

    def __init__(self, model: Succession, proxies: NDArray[np.int64], known: NDArray[np.bool_]) -> None:
        self._known = int(known.sum())
        self._weights = with_proxies(model.weights(), proxies, known)

    def __call__(self, histories: Sequences) -> tuple[scipy.sparse.csr_matrix, NDArray[np.float32]]:
        """Return scores [users, items] and shifts [users]; see `standardise_sparse`."""
        latest = histories.where(histories.sentiment >= 0).last(SPAN)
        age = np.repeat(latest.offsets[1:], latest.lengths) - 1 - np.arange(latest.events)
        events = scipy.sparse.csr_matrix(
            ((DECAY**age).astype(np.float32), latest.item_index, latest.offsets),
            shape=(latest.users, self._weights.shape[0]),
        )
        scores = (events @ self._weights).tocsr()
        np.sqrt(scores.data, out=scores.data)
        return standardise_sparse(scores, self._known)


def _pairs(histories: Sequences, n_items: int) -> Iterator[scipy.sparse.csr_matrix]:
    """Yield counts [items, items] of some users at a time."""
    is_known = (histories.item_index >= 0) & (histories.item_index < n_items)
    histories = histories.where(is_known).last(MAX_EVENTS)
    is_target = find_targets(histories).chosen
    can_lead = histories.sentiment >= 0
    items, owners = histories.item_index.astype(np.int64), histories.event_users()
    for first, last in _blocks(histories.offsets, n_items):
        begin, end = histories.offsets[first], histories.offsets[last]
        keys = [np.zeros(0, dtype=np.int64)]
        for steps in range(1, SPAN + 1):
            led, leader = np.arange(begin + steps, end), np.arange(begin, end - steps)
            kept = is_target[led] & can_lead[leader] & (owners[led] == owners[leader])
            kept &= items[led] != items[leader]
            led, leader = led[kept], leader[kept]
            keys.append(((owners[led] - first) * n_items + items[leader]) * n_items + items[led])
        # A person counts once for a pair, however often they go through it.
        pairs = np.unique(np.concatenate(keys)) % (n_items * n_items)
        ones = np.ones(len(pairs), dtype=np.float32)
        yield scipy.sparse.csr_matrix((ones, (pairs // n_items, pairs % n_items)), shape=(n_items, n_items))


def _blocks(offsets: NDArray[np.int64], n_items: int) -> Iterator[tuple[int, int]]:
    """Divide the users into ranges of about `_BLOCK_PAIRS` pairs, whose keys are whole numbers of 64 bits."""
    users = len(offsets) - 1
    pairs = (offsets[:-1] - offsets[0]) * SPAN // _BLOCK_PAIRS
    most = max(1, _LARGEST_KEY // max(n_items, 1) ** 2 - 1)
    cuts = {0, users, *(np.flatnonzero(np.diff(pairs)) + 1).tolist(), *range(0, users, most)}
    return pairwise(sorted(cuts))
