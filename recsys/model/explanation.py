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
    vectors = recommender.item_vectors() if item_vectors is None else item_vectors
    recent = histories.where(histories.sentiment >= 0).last(recommender.settings.max_events)
    return [
        _explain_user(recommender, recent, user, item_index[user], vectors, most)
        for user in range(histories.users)
    ]


def _explain_user(
    recommender: Recommender,
    recent: Sequences,
    user: int,
    wanted: NDArray[np.int32],
    vectors: NDArray[np.float32],
    most: int,
) -> list[Reason]:
    events = np.arange(recent.offsets[user], recent.offsets[user + 1])
    # Of several events with an item the latest tells.
    _, latest = np.unique(recent.item_index[events][::-1], return_index=True)
    events = events[len(events) - 1 - latest]
    seen = recent.item_index[events]
    safe = np.where(wanted == NO_ITEM, 0, wanted)
    weights = _item_to_item(recommender, seen, safe)
    likeness = _cosine(vectors[seen], vectors[safe])
    reasons = []
    for place, item in enumerate(wanted.tolist()):
        if item == NO_ITEM:
            reasons.append(Reason(NO_ITEM, POPULAR, (), ""))
            continue
        kind, column = COLLABORATIVE, weights[:, place]
        if not (column > 0).any():
            kind, column = SIMILAR, likeness[:, place]
        best = np.argsort(-column, kind="stable")[:most]
        best = best[column[best] > 0]
        evidence = tuple(
            Evidence(
                int(seen[row]),
                recommender.event_types.names[recent.event_type[events[row]]],
                float(column[row]),
            )
            for row in best
        )
        strong = bool(len(best)) and recent.sentiment[events[best[0]]] > 0
        sentence = _sentence(recommender, kind, evidence, strong)
        reasons.append(Reason(item, kind if evidence else POPULAR, evidence, sentence))
    return reasons


def _item_to_item(
    recommender: Recommender, seen: NDArray[np.int32], wanted: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Return [seen, wanted] weights of the collaborative part, 0 without one."""
    shape = (len(seen), len(wanted))
    if recommender.collaborative is None or not len(seen):
        return np.zeros(shape, dtype=np.float32)
    rows, columns = np.repeat(seen, len(wanted)), np.tile(wanted, len(seen))
    return np.asarray(recommender.collaborative.weights[rows, columns], dtype=np.float32).reshape(shape)


def _cosine(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        length = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
        return np.asarray(rows / length, dtype=np.float32)

    return np.asarray(unit(left) @ unit(right).T, dtype=np.float32)


def _sentence(recommender: Recommender, kind: str, evidence: tuple[Evidence, ...], strong: bool) -> str:
    if not evidence:
        return "Popular with others"
    first = evidence[0]
    title = (
        recommender.catalogue.titles[first.item_index]
        or f"item {recommender.catalogue.item_ids[first.item_index]}"
    )
    did = _DID.get(first.event_type, "chose {title}")
    if first.event_type == "rating" and not strong:
        did = "rated {title}"
    reason = did.format(title=title)
    return f"Because you {reason}" if kind == COLLABORATIVE else f"Similar to what you chose: you {reason}"
