"""Explain recommendations: name the event and the shared attribute that support an item most.

- An item that the user has had before needs no other reason.
- An event supports an item by what it adds in collaborative filtering, if that knows the item. The score is
  a sum over the events, so this is exact. Otherwise support is the cosine of the two items' vectors: a
  transformer has no exact contribution of one event.
- An attribute supports an item by the user's mean score (without collaborative filtering) of the items that
  share it. The mean is shrunk towards 0, the mean of all items, when few items share the attribute.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from torch import Tensor

from recsys.model.attributes import NO_LABEL, attribute_labels
from recsys.model.ranking import NO_ITEM
from recsys.model.reasons import ReasonTexts, packaged_texts
from recsys.model.scoring import CatalogueScorer
from recsys.snapshot.sequences import Sequences

POPULAR, SIMILAR, COLLABORATIVE, REPEAT = 0, 1, 2, 3
"""Kinds of reasons: no event supports the item, vectors are similar, collaborative filtering, had before."""

_PRIOR_ITEMS = 5.0
_NONE = NO_LABEL

_SAID = {COLLABORATIVE: "because", SIMILAR: "like", REPEAT: "again"}
"""Names of the texts in `recsys.model.reasons`."""


class ListExplainer:
    """Explains batches of recommendation lists; everything that depends on items only is computed once."""

    def __init__(self, scorer: CatalogueScorer) -> None:
        self.scorer = scorer
        self.model = scorer.model
        length = np.linalg.norm(scorer.item_vectors, axis=1, keepdims=True)
        self._directions = scorer.item_vectors / np.maximum(length, 1e-9)
        self.labels, self._labels_of = attribute_labels(self.model.catalogue.attributes)
        self._label_scores = self._mean_items()

    def __call__(self, histories: Sequences, users: Tensor, items: NDArray[np.int32]) -> "Explanations":
        """Explain lists of recommendations.

        Parameters
        ----------
        histories, users
            Events of the users, and their vectors [users, dim]. The latest `max_events` events with items
            of which the user's last opinion is not negative can support an item.
        items
            [users, k] from `ranking.top_k`; `NO_ITEM` gets an empty explanation.
        """
        past = self.model.read_comments(histories)
        past = past.where(_can_support(past, len(self.model.catalogue))).last(self.model.settings.max_events)
        events = _latest_event_per_item(past, len(self.model.catalogue))
        wanted = np.where(items == NO_ITEM, 0, items)
        support, collaborative = self._support(past, events, wanted)
        support[items == NO_ITEM] = -np.inf
        best, event_support = _best_positive(support)
        rows = np.arange(len(items))[:, None]
        event = np.where(best == _NONE, _NONE, events[rows, best]) if events.size else best
        kind = np.where(event == _NONE, POPULAR, np.where(collaborative, COLLABORATIVE, SIMILAR))
        if past.events:
            kind[(event != _NONE) & (past.item_index[event] == wanted)] = REPEAT
        label, label_support = self._shared_labels(past, users, wanted, event)
        return Explanations(self, past, items, kind, event, event_support, label, label_support)

    def _support(
        self, past: Sequences, events: NDArray[np.int64], wanted: NDArray[np.int32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the support of each event [users, k, length], and whether it is collaborative [users, k]."""
        if events.size == 0:
            return np.full((*wanted.shape, 1), -np.inf, dtype=np.float32), np.zeros(wanted.shape, dtype=bool)
        seen = past.item_index[events]
        support = self._directions[wanted] @ self._directions[seen].transpose(0, 2, 1)
        known: NDArray[np.bool_] = np.zeros(wanted.shape, dtype=bool)
        if self.model.collaborative is not None:
            # Of real events only: most places are empty beside one long history.
            user, column = np.nonzero(events != _NONE)
            # Of the rows that are needed: to look up pairs in all weights would check all weights first.
            rows, place = np.unique(seen[user, column], return_inverse=True)
            own = self.model.collaborative.weights[rows]
            found = own[np.repeat(place, wanted.shape[1]), wanted[user].ravel()]
            together = np.zeros(support.shape, dtype=np.float32)
            together[user, :, column] = np.asarray(found).reshape(len(user), -1)
            known = np.asarray((together > 0).any(axis=2))
            support = np.where(known[:, :, None], together, support)
        # Nothing explains an item better than that the user had it before.
        support[seen[:, None, :] == wanted[:, :, None]] = np.inf
        support[np.broadcast_to((events == _NONE)[:, None, :], support.shape)] = -np.inf
        return support, known

    def _shared_labels(
        self, past: Sequences, users: Tensor, wanted: NDArray[np.int32], event: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the best label that item and event share, and its support, both [users, k]."""
        labels = self._labels_of[wanted]
        queries = self.scorer.fused_queries(users, self.scorer.fusions(past)).cpu().numpy()[:, :, None]
        support = np.full(labels.shape, -np.inf, dtype=np.float32)
        # One label of each item at a time: the vectors of all labels together need much memory.
        for place in range(labels.shape[2]):
            label = labels[:, :, place]
            product = (self._label_scores[label] @ queries)[:, :, 0]
            support[:, :, place] = np.where(label == _NONE, -np.inf, product)
        event_item = np.where(event == _NONE, 0, past.item_index[event] if past.events else 0)
        shared = (labels[:, :, :, None] == self._labels_of[event_item][:, :, None, :]).any(axis=3)
        best, best_support = _best_positive(
            np.where(shared & (event != _NONE)[:, :, None], support, -np.inf).astype(np.float32)
        )
        chosen = np.take_along_axis(labels, np.maximum(best, 0)[:, :, None], axis=2)[:, :, 0]
        return np.where(best == _NONE, _NONE, chosen).astype(np.int32), best_support

    def _mean_items(self) -> NDArray[np.float32]:
        """Return the shrunk mean [labels + 1, dim + 1] of the items with each label; the last row is 0."""
        item, place = np.nonzero(self._labels_of != _NONE)
        shape = (len(self.labels) + 1, len(self._labels_of))
        ones = np.ones(len(item), dtype=np.float32)
        having = scipy.sparse.csr_matrix((ones, (self._labels_of[item, place], item)), shape=shape)
        sums = having @ self.scorer.items.cpu().numpy()
        counts = np.asarray(having.sum(axis=1)).reshape(-1, 1)
        return np.asarray(sums / (counts + _PRIOR_ITEMS), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Explanations:
    """Reasons for lists [users, k], as arrays and as sentences.

    Attributes
    ----------
    past
        The events that can support an item.
    items
        [users, k] recommended items.
    kind
        [users, k] `POPULAR`, `SIMILAR`, `COLLABORATIVE` or `REPEAT`.
    event
        [users, k] position in `past` of the event that supports the item most, or -1.
    event_support
        [users, k] its support; comparable within one item only.
    label
        [users, k] attribute label that the item shares with that event's item, or -1.
    label_support
        [users, k] the user's shrunk mean score of the items with that label.
    """

    explainer: ListExplainer
    past: Sequences
    items: NDArray[np.int32]
    kind: NDArray[np.int64]
    event: NDArray[np.int64]
    event_support: NDArray[np.float32]
    label: NDArray[np.int32]
    label_support: NDArray[np.float32]

    def sentences(self, texts: Sequence[ReasonTexts] | None = None) -> list[list[str]]:
        """Return one plain sentence for each item, [users][k]; an empty one for `NO_ITEM`.

        Parameters
        ----------
        texts
            [users] in the language of each user; None: English.
        """
        texts = texts or [packaged_texts()] * len(self.items)
        spoken = {id(own): number for number, own in enumerate(texts)}
        language = np.array([spoken[id(own)] for own in texts], dtype=np.int64)[:, None]
        language = np.broadcast_to(language, self.items.shape)
        none = self.event == _NONE
        item = np.where(none, 0, self.past.item_index[self.event] if self.past.events else 0).astype(np.int64)
        event_type = np.where(none, 0, self.past.event_type[self.event] if self.past.events else 0)
        positive = np.where(none, 0, self.past.sentiment[self.event] > 0 if self.past.events else 0)
        kind = np.where(self.items == NO_ITEM, _NONE, self.kind)
        columns = (language, item, event_type, positive, kind + 1, self.label + 1)
        shape = (
            len(texts) + 1, item.max(initial=0) + 1, event_type.max(initial=0) + 1, 2, 5,
            len(self.explainer.labels) + 1,
        )  # fmt: skip
        # Many items have the same sentence: build each sentence once.
        different, place = np.unique(np.ravel_multi_index(columns, shape), return_inverse=True)
        built = np.empty(len(different), dtype=object)
        built[:] = [
            self._sentence(texts[int(s)], int(i), int(t), bool(p), int(k) - 1, int(c) - 1)
            for s, i, t, p, k, c in zip(*np.unravel_index(different, shape), strict=True)
        ]
        sentences: list[list[str]] = built[place.reshape(self.items.shape)].tolist()
        return sentences

    def _sentence(
        self, texts: ReasonTexts, item: int, event_type: int, positive: bool, kind: int, label: int
    ) -> str:
        if kind == _NONE:
            return ""
        if kind == POPULAR:
            return texts.say("popular")
        model = self.explainer.model
        title = model.catalogue.titles[item] or texts.say("untitled", id=model.catalogue.item_ids[item])
        did = texts.did(model.event_types.names[event_type], highly=positive, title=title)
        also = "" if label == _NONE else texts.say("also", label=self.explainer.labels[label])
        return texts.say(_SAID[kind], did=did, also=also)


def _can_support(past: Sequences, n_items: int) -> NDArray[np.bool_]:
    """Return whether each event [events] is with an item of which its user's last opinion is not negative.

    A view after a dislike is no opinion: the dislike still stands.
    """
    sentiment = past.sentiment
    opinions = np.flatnonzero(sentiment != 0)[::-1]
    if not (sentiment < 0).any():
        return np.ones(past.events, dtype=bool)
    keys = past.event_users() * n_items + past.item_index
    last_keys, last = np.unique(keys[opinions], return_index=True)
    refused = last_keys[sentiment[opinions[last]] < 0]
    return (sentiment >= 0) & ~np.isin(keys, refused)


def _latest_event_per_item(past: Sequences, n_items: int) -> NDArray[np.int64]:
    """Return positions [users, length] of each user's latest event with each item, or -1."""
    owner = past.event_users()
    keys = owner * n_items + past.item_index
    # np.unique keeps the first of equal keys; in reversed order that is the latest event.
    _, latest = np.unique(keys[::-1], return_index=True)
    positions = past.events - 1 - latest
    lengths = np.bincount(owner[positions], minlength=past.users)
    column = np.arange(len(positions)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    events = np.full((past.users, lengths.max(initial=0)), _NONE, dtype=np.int64)
    events[owner[positions], column] = positions
    return events


def _best_positive(values: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return position and value of the greatest value above 0 along the last axis, or -1 and 0."""
    place = values.argmax(axis=-1)
    best = np.take_along_axis(values, place[..., None], axis=-1)[..., 0]
    return np.where(best > 0, place, _NONE), np.where(best > 0, best, 0.0).astype(np.float32)
