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
        [negatives] item numbers in ascending order, and the logarithm of their expected number of draws.
    weights
        [n]
    """
    result: Tensor = _SampledCrossEntropy.apply(  # type: ignore[no-untyped-call]
        users, target_items, negative_items, targets, negatives, negative_log_counts, weights
    )
    return result


class _SampledCrossEntropy(torch.autograd.Function):
    """Sampled softmax in chunks, as `_LinearCrossEntropy`, with the target apart from the negatives."""

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        target_items: Tensor,
        negative_items: Tensor,
        targets: Tensor,
        negatives: Tensor,
        negative_log_counts: Tensor,
        weights: Tensor,
    ) -> Tensor:
        rows = max(1, _CHUNK_LOGITS[users.device.type] // max(len(negatives), 1))
        # Fresh memory for the logits of each chunk would take as long as a tenth of the step.
        logits = users.new_empty(min(rows, len(users)), len(negatives))
        place = torch.searchsorted(negatives, targets).clamp(max=len(negatives) - 1)[:, None]
        is_target = negatives[place] == targets[:, None]
        positive = (users * target_items).sum(1, keepdim=True)
        user_gradient, item_gradient = torch.empty_like(users), torch.zeros_like(negative_items)
        target_factor = torch.empty_like(positive)
        loss = users.new_zeros(())
        for start in range(0, len(users), rows):
            part = slice(start, start + rows)
            others, own, weight = logits[: len(users[part])], positive[part], weights[part, None]
            torch.addmm(-negative_log_counts, users[part], negative_items.T, out=others)
            known = others.gather(1, place[part]).masked_fill_(is_target[part], -torch.inf)
            others.scatter_(1, place[part], known)
            highest = torch.maximum(others.amax(1, keepdim=True), own)
            chances = others.sub_(highest).exp_()
            of_target = (own - highest).exp()
            total = chances.sum(1, keepdim=True) + of_target
            loss += ((total.log() + highest - own) * weight).sum()
            chances.mul_(weight / total)
            target_factor[part] = weight * (of_target / total - 1)
            torch.mm(chances, negative_items, out=user_gradient[part])
            item_gradient.addmm_(chances.T, users[part])
        user_gradient.addcmul_(target_factor, target_items)
        ctx.save_for_backward(user_gradient, target_factor * users, item_gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (*(saved * gradient for saved in ctx.saved_tensors), None, None, None, None)


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
