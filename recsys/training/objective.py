"""Compute the losses of one training step from a batch of events."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from recsys.model.events import EventBatch
from recsys.model.recommender import Recommender
from recsys.settings import TrainingSettings
from recsys.training.losses import liking_loss, next_item_loss, rating_loss, sampled_next_item_loss


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses, relative to the next-item loss; 0 leaves a loss out."""

    liking: float
    rating: float
    next_item: float = 1.0


@dataclass(frozen=True)
class FreshText:
    """Items whose text is encoded with gradient in this step.

    Attributes
    ----------
    items
        [n] positions in the catalogue.
    vectors
        [n, text width] their text vectors.
    """

    items: Tensor
    vectors: Tensor


class Objective:
    """Computes the losses of a batch, as sums and the counts to divide them by.

    Parameters
    ----------
    model
        The recommender, in training mode.
    weights
        Weights of the losses.
    counts
        [items] how often an item is a target in the training data. Negatives are drawn by its square root.
    settings
        Catalogue size up to which the softmax is full, number of sampled negatives, seed.
    """

    def __init__(
        self,
        model: Recommender,
        weights: LossWeights,
        counts: NDArray[np.float32],
        settings: TrainingSettings,
    ) -> None:
        self.model = model
        self.weights = weights
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.trained = model.items.trained.nonzero()[:, 0]
        self.sampled = len(self.trained) > settings.full_softmax_items
        self.sampled_negatives = settings.sampled_negatives
        draws = torch.from_numpy(counts).double()[self.trained.cpu()].clamp(min=1).sqrt()
        self.probability = draws / draws.sum()
        # `torch.multinomial` would add them up in each step.
        self._up_to = self.probability.cumsum(0)

    def __call__(
        self, batch: EventBatch, beginnings: Tensor, fresh: FreshText | None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Return (sum, count) of each loss by name.

        Parameters
        ----------
        batch
            Event windows. Each event is a target that is predicted from the events before it.
        beginnings
            [users] whether the window starts where the user's history starts. In other windows the first
            event has no context and is not a target.
        fresh
            Text vectors with gradient.
        """
        candidates, negatives = self._candidates(batch)
        device = candidates.device
        text = self.model.text_vectors[candidates]
        if fresh is not None:
            rows = _rows(candidates, fresh.items)
            # With several processes, an item may be in another one's part of the batch only.
            here = candidates[rows] == fresh.items
            text = text.index_copy(0, rows[here], fresh.vectors[here].to(text.dtype))
        inputs = batch.inputs()
        # The encoders compute in half precision; the losses and their softmax in full precision.
        with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
            items = self.model.items(text, candidates, sparse=self.sampled)
            hidden = self.model.users(inputs, functional.embedding(_rows(candidates, inputs.item), items))
        chosen = batch.mask.clone()
        chosen[:, 0] &= beginnings
        users = hidden[chosen].float()
        target = _rows(candidates, batch.item[chosen])
        weight, sentiment = batch.weight[chosen], batch.sentiment[chosen]
        items = items.float()
        wanted = weight > 0
        losses = {
            "next_item": (
                self._next_item(users[wanted], items, target[wanted], weight[wanted], candidates, negatives),
                weight.sum(),
            )
        }
        if self.weights.liking or self.weights.rating:
            likes = self.model.feedback(users, items[target])
            value = batch.value[chosen]
            losses["liking"] = (liking_loss(likes, sentiment), (sentiment != 0).sum())
            losses["rating"] = (rating_loss(self.model.feedback.value(likes), value), (~value.isnan()).sum())
        return losses

    def _candidates(self, batch: EventBatch) -> tuple[Tensor, Tensor | None]:
        """Return the items whose vectors this step needs, and the rows of sampled negatives in `trained`."""
        if not self.sampled:
            return self.trained, None
        numbers = torch.rand(self.sampled_negatives, dtype=torch.double, generator=self.generator)
        drawn = torch.unique(_rows(self._up_to, numbers * self._up_to[-1]))
        items = torch.cat([batch.item[batch.mask], self.trained[drawn.to(self.trained.device)]])
        return torch.unique(items), drawn

    def _next_item(
        self,
        users: Tensor,
        items: Tensor,
        target: Tensor,
        weight: Tensor,
        candidates: Tensor,
        negatives: Tensor | None,
    ) -> Tensor:
        if negatives is None:
            return next_item_loss(users, items, target, weight)
        rows = _rows(candidates, self.trained[negatives.to(self.trained.device)])
        chance = 1 - (1 - self.probability[negatives]) ** self.sampled_negatives
        return sampled_next_item_loss(
            users, items[target], items[rows], target, rows, chance.log().to(users), weight
        )


def _rows(ordered: Tensor, wanted: Tensor) -> Tensor:
    """Return the rows of wanted values; of another value, the row of the next one or the last.

    Its cost hardly grows with the catalogue, as that of a table of all rows would.
    """
    return torch.searchsorted(ordered, wanted.contiguous()).clamp(max=len(ordered) - 1)
