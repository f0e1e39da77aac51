"""Add to the items what people asked for in words when they chose them from a list.

The mean direction of these requests is added to the item's request vector. Source: fields of clicked queries
in web search, Craswell and Szummer, "Random walks on the click graph" (2007), here as vectors. The words are
not kept, and an item that fewer than `LEAST_ASKING` users chose learns nothing, so its vector is no single
person's request.
"""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.model.fusion import ndcg_of_ranks
from recsys.model.recommender import Recommender
from recsys.snapshot.slates import Slates

LEAST_ASKING = 2
"""Users who must have chosen an item after a request."""
MIN_USERS = 30
"""With fewer users who chose something after a request, nothing shows whether requests help others."""
MOST_ANSWERS = 20_000
"""The latest ones are read. Encoding their requests takes minutes on a CPU."""
_MOST_CASES = 2_000
_FOLDS = 5
_LIKELY = 1.645
"""Standard errors that the gain of requests without an effect reaches in one of twenty fits."""
_BATCH_LOGITS = 1 << 25

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Answers:
    """Items that were chosen from lists that answer a request.

    Attributes
    ----------
    users, items, requests
        `[answers]` number of the user, position in the catalogue, and row of `vectors`.
    vectors
        `[requests, width]`
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    requests: NDArray[np.int64]
    vectors: Tensor

    def take(self, rows: NDArray[np.int64]) -> "_Answers":
        return _Answers(self.users[rows], self.items[rows], self.requests[rows], self.vectors)

    def directions(self, n_items: int) -> tuple[Tensor, Tensor]:
        """Return items `[n]` and the directions `[n, width]` of what was asked for.

        Each user counts once for an item.
        """
        pairs, pair, times = np.unique(
            self.users * n_items + self.items, return_inverse=True, return_counts=True
        )
        asking = np.bincount(pairs % n_items, minlength=n_items)
        found = np.flatnonzero(asking >= LEAST_ASKING)
        rows = np.flatnonzero(asking[self.items] >= LEAST_ASKING)
        place = torch.from_numpy(np.searchsorted(found, self.items[rows]))
        worth = torch.from_numpy((1 / times[pair[rows]]).astype(np.float32))
        device = self.vectors.device
        asked = self.vectors[torch.from_numpy(self.requests[rows]).to(device)]
        sums = torch.zeros(len(found), self.vectors.shape[1], device=device)
        sums.index_add_(0, place.to(device), asked * worth.to(device)[:, None])
        return torch.from_numpy(found).to(device), nn.functional.normalize(sums, dim=-1)


@torch.no_grad()
def add_answered_requests(model: Recommender, slates: Slates | None, k: int) -> dict[str, float]:
    """Add the directions of answered requests to the model's request vectors, if that helps other users.

    A fifth of the users at a time request what they chose, from items that know the requests of the others.
    Unless NDCG@k, as a mean over users, is better than chance explains, nothing changes.

    Parameters
    ----------
    slates
        Those shown before the held-out part of the feedback.

    Returns
    -------
    dict
        `answered_request_users` and `answered_request_gain`, the difference in NDCG@k. Empty if there are
        too few users.
    """
    if slates is None or model.request_vectors is None:
        return {}
    answers = _read_answers(model, slates)
    if answers is None:
        return {}
    gains = _gains(model, model.request_vectors, answers, k)
    gain, error = float(gains.mean()), float(gains.std() / np.sqrt(len(gains)))
    if gain > _LIKELY * error:
        items, directions = answers.directions(len(model.catalogue))
        model.request_vectors = model.request_vectors.index_add(0, items, directions)
        _log.info("%d items have learned what people asked for when they chose them", len(items))
    return {"answered_request_users": float(len(gains)), "answered_request_gain": gain}


def _read_answers(model: Recommender, slates: Slates) -> _Answers | None:
    slate = slates.slate_of_item
    shown = np.flatnonzero(slates.answered & (slates.items >= 0) & (slates.requests != "")[slate])
    shown = shown[-MOST_ANSWERS:]
    slate = slate[shown]
    # The keys are hashes, so the users of a fold are a random sample.
    keys, users = np.unique(slates.user_keys[slate].astype(str), return_inverse=True)
    if len(keys) < MIN_USERS:
        if len(keys):
            _log.info("%d users chose something after a request: too few to learn from", len(keys))
        return None
    texts, requests = np.unique(slates.requests[slate].astype(str), return_inverse=True)
    vectors = model.requests.encode_requests(texts.tolist())
    return _Answers(users.astype(np.int64), slates.items[shown], requests.astype(np.int64), vectors)


def _gains(model: Recommender, own: Tensor, answers: _Answers, k: int) -> NDArray[np.float64]:
    """Return `[users]` what the other users' requests add to NDCG@k."""
    fold = answers.users % _FOLDS
    users, gains = [], []
    cases = np.linspace(0, len(fold) - 1, min(_MOST_CASES, len(fold))).astype(np.int64)
    for number in range(_FOLDS):
        others = answers.take(np.flatnonzero(fold != number))
        added = others.directions(len(model.catalogue))
        asked = answers.take(cases[fold[cases] == number])
        users.append(asked.users)
        gains.append(_gain(model, own, asked, added, k))
    user, gain = np.concatenate(users), np.concatenate(gains)
    _, user = np.unique(user, return_inverse=True)
    return np.asarray(np.bincount(user, gain) / np.bincount(user))


def _gain(
    model: Recommender, own: Tensor, asked: _Answers, added: tuple[Tensor, Tensor], k: int
) -> NDArray[np.float64]:
    """Return `[answers]` NDCG@k of the chosen items with the added directions, minus without."""
    items, directions = added
    gains = np.zeros(len(asked.items))
    size = max(1, _BATCH_LOGITS // len(own))
    for start in range(0, len(gains), size):
        rows = slice(start, start + size)
        requests = asked.vectors[torch.from_numpy(asked.requests[rows]).to(own.device)]
        targets = torch.from_numpy(asked.items[rows]).to(own.device)[:, None]
        without = model.requests(requests, own)
        with_them = without.index_add(1, items, model.requests(requests, directions))
        ndcg = [ndcg_of_ranks(_ranks(logits, targets), k) for logits in (with_them, without)]
        gains[rows] = ndcg[0] - ndcg[1]
    return gains


def _ranks(logits: Tensor, targets: Tensor) -> NDArray[np.int64]:
    """Return `[answers]` the rank of the target; ties count against it."""
    ranks = (logits >= logits.gather(1, targets)).sum(1)
    return np.asarray(ranks.cpu().numpy(), dtype=np.int64)
