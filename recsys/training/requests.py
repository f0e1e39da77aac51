"""Train the matching of requests on the catalogue: each phrase is a request for the items that have it.

A phrase is matched with the *other* phrases of its items. Training therefore learns to match words that no
item has, as people use them. Words that items have match without training.
"""

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.model.fusion import standardise
from recsys.model.recommender import Recommender
from recsys.model.requests import RequestMatcher, item_phrases
from recsys.snapshot.sequences import Catalogue

MAX_ITEMS = 50_000
"""From a larger catalogue, this many items are drawn at random to learn from."""
VALIDATION_SHARE = 0.1
"""Share of attribute values that are held out for validation."""
_TITLE_SHARE = 0.3
"""Share of the drawn phrases that are titles or descriptions. There are many of them, and they teach less
than attribute values."""
_BATCH_LOGITS = 1 << 20
_MAX_BATCH = 128
_MIN_VALUES = 30
"""With fewer attribute values, validation cannot show whether training generalises."""
_MIN_HELD_OUT, _MAX_HELD_OUT = 6, 256
_LEARNING_RATE = 1e-3
_WEIGHT_DECAY = 0.1


class PhraseTable:
    """The phrases of a catalogue, each as a request for the items that have it.

    Attributes
    ----------
    phrases
        The texts.
    vectors
        [phrases, width]
    items
        [phrases, items] weight of a phrase in an item's request vector, sparse.
    are_attributes
        [phrases] whether the phrase is an attribute value of some item. The others are titles and
        descriptions.
    """

    def __init__(self, matcher: RequestMatcher, catalogue: Catalogue) -> None:
        by_item = item_phrases(catalogue)
        bare = Catalogue.build(catalogue.item_ids.tolist(), [""] * len(catalogue), None, catalogue.attributes)
        attributes = {phrase for own in item_phrases(bare) for phrase in own}
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

    def sample_phrases(self, items: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
        """Draw an attribute value for each item [n] and return its row; -1 for an item without one.

        Rare values are more likely, because people ask for what distinguishes items.
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

    def match(self, matcher: RequestMatcher, rows: NDArray[np.int64], request_vectors: Tensor) -> Tensor:
        """Return logits [n, items] of the phrases `rows` [n], matched with the items' other phrases.

        Parameters
        ----------
        request_vectors
            [items, width] request vectors of the items; the phrase's own part is subtracted.
        """
        requests = self.vectors[torch.from_numpy(rows).to(self.vectors.device)]
        logits: Tensor = matcher(requests, request_vectors)
        phrase, item, weight = self._having(rows)
        own = matcher.scale * ((requests + requests @ matcher.turn) * requests).sum(1)
        return logits.index_put((phrase, item), -own[phrase] * weight, accumulate=True)

    def loss(self, logits: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """Return the mean softmax cross-entropy; the targets are all items that have the phrase."""
        phrase, item, _ = self._having(rows)
        each = torch.bincount(phrase, minlength=len(rows)).clamp(min=1)
        return -(logits.log_softmax(1)[phrase, item] / each[phrase]).sum() / len(rows)

    def _having(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Return position in `rows`, item and weight for each pair of a phrase and an item that has it."""
        pairs = self.items[rows].tocoo()
        device = self.vectors.device
        phrase, item = (torch.from_numpy(part.astype(np.int64)).to(device) for part in (pairs.row, pairs.col))
        return phrase, item, torch.from_numpy(pairs.data).to(device)


def fit_requests(model: Recommender, steps: int, seed: int = 0) -> dict[str, float]:
    """Fit the request matcher to the phrases of the model's catalogue; no other weight changes.

    Popular items have more phrases, so popularity is one term of the fitted logits. A tenth of the attribute
    values is held out. If training ranks them worse, the matcher stays untrained.

    Parameters
    ----------
    steps
        Training steps; 0 leaves the matcher untrained.

    Returns
    -------
    dict
        `request_loss` and `request_loss_untrained`: the loss on held-out values with and without training.
        Empty if there are too few values.
    """
    rng = np.random.default_rng(seed)
    catalogue, vectors = model.catalogue, model.request_vectors
    popularity = np.log1p(model.popularity.counts)[None]
    if vectors is None or not steps:
        return {}
    if len(catalogue) > MAX_ITEMS:
        part = np.sort(rng.choice(len(catalogue), MAX_ITEMS, replace=False))
        catalogue, vectors, popularity = catalogue.take(part.tolist()), vectors[part], popularity[:, part]
    table = PhraseTable(model.requests, catalogue)
    values = rng.permutation(np.flatnonzero(table.are_attributes))
    if len(values) < _MIN_VALUES:
        return {}
    held_out = values[: int(np.clip(round(VALIDATION_SHARE * len(values)), _MIN_HELD_OUT, _MAX_HELD_OUT))]
    train = np.setdiff1d(np.arange(len(table.phrases)), held_out)
    matcher, popularity_weight = model.requests, torch.zeros((), device=vectors.device, requires_grad=True)
    popular = torch.from_numpy(standardise(popularity)[0]).to(vectors)

    def loss(rows: NDArray[np.int64]) -> Tensor:
        return table.loss(table.match(matcher, rows, vectors) + popularity_weight * popular, rows)

    untrained = matcher.turn.clone(), matcher.scale.clone()
    weights = matcher.turn.requires_grad_(True), matcher.scale.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [
            {"params": [matcher.turn], "lr": _LEARNING_RATE, "weight_decay": _WEIGHT_DECAY},
            {"params": [matcher.scale, popularity_weight], "lr": 30 * _LEARNING_RATE, "weight_decay": 0.0},
        ]
    )
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    probability = _probability(table.are_attributes[train])
    size = int(np.clip(_BATCH_LOGITS // len(catalogue), 1, _MAX_BATCH))
    for _ in range(steps):
        optimizer.zero_grad()
        loss(rng.choice(train, size, p=probability)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        decay.step()
    for weight in weights:
        weight.requires_grad_(False)
    with torch.no_grad():
        losses = {"request_loss": float(loss(held_out))}
        trained = matcher.turn.clone(), matcher.scale.clone()
        _set_weights(matcher, untrained)
        losses["request_loss_untrained"] = float(loss(held_out))
        if losses["request_loss"] < losses["request_loss_untrained"]:
            _set_weights(matcher, trained)
    return losses


def _set_weights(matcher: RequestMatcher, weights: tuple[Tensor, Tensor]) -> None:
    matcher.turn.copy_(weights[0])
    matcher.scale.copy_(weights[1])


def _probability(are_attributes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the probability [phrases] of drawing each phrase."""
    of_kind = np.where(are_attributes, 1 - _TITLE_SHARE, _TITLE_SHARE)
    size_of_kind = np.where(are_attributes, are_attributes.sum(), (~are_attributes).sum())
    probability = of_kind / size_of_kind
    return np.asarray(probability / probability.sum())
