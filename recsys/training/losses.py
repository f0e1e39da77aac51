"""Losses of training: next item, liking and ratings."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_CHUNK_LOGITS = {"cpu": 1 << 19, "cuda": 1 << 26}
"""Logits computed at a time; on a CPU, as many as fit in its cache."""


def next_item_loss(users: Tensor, items: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of full-softmax cross-entropies.

    Logits are computed, turned into gradients and discarded chunk by chunk, so that [n, candidates] is never
    in memory as a whole: on a CPU, moving it takes a third of the time of
    `cross_entropy(users @ items.T)`.

    Parameters
    ----------
    users
        [n, dim] user vectors.
    items
        [candidates, dim] item vectors.
    targets, weights
        [n] row of the target among the candidates, and its weight.
    """
    result: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        users, items, targets, weights
    )
    return result


class _LinearCrossEntropy(torch.autograd.Function):
    """Softmax cross-entropy of a matrix product; the forward pass computes the gradients."""

    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        rows = max(1, _CHUNK_LOGITS[users.device.type] // max(len(items), 1))
        user_gradient, item_gradient = torch.empty_like(users), torch.zeros_like(items)
        loss = users.new_zeros(())
        for start in range(0, len(users), rows):
            part = slice(start, start + rows)
            logits = users[part] @ items.T
            target = targets[part, None]
            loss -= weights[part] @ logits.gather(1, target)[:, 0]
            highest = logits.amax(1, keepdim=True)
            chances = logits.sub_(highest).exp_()
            total = chances.sum(1, keepdim=True)
            loss += weights[part] @ (total.log() + highest)[:, 0]
            chances.mul_(weights[part, None] / total)
            chances.scatter_add_(1, target, -weights[part, None])
            torch.mm(chances, items, out=user_gradient[part])
            item_gradient.addmm_(chances.T, users[part])
        ctx.save_for_backward(user_gradient, item_gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        user_gradient, item_gradient = ctx.saved_tensors
        return user_gradient * gradient, item_gradient * gradient, None, None


def sampled_next_item_loss(
    users: Tensor,
    target_items: Tensor,
    negative_items: Tensor,
    targets: Tensor,
    negatives: Tensor,
    negative_log_counts: Tensor,
    weights: Tensor,
) -> Tensor:
    """Return the weighted sum of sampled-softmax cross-entropies with logQ correction.

    The logits of negatives are lowered by the logarithm of their expected number of draws, so that the sum
    over them estimates the sum over the catalogue (Bengio and Senécal, 2008). A negative that equals the
    position's target is left out.

    Parameters
    ----------
    users, target_items
        [n, dim]
    negative_items
        [negatives, dim]
    targets
        [n] item numbers.
    negatives, negative_log_counts
        [negatives] item numbers, and the logarithm of their expected number of draws.
    weights
        [n]
    """
    positive = (users * target_items).sum(-1, keepdim=True)
    others = users @ negative_items.T - negative_log_counts
    others = others.masked_fill(targets[:, None] == negatives[None, :], -torch.inf)
    return ((torch.logsumexp(torch.cat([positive, others], 1), 1) - positive[:, 0]) * weights).sum()


def liking_loss(like_logits: Tensor, sentiment: Tensor) -> Tensor:
    """Return the sum of binary cross-entropies over the events with a sentiment (-1 or 1).

    Parameters
    ----------
    like_logits, sentiment
        [n] logits of the liking head, and sentiments of the events.
    """
    known = sentiment != 0
    return functional.binary_cross_entropy_with_logits(
        like_logits[known], (sentiment[known] > 0).to(like_logits.dtype), reduction="sum"
    )


def rating_loss(predicted: Tensor, value: Tensor) -> Tensor:
    """Return the sum of Huber losses over the events with a value.

    Parameters
    ----------
    predicted, value
        [n] values scaled to 0..1; NaN for an event without a value.
    """
    known = ~value.isnan()
    return functional.huber_loss(predicted[known], value[known], reduction="sum", delta=0.25)
