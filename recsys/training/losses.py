"""What is minimised: next item, liking, ratings, and staying near the parent."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_CHUNK_LOGITS = {"cpu": 1 << 19, "cuda": 1 << 26}
"""Logits computed at a time: on a CPU as many as stay in its cache."""


def next_item_loss(
    users: Tensor, items: Tensor, targets: Tensor, weights: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Return the weighted sum of full-softmax cross-entropies.

    Logits are computed, turned into gradients and forgotten chunk by chunk, so that [n, candidates] never
    exists as a whole: a third of the time of `cross_entropy(users @ items.T)` on a CPU goes into moving it.

    Parameters
    ----------
    users
        [n, dim] user vectors.
    items
        [candidates, dim] item vectors.
    targets, weights
        [n] row of the target among the candidates, and its weight.
    smoothing
        Share of a target that is spread over all candidates: implicit feedback is not always meant.
    """
    result: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        users, items, targets, weights, smoothing
    )
    return result


class _LinearCrossEntropy(torch.autograd.Function):
    """Softmax cross-entropy of a product, with gradients made on the way forward."""

    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, targets: Tensor, weights: Tensor, smoothing: float
    ) -> Tensor:
        rows = max(1, _CHUNK_LOGITS[users.device.type] // max(len(items), 1))
        user_gradient, item_gradient = torch.empty_like(users), torch.zeros_like(items)
        loss = users.new_zeros(())
        for start in range(0, len(users), rows):
            part = slice(start, start + rows)
            logits = users[part] @ items.T
            own = targets[part, None]
            told = (1 - smoothing) * logits.gather(1, own)[:, 0]
            if smoothing:
                told += smoothing * logits.mean(1)
            loss -= weights[part] @ told
            highest = logits.amax(1, keepdim=True)
            chances = logits.sub_(highest).exp_()
            total = chances.sum(1, keepdim=True)
            loss += weights[part] @ (total.log() + highest)[:, 0]
            chances.mul_(weights[part, None] / total)
            chances.scatter_add_(1, own, -(1 - smoothing) * weights[part, None])
            if smoothing:
                chances -= smoothing / len(items) * weights[part, None]
            torch.mm(chances, items, out=user_gradient[part])
            item_gradient.addmm_(chances.T, users[part])
        ctx.save_for_backward(user_gradient, item_gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        user_gradient, item_gradient = ctx.saved_tensors
        return user_gradient * gradient, item_gradient * gradient, None, None, None


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

    The negatives' logits are lowered by the logarithm of their expected number of draws, so that the
    sum over them estimates the sum over the catalogue (Bengio and Senécal, 2008). A negative that is a
    position's own target is left out there.

    Parameters
    ----------
    users, target_items
        [n, dim]
    negative_items
        [negatives, dim]
    targets
        [n] item numbers.
    negatives, negative_log_counts
        [negatives] item numbers, and log of their expected number of draws.
    weights
        [n]
    """
    own = (users * target_items).sum(-1, keepdim=True)
    others = users @ negative_items.T - negative_log_counts
    others = others.masked_fill(targets[:, None] == negatives[None, :], -torch.inf)
    return ((torch.logsumexp(torch.cat([own, others], 1), 1) - own[:, 0]) * weights).sum()


def liking_loss(like_logits: Tensor, sentiment: Tensor) -> Tensor:
    """Return the sum of binary cross-entropies over events with a sentiment (-1 or 1)."""
    told = sentiment != 0
    return functional.binary_cross_entropy_with_logits(
        like_logits[told], (sentiment[told] > 0).to(like_logits.dtype), reduction="sum"
    )


def rating_loss(predicted: Tensor, value: Tensor) -> Tensor:
    """Return the sum of Huber losses over events with a value (scaled to 0..1; NaN: none)."""
    told = ~value.isnan()
    return functional.huber_loss(predicted[told], value[told], reduction="sum", delta=0.25)


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the sum of KL divergences of the student's next-item distribution from the teacher's.

    Parameters
    ----------
    student, teacher
        [n, candidates] logits; the teacher's without gradient.
    """
    return functional.kl_div(
        student.log_softmax(-1), teacher.log_softmax(-1), reduction="sum", log_target=True
    )
