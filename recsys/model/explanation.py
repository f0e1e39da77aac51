"""Why an item is recommended: the events and attributes that speak most for it.

How much each part of the score adds is in `Recommender.contributions`. Within the parts:

- An event's contribution is what it adds in collaborative filtering, where that knows the item (a sum
  over the events, so this is exact), otherwise the cosine of its item's vector with the recommended
  item's: what a transformer makes of one event alone is not defined.
- An attribute's contribution is the user's mean score (without collaborative filtering) of the items
  that share it, drawn towards 0, the mean of all items, where few do.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from torch import Tensor

from recsys.model.attributes import NO_LABEL, attribute_labels
from recsys.model.ranking import NO_ITEM
from recsys.model.recommender import Recommender
from recsys.model.scoring import Scorer
from recsys.snapshot.sequences import Catalogue, Sequences

POPULAR = "popular"
SIMILAR = "similar"
COLLABORATIVE = "collaborative"
_KINDS = (POPULAR, SIMILAR, COLLABORATIVE)

_PRIOR_ITEMS = 5.0
_NONE = NO_LABEL

_DID = {
    "rating": "rated {title} highly",
    "like": "liked {title}",
    "comment": "commented on {title}",
    "view": "viewed {title}",
    "click": "clicked on {title}",
    "purchase": "bought {title}",
    "share": "shared {title}",
    "dwell": "spent time with {title}",
}


@dataclass(frozen=True)
class Evidence:
    """One event of the history and what it adds; `contribution` is comparable within one reason."""

    item_index: int
    event_type: str
    contribution: float


@dataclass(frozen=True)
class Attribute:
    """What the item has in common with others that the user is predicted to choose, as "key: value"."""

    label: str
    contribution: float


@dataclass(frozen=True)
class Reason:
    """Why one item is recommended to one user.

    `kind` is `collaborative` (users of the evidence went on to the item), `similar` (its vector is near
    the evidence's) or `popular` (nothing in the history speaks for it).
    """

    item_index: int
    kind: str
    evidence: tuple[Evidence, ...]
    attributes: tuple[Attribute, ...]
    sentence: str

    def to_dict(self, catalogue: Catalogue) -> dict[str, Any]:
        """Return a JSON-ready dict with item ids in place of indices."""
        content = asdict(self)
        for part in (content, *content["evidence"]):
            item = part.pop("item_index")
            part["item_id"] = None if item == NO_ITEM else str(catalogue.item_ids[item])
        return content


def explain(
    recommender: Recommender, histories: Sequences, items: NDArray[np.int32], *, most: int = 2
) -> list[list[Reason]]:
    """Return a reason for each recommended item, [users][k].

    Parameters
    ----------
    recommender
        On the catalogue that the indices refer to.
    histories
        [users]; the latest `max_events` events that are not negative can be evidence.
    items
        [users, k] from `ranking.top_k`; `NO_ITEM` gets an empty reason.
    most
        Events and attributes for each item.
    """
    scorer = recommender.scorer()
    return Explainer(scorer, most=most)(histories, scorer.user_vectors(histories), items).reasons()


class Explainer:
    """Explains batch after batch of lists; what concerns items is computed once."""

    def __init__(self, scorer: Scorer, *, most: int = 2) -> None:
        self.scorer = scorer
        self.model = scorer.model
        self.most = most
        length = np.linalg.norm(scorer.item_vectors, axis=1, keepdims=True)
        self._directions = scorer.item_vectors / np.maximum(length, 1e-9)
        self.labels, self._labels_of = attribute_labels(self.model.catalogue.attributes)
        self._label_scores = self._mean_items()

    def __call__(self, histories: Sequences, users: Tensor, items: NDArray[np.int32]) -> "Explanations":
        """Explain lists.

        Parameters
        ----------
        histories, users
            Of the same users, and their vectors [users, dim].
        items
            [users, k]
        """
        past = self.model.read_comments(histories)
        past = past.where(past.sentiment >= 0).last(self.model.settings.max_events)
        events = _latest_of_items(past, len(self.model.catalogue))
        wanted = np.where(items == NO_ITEM, 0, items)
        support, collaborative = self._support(past, events, wanted)
        support[items == NO_ITEM] = -np.inf
        chosen, evidence_scores = _best(support, self.most)
        rows = np.arange(len(items))[:, None, None]
        evidence = np.where(chosen == _NONE, _NONE, events[rows, chosen]) if events.size else chosen
        kind = np.where(evidence[:, :, 0] == _NONE, 0, np.where(collaborative, 2, 1))
        own, scores = self._attributes(users, wanted)
        scores[items == NO_ITEM] = -np.inf
        best, attribute_scores = _best(scores, self.most)
        first = np.where(kind == 0, 0, past.item_index[evidence[:, :, 0]] if past.events else 0)
        shared = (own[:, :, :, None] == self._labels_of[first][:, :, None, :]).any(axis=3)
        common, _ = _best(np.where(shared & (kind > 0)[:, :, None], scores, -np.inf), 1)
        return Explanations(
            self,
            past,
            items,
            kind,
            evidence,
            evidence_scores,
            _take(own, best),
            attribute_scores,
            _take(own, common)[:, :, 0],
        )

    def _support(
        self, past: Sequences, events: NDArray[np.int64], wanted: NDArray[np.int32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return [users, k, length] what each event adds, and [users, k] whether others' doings say so."""
        if events.size == 0:
            return np.full((*wanted.shape, 1), -np.inf, dtype=np.float32), np.zeros(wanted.shape, dtype=bool)
        seen = past.item_index[events]
        support = self._directions[wanted] @ self._directions[seen].transpose(0, 2, 1)
        known: NDArray[np.bool_] = np.zeros(wanted.shape, dtype=bool)
        if self.model.collaborative is not None:
            pairs = np.broadcast_arrays(seen[:, None, :], wanted[:, :, None])
            found = self.model.collaborative.weights[pairs[0].ravel(), pairs[1].ravel()]
            together = np.asarray(found, dtype=np.float32).reshape(support.shape)
            together[np.broadcast_to((events == _NONE)[:, None, :], together.shape)] = 0.0
            known = np.asarray((together > 0).any(axis=2))
            support = np.where(known[:, :, None], together, support)
        support[np.broadcast_to((events == _NONE)[:, None, :], support.shape)] = -np.inf
        return support, known

    def _attributes(
        self, users: Tensor, wanted: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the items' labels and what each contributes, both [users, k, labels of an item]."""
        own = self._labels_of[wanted]
        queries = self.scorer.fused_queries(users).cpu().numpy()[:, :, None]
        scores = np.full(own.shape, -np.inf, dtype=np.float32)
        # One label of each item at a time: the vectors of all would take much memory.
        for place in range(own.shape[2]):
            label = own[:, :, place]
            product = (self._label_scores[label] @ queries)[:, :, 0]
            scores[:, :, place] = np.where(label == _NONE, -np.inf, product)
        return own, scores

    def _mean_items(self) -> NDArray[np.float32]:
        """Return [labels + 1, dim + 1] the shrunk mean of the scorer's items that have it; the last: none."""
        item, place = np.nonzero(self._labels_of != _NONE)
        shape = (len(self.labels) + 1, len(self._labels_of))
        ones = np.ones(len(item), dtype=np.float32)
        having = scipy.sparse.csr_matrix((ones, (self._labels_of[item, place], item)), shape=shape)
        sums = having @ self.scorer.items.cpu().numpy()
        counts = np.asarray(having.sum(axis=1)).reshape(-1, 1)
        return np.asarray(sums / (counts + _PRIOR_ITEMS), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Explanations:
    """Reasons for lists [users, k], as arrays."""

    explainer: Explainer
    past: Sequences
    items: NDArray[np.int32]
    kind: NDArray[np.int64]
    evidence: NDArray[np.int64]
    """[users, k, most] positions in `past`, or -1."""
    evidence_scores: NDArray[np.float32]
    attributes: NDArray[np.int32]
    """[users, k, most] labels, or -1."""
    attribute_scores: NDArray[np.float32]
    common: NDArray[np.int32]
    """[users, k] label that the first evidence has too, or -1."""

    def sentences(self) -> list[list[str]]:
        """Return one plain sentence for each item, [users][k]; an empty one where there is no item."""
        first = self.evidence[:, :, 0]
        none = first == _NONE
        item = np.where(none, 0, self.past.item_index[first] if self.past.events else 0).astype(np.int64)
        event_type = np.where(none, 0, self.past.event_type[first] if self.past.events else 0)
        positive = np.where(none, 0, self.past.sentiment[first] > 0 if self.past.events else 0)
        kind = np.where(self.items == NO_ITEM, _NONE, self.kind)
        columns = (item, event_type, positive, kind + 1, self.common + 1)
        shape = (item.max(initial=0) + 1, event_type.max(initial=0) + 1, 2, 4, len(self.explainer.labels) + 1)
        # Many places share a sentence: each is made once.
        different, place = np.unique(np.ravel_multi_index(columns, shape), return_inverse=True)
        made = np.empty(len(different), dtype=object)
        made[:] = [
            self._sentence(int(i), int(t), bool(p), int(k) - 1, int(c) - 1)
            for i, t, p, k, c in zip(*np.unravel_index(different, shape), strict=True)
        ]
        sentences: list[list[str]] = made[place.reshape(self.items.shape)].tolist()
        return sentences

    def reasons(self) -> list[list[Reason]]:
        """Return the reasons as data, [users][k]."""
        names, labels = self.explainer.model.event_types.names, self.explainer.labels
        result = []
        for user, sentences in enumerate(self.sentences()):
            row = []
            for place, sentence in enumerate(sentences):
                evidence = tuple(
                    Evidence(int(self.past.item_index[e]), names[self.past.event_type[e]], float(score))
                    for e, score in zip(
                        self.evidence[user, place], self.evidence_scores[user, place], strict=True
                    )
                    if e != _NONE
                )
                attributes = tuple(
                    Attribute(labels[a], float(score))
                    for a, score in zip(
                        self.attributes[user, place], self.attribute_scores[user, place], strict=True
                    )
                    if a != _NONE
                )
                kind = _KINDS[self.kind[user, place]]
                row.append(Reason(int(self.items[user, place]), kind, evidence, attributes, sentence))
            result.append(row)
        return result

    def _sentence(self, item: int, event_type: int, positive: bool, kind: int, common: int) -> str:
        if kind == _NONE:
            return ""
        if _KINDS[kind] == POPULAR:
            return "Popular with others"
        model = self.explainer.model
        name = model.event_types.names[event_type]
        did = _DID.get(name, "chose {title}")
        if name == "rating" and not positive:
            did = "rated {title}"
        reason = did.format(title=model.catalogue.titles[item] or f"item {model.catalogue.item_ids[item]}")
        also = "" if common == _NONE else f" (also {self.explainer.labels[common]})"
        if _KINDS[kind] == COLLABORATIVE:
            return f"Because you {reason}{also}"
        return f"Similar to what you chose: you {reason}{also}"


def _latest_of_items(past: Sequences, n_items: int) -> NDArray[np.int64]:
    """Return [users, length] positions of each user's events, of several with one item the latest; or -1."""
    owner = past.event_users()
    keys = owner * n_items + past.item_index
    # np.unique keeps the first of equal keys; reversed, that is the latest event.
    _, latest = np.unique(keys[::-1], return_index=True)
    positions = past.events - 1 - latest
    lengths = np.bincount(owner[positions], minlength=past.users)
    column = np.arange(len(positions)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    events = np.full((past.users, lengths.max(initial=0)), _NONE, dtype=np.int64)
    events[owner[positions], column] = positions
    return events


def _best(values: NDArray[np.float32], most: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return places and values of the greatest above 0 along the last axis, [..., most]; place -1: none."""
    left = values.copy()
    places = np.full((*values.shape[:-1], most), _NONE, dtype=np.int64)
    best = np.zeros(places.shape, dtype=np.float32)
    for number in range(most):
        place = left.argmax(axis=-1)[..., None]
        value = np.take_along_axis(left, place, axis=-1)
        np.put_along_axis(left, place, -np.inf, axis=-1)
        places[..., number : number + 1] = np.where(value > 0, place, _NONE)
        best[..., number : number + 1] = np.where(value > 0, value, 0.0)
    return places, best


def _take(values: NDArray[np.int32], places: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the values at places along the last axis; -1 where the place is."""
    found = np.take_along_axis(values, np.maximum(places, 0), axis=-1)
    return np.where(places == _NONE, _NONE, found).astype(np.int32)
