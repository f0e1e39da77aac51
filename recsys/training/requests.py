"""Learn to answer requests in words from what items say of themselves: each phrase asks for its items.

A phrase as a request is matched with what its items say *besides* it. So what is learned is how words are
answered that no item has, as people choose them; words that items do have find those by themselves.
"""

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.model.fusion import standardise
from recsys.model.recommender import Recommender
from recsys.model.requests import RequestMatcher, item_requests
from recsys.snapshot.sequences import Catalogue

MOST_ITEMS = 50_000
"""Of a larger catalogue a part is learned from, drawn at random."""
VALIDATION_SHARE = 0.1
_OWN_WORDS_SHARE = 0.3
"""Of the requests that are titles and descriptions, which are many and tell less than attributes."""
_BATCH_LOGITS = 1 << 20
_MOST_REQUESTS = 128
"""In a batch."""
_LEAST_VALUES = 30
"""Of attributes: from fewer it cannot be told whether what was learned holds for others."""
_LEAST_APART, _MOST_APART = 6, 256
_LEARNING_RATE = 1e-3
_WEIGHT_DECAY = 0.1


class PhraseTable:
    """A catalogue's phrases, each as a request.

    Attributes
    ----------
    vectors
        [phrases, width]
    items
        [phrases, items] sparse: what a phrase weighs in an item's answer.
    are_attributes
        [phrases] a value of some item's attribute; else titles and descriptions only.
    """

    def __init__(self, matcher: RequestMatcher, catalogue: Catalogue) -> None:
        by_item = item_requests(catalogue)
        bare = Catalogue.build(catalogue.item_ids.tolist(), [""] * len(catalogue), None, catalogue.attributes)
        attributes = {phrase for own in item_requests(bare) for phrase in own}
        self.phrases = sorted({phrase for own in by_item for phrase in own})
        self.are_attributes = np.array([phrase in attributes for phrase in self.phrases], dtype=bool)
        row = {phrase: number for number, phrase in enumerate(self.phrases)}
        counts = np.array([len(own) for own in by_item])
        weights = np.repeat(1 / np.sqrt(counts.clip(1)), counts).astype(np.float32)
        rows = [row[phrase] for own in by_item for phrase in own]
        columns = np.repeat(np.arange(len(counts)), counts)
        shape = (len(self.phrases), len(catalogue))
        self.items = scipy.sparse.csr_matrix((weights, (rows, columns)), shape=shape)
        self.vectors = matcher.encode_phrases(self.phrases)

    def ask_for(self, items: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
        """Return for each item [n] the row of a value of its attributes, at random; -1: it has none.

        The rarer a value, the likelier: one asks for what tells items apart.
        """
        by_item = self.items.T.tocsr()
        frequency = np.diff(self.items.indptr)
        rng = np.random.default_rng(seed)
        chosen = np.full(len(items), -1, dtype=np.int64)
        for number, item in enumerate(items):
            own = by_item.indices[by_item.indptr[item] : by_item.indptr[item + 1]]
            own = np.sort(own[self.are_attributes[own]])
            if len(own):
                chances = 1 / frequency[own]
                chosen[number] = rng.choice(own, p=chances / chances.sum())
        return chosen

    def match(self, matcher: RequestMatcher, rows: NDArray[np.int64], answers: Tensor) -> Tensor:
        """Return the logits [n, items] of phrases `rows` [n], matched with what items say besides them."""
        requests = self.vectors[torch.from_numpy(rows).to(self.vectors.device)]
        logits: Tensor = matcher(requests, answers)
        phrase, item, weight = self._having(rows)
        own = matcher.scale * ((requests + requests @ matcher.turn) * requests).sum(1)
        return logits.index_put((phrase, item), -own[phrase] * weight, accumulate=True)

    def loss(self, logits: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """Return the mean cross-entropy of softmaxes whose targets are all items that have the phrase."""
        phrase, item, _ = self._having(rows)
        each = torch.bincount(phrase, minlength=len(rows)).clamp(min=1)
        return -(logits.log_softmax(1)[phrase, item] / each[phrase]).sum() / len(rows)

    def _having(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Return place in `rows`, item, and weight, of all pairs of a phrase and an item that has it."""
        pairs = self.items[rows].tocoo()
        device = self.vectors.device
        phrase, item = (torch.from_numpy(part.astype(np.int64)).to(device) for part in (pairs.row, pairs.col))
        return phrase, item, torch.from_numpy(pairs.data).to(device)


def fit_requests(model: Recommender, steps: int, seed: int = 0) -> dict[str, float]:
    """Fit the matcher of requests on the phrases of the model's catalogue; nothing else moves.

    How popular an item is explains a part of how often it has a phrase, and is accounted for on the way.
    A tenth of the attributes' values is kept apart; when what was learned ranks it worse, the matcher stays
    as it was.

    Returns
    -------
    dict
        The loss on values kept apart, with and without what was learned; empty when there are too few.
    """
    rng = np.random.default_rng(seed)
    catalogue, answers = model.catalogue, model.answers
    popularity = np.log1p(model.popularity.counts)[None]
    if answers is None or not steps:
        return {}
    if len(catalogue) > MOST_ITEMS:
        part = np.sort(rng.choice(len(catalogue), MOST_ITEMS, replace=False))
        catalogue, answers, popularity = catalogue.take(part.tolist()), answers[part], popularity[:, part]
    table = PhraseTable(model.requests, catalogue)
    values = rng.permutation(np.flatnonzero(table.are_attributes))
    if len(values) < _LEAST_VALUES:
        return {}
    apart = values[: int(np.clip(round(VALIDATION_SHARE * len(values)), _LEAST_APART, _MOST_APART))]
    learned = np.setdiff1d(np.arange(len(table.phrases)), apart)
    matcher, prior = model.requests, torch.zeros((), device=answers.device, requires_grad=True)
    popular = torch.from_numpy(standardise(popularity)[0]).to(answers)

    def loss(rows: NDArray[np.int64]) -> Tensor:
        return table.loss(table.match(matcher, rows, answers) + prior * popular, rows)

    untrained = matcher.turn.clone(), matcher.scale.clone()
    moved = matcher.turn.requires_grad_(True), matcher.scale.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [
            {"params": [matcher.turn], "lr": _LEARNING_RATE, "weight_decay": _WEIGHT_DECAY},
            {"params": [matcher.scale, prior], "lr": 30 * _LEARNING_RATE, "weight_decay": 0.0},
        ]
    )
    fall = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    chances = _chances(table.are_attributes[learned])
    size = int(np.clip(_BATCH_LOGITS // len(catalogue), 1, _MOST_REQUESTS))
    for _ in range(steps):
        optimizer.zero_grad()
        loss(rng.choice(learned, size, p=chances)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        fall.step()
    for weights in moved:
        weights.requires_grad_(False)
    with torch.no_grad():
        losses = {"request_loss": float(loss(apart))}
        trained = matcher.turn.clone(), matcher.scale.clone()
        _put(matcher, untrained)
        losses["request_loss_untrained"] = float(loss(apart))
        if losses["request_loss"] < losses["request_loss_untrained"]:
            _put(matcher, trained)
    return losses


def _put(matcher: RequestMatcher, learned: tuple[Tensor, Tensor]) -> None:
    matcher.turn.copy_(learned[0])
    matcher.scale.copy_(learned[1])


def _chances(are_attributes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the chance [phrases] of each to be drawn."""
    kinds = np.where(are_attributes, 1 - _OWN_WORDS_SHARE, _OWN_WORDS_SHARE)
    alike = np.where(are_attributes, are_attributes.sum(), (~are_attributes).sum())
    chances = kinds / alike
    return np.asarray(chances / chances.sum())
