"""Teach a comment reader: from comments that came with an opinion to those that come alone."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy.stats
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.model.comments import CommentReader, silent
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Sequences
from recsys.training.losses import rating_loss

_log = logging.getLogger(__name__)

LEAST_COMMENTS = 40
LEAST_OF_A_KIND = 10
"""Comments with a positive and with a negative opinion, below which nothing can be learned."""
LEAST_AUC = 0.6
MOST_CHANCE = 0.001
"""Of negative against positive comments not learned from, and the probability that guessing gives as much:
a reader that guesses is worse than none."""
_FOLDS = 5
_PENALTY = 1e-4


def fit_comment_reader(
    reader: CommentReader,
    sequences: Sequences,
    event_types: EventTypes,
    *,
    most: int = 20_000,
    seed: int = 0,
) -> dict[str, float]:
    """Fit a reader to events that have a comment and an opinion, and return how well it reads others.

    The value is learned with a Huber loss; a like without value counts as the highest and a dislike as
    the lowest. Each user's comments are judged by a reader that has learned from other users' only: on
    these predictions the cuts are set, so that comments are read as negative and as positive as often as
    they are, and the figures are measured. With too few comments, or when those figures are no better than
    guessing, the reader is left as it is: reading nothing.

    Parameters
    ----------
    most
        Comments to learn from, the latest; more cost time and help little.

    Returns
    -------
    dict
        `comments` learned from; `comment_spearman` of predicted and given value and `comment_auc` of negative
        against positive ones, on users not learned from; empty when there is too little to learn from.
    """
    rows = _opinions(sequences, event_types)
    rows = rows[max(0, len(rows) - most) :]
    sentiment = sequences.sentiment[rows]
    if len(rows) < LEAST_COMMENTS or min((sentiment > 0).sum(), (sentiment < 0).sum()) < LEAST_OF_A_KIND:
        return {}
    texts = sequences.comments.take(sequences.comment[rows]).to_pylist()
    vectors = reader.encode(texts)
    told = sequences.value[rows]
    values = torch.from_numpy(np.where(np.isnan(told), sentiment > 0, told).astype(np.float32)).to(vectors)
    predicted = np.zeros(len(rows), dtype=np.float32)
    folds = np.random.default_rng(seed).integers(_FOLDS, size=sequences.users)[sequences.event_users()[rows]]
    for fold in np.unique(folds):
        own = torch.from_numpy(folds == fold).to(vectors.device)
        weight, bias = _fit(vectors[~own], values[~own])
        predicted[folds == fold] = (vectors[own] @ weight + bias).cpu().numpy()
    auc, chance = _area_under_curve(predicted, sentiment)
    metrics = {
        "comments": float(len(rows)),
        "comment_spearman": float(scipy.stats.spearmanr(predicted, values.cpu().numpy()).statistic),
        "comment_auc": auc,
    }
    if auc < LEAST_AUC or chance > MOST_CHANCE:
        _log.info("comments are not read: what they say cannot be told from their words (AUC %.2f)", auc)
        return metrics
    weight, bias = _fit(vectors, values)
    reader.weight.copy_(weight)
    reader.bias.copy_(bias)
    low, high = np.quantile(predicted, [(sentiment < 0).mean(), 1 - (sentiment > 0).mean()])
    reader.cuts.copy_(torch.tensor([low, max(high, np.nextafter(low, np.inf))]))
    return metrics


def latest_opinions(parts: Sequence[Sequences], event_types: EventTypes, most: int) -> Sequences:
    """Return the events of all parts that `fit_comment_reader` learns from, with their comments only."""
    if len(parts) == 1:
        return parts[0]
    found = Sequences.empty()
    for part in parts:
        found = Sequences.concat([found, _only_latest(part, event_types, most)])
    return _only_latest(found, event_types, most)


def _only_latest(sequences: Sequences, event_types: EventTypes, most: int) -> Sequences:
    rows = _opinions(sequences, event_types)
    chosen = np.zeros(sequences.events, dtype=bool)
    chosen[rows[max(0, len(rows) - most) :]] = True
    latest = sequences.where(chosen).without_empty_users()
    used, comment = np.unique(latest.comment, return_inverse=True)
    return replace(latest, comment=comment.astype(np.int32), comments=sequences.comments.take(used))


def _opinions(sequences: Sequences, event_types: EventTypes) -> NDArray[np.int64]:
    """Return positions of events with a comment and an opinion, in time order."""
    explicit = event_types.explicit[sequences.event_type]
    rows = np.flatnonzero((sequences.comment >= 0) & ~silent(sequences) & explicit)
    return rows[np.argsort(sequences.occurred_at[rows], kind="stable")]


def _fit(vectors: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise the mean Huber loss and a quadratic penalty on the weights [width]; a convex problem."""
    weight = torch.zeros(vectors.shape[1], device=vectors.device, requires_grad=True)
    bias = values.mean().clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = rating_loss(vectors @ weight + bias, values) / len(values) + _PENALTY * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def _area_under_curve(predicted: NDArray[np.float32], sentiment: NDArray[np.int8]) -> tuple[float, float]:
    """Return the area under the ROC curve and the probability of one as large by chance."""
    positive, negative = predicted[sentiment > 0], predicted[sentiment < 0]
    found = scipy.stats.mannwhitneyu(positive, negative, alternative="greater")
    return float(found.statistic / (len(positive) * len(negative))), float(found.pvalue)
