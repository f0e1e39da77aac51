"""Why an item is recommended: the events of the user's history that speak most for it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.model.ranking import NO_ITEM
from recsys.model.recommender import Recommender
from recsys.snapshot.sequences import Sequences

COLLABORATIVE = "collaborative"
SIMILAR = "similar"
POPULAR = "popular"

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
class Reason:
    """Why one item is recommended to one user.

    `kind` is `collaborative` (users of the evidence went on to the item), `similar` (its vector is near
    the evidence's) or `popular` (nothing in the history speaks for it).
    """

    item_index: int
    kind: str
    evidence: tuple[Evidence, ...]
    sentence: str


def explain(
    recommender: Recommender,
    histories: Sequences,
    item_index: NDArray[np.int32],
    *,
    most: int = 2,
    item_vectors: NDArray[np.float32] | None = None,
) -> list[list[Reason]]:
    """Return a reason for each recommended item.

    Parameters
    ----------
    recommender
        On the catalogue that the indices refer to.
    histories
        [users]; the latest `max_events` events that are not negative can be evidence.
    item_index
        [users, k] from `ranking.top_k`; `NO_ITEM` gets an empty reason.
    most
        Evidence for each item.
    item_vectors
        What `recommender.item_vectors()` gave, when the caller has it at hand.

    Returns
    -------
    list
        [users][k]
    """
    vectors = _unit(recommender.item_vectors() if item_vectors is None else item_vectors)
    histories = recommender.read_comments(histories)
    recent = histories.where(histories.sentiment >= 0).last(recommender.settings.max_events)
    by_item = None if recommender.collaborative is None else recommender.collaborative.weights.tocsc()
    result = []
    for user, wanted in enumerate(item_index):
        events = _latest_of_items(recent, user)
        seen, safe = recent.item_index[events], np.where(wanted == NO_ITEM, 0, wanted)
        support = vectors[seen] @ vectors[safe].T
        together = np.zeros_like(support) if by_item is None else by_item[:, safe].toarray()[seen]
        collaborative = np.asarray((together > 0).any(axis=0))
        support = np.where(collaborative, together, support)
        best = np.argsort(-support, axis=0, kind="stable")[:most]
        reasons = []
        for place, item in enumerate(wanted.tolist()):
            rows = [row for row in best[:, place].tolist() if support[row, place] > 0]
            evidence = tuple(
                Evidence(
                    int(seen[row]),
                    recommender.event_types.names[recent.event_type[events[row]]],
                    float(support[row, place]),
                )
                for row in rows
            )
            if item == NO_ITEM:
                reasons.append(Reason(NO_ITEM, POPULAR, (), ""))
            elif not evidence:
                reasons.append(Reason(item, POPULAR, (), "Popular with others"))
            else:
                kind = COLLABORATIVE if collaborative[place] else SIMILAR
                sentence = _sentence(
                    recommender, kind, evidence[0], bool(recent.sentiment[events[rows[0]]] > 0)
                )
                reasons.append(Reason(item, kind, evidence, sentence))
        result.append(reasons)
    return result


def _latest_of_items(recent: Sequences, user: int) -> NDArray[np.int64]:
    """Return positions of the user's events, of several with one item the latest."""
    events = np.arange(recent.offsets[user], recent.offsets[user + 1])
    _, latest = np.unique(recent.item_index[events][::-1], return_index=True)
    chosen: NDArray[np.int64] = events[len(events) - 1 - latest]
    return chosen


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return np.asarray(rows / length, dtype=np.float32)


def _sentence(recommender: Recommender, kind: str, first: Evidence, positive: bool) -> str:
    item = first.item_index
    title = recommender.catalogue.titles[item] or f"item {recommender.catalogue.item_ids[item]}"
    did = _DID.get(first.event_type, "chose {title}")
    if first.event_type == "rating" and not positive:
        did = "rated {title}"
    reason = did.format(title=title)
    return f"Because you {reason}" if kind == COLLABORATIVE else f"Similar to what you chose: you {reason}"
