"""Train a comment reader on comments that came with a rating, a like or a dislike."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy.stats
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.model.comments import CommentReader, without_opinion
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Sequences
from recsys.training.losses import rating_loss

_log = logging.getLogger(__name__)

MIN_COMMENTS = 40
"""With fewer comments nothing can be learned."""
MIN_COMMENTS_PER_SENTIMENT = 10
"""The same for positive comments and for negative comments."""
MIN_AUC = 0.6
"""AUC of positive against negative comments of other users; a reader below it is not used."""
MAX_P_VALUE = 0.001
"""Largest probability of such an AUC by chance: a reader that guesses is worse than none."""
_FOLDS = 5
_PENALTY = 1e-4


def fit_comment_reader(
    reader: CommentReader,
    sequences: Sequences,
    event_types: EventTypes,
    *,
    max_comments: int = 20_000,
    seed: int = 0,
) -> dict[str, float]:
    """Fit a reader to events with a comment and an opinion, and return how well it reads other users.

    The value is learned with a Huber loss. A like without a value counts as the highest value and a dislike
    as the lowest. Cross-validation over users predicts each user's comments from those of other users. These
    predictions set the cuts, so that the reader finds as many negative and positive comments as there are,
    and they give the metrics. The reader stays untrained, and reads nothing, if there are too few comments
    or if the metrics are no better than guessing.

    Parameters
    ----------
    max_comments
        Number of latest comments to learn from; more take time and help little.

    Returns
    -------
    dict
        `comments`: number of comments learned from. `comment_spearman`: correlation of predicted and given
        values. `comment_auc`: AUC of positive against negative comments. Empty if there are too few comments.
    """
    rows = _opinions(sequences, event_types)
    rows = rows[max(0, len(rows) - max_comments) :]
    sentiment = sequences.sentiment[rows]
    per_sentiment = min((sentiment > 0).sum(), (sentiment < 0).sum())
    if len(rows) < MIN_COMMENTS or per_sentiment < MIN_COMMENTS_PER_SENTIMENT:
        return {}
    texts = sequences.comments.take(sequences.comment[rows]).to_pylist()
    vectors = reader.encode(texts)
    given = sequences.value[rows]
    values = torch.from_numpy(np.where(np.isnan(given), sentiment > 0, given).astype(np.float32)).to(vectors)
    predicted = np.zeros(len(rows), dtype=np.float32)
    folds = np.random.default_rng(seed).integers(_FOLDS, size=sequences.users)[sequences.event_users()[rows]]
    for fold in np.unique(folds):
        in_fold = torch.from_numpy(folds == fold).to(vectors.device)
        weight, bias = _fit(vectors[~in_fold], values[~in_fold])
        predicted[folds == fold] = (vectors[in_fold] @ weight + bias).cpu().numpy()
    auc, p_value = _area_under_curve(predicted, sentiment)
    metrics = {
        "comments": float(len(rows)),
        "comment_spearman": float(scipy.stats.spearmanr(predicted, values.cpu().numpy()).statistic),
        "comment_auc": auc,
    }
    if auc < MIN_AUC or p_value > MAX_P_VALUE:
        _log.info("comments are not read: their words do not predict opinions (AUC %.2f)", auc)
        return metrics
    weight, bias = _fit(vectors, values)
    reader.weight.copy_(weight)
    reader.bias.copy_(bias)
    low, high = np.quantile(predicted, [(sentiment < 0).mean(), 1 - (sentiment > 0).mean()])
    reader.cuts.copy_(torch.tensor([low, max(high, np.nextafter(low, np.inf))]))
    reader.learn_pieces(texts)
    return metrics


def latest_opinions(parts: Sequence[Sequences], event_types: EventTypes, max_comments: int) -> Sequences:
    """Return the events of all parts that `fit_comment_reader` learns from, with only their comments."""
    if len(parts) == 1:
        return parts[0]
    latest = Sequences.empty()
    for part in parts:
        latest = Sequences.concat([latest, _only_latest(part, event_types, max_comments)])
    return _only_latest(latest, event_types, max_comments)


def _only_latest(sequences: Sequences, event_types: EventTypes, max_comments: int) -> Sequences:
    rows = _opinions(sequences, event_types)
    chosen = np.zeros(sequences.events, dtype=bool)
    chosen[rows[max(0, len(rows) - max_comments) :]] = True
    latest = sequences.where(chosen).without_empty_users()
    used, comment = np.unique(latest.comment, return_inverse=True)
    return replace(latest, comment=comment.astype(np.int32), comments=sequences.comments.take(used))


def _opinions(sequences: Sequences, event_types: EventTypes) -> NDArray[np.int64]:
    """Return the positions of events with a comment and an opinion, in time order."""
    explicit = event_types.explicit[sequences.event_type]
    rows = np.flatnonzero((sequences.comment >= 0) & ~without_opinion(sequences) & explicit)
    return rows[np.argsort(sequences.occurred_at[rows], kind="stable")]


def _fit(vectors: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise the mean Huber loss plus a quadratic penalty on the weights [width], a convex problem."""
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
    """Return the area under the ROC curve, and the probability of such an area by chance."""
    positive, negative = predicted[sentiment > 0], predicted[sentiment < 0]
    test = scipy.stats.mannwhitneyu(positive, negative, alternative="greater")
    return float(test.statistic / (len(positive) * len(negative))), float(test.pvalue)
