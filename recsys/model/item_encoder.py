"""Item vectors: projected text and numbers plus a gated id embedding."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.settings import ModelSettings

_BLOCK_ITEMS = 65_536
"""Items whose text vectors are normalised at a time: those of a million items take 1.4 GiB."""


class ItemEncoder(nn.Module):
    """Combine an item's text with what was learned from its events.

    The id vector is a residual. Training drops it at random, so that the text alone must suffice: an item
    that was never trained has no id vector and can still be recommended.

    Attributes
    ----------
    ids
        [items, dim] id vectors.
    trained
        [items] whether the item was in the training data; only then its id vector is used.
    numbers
        [items, numbers width] features of the attributes that are numbers (`recsys.model.item_numbers`).
    number_weight
        [dim, numbers width] their projection; None if the width is 0.
    """

    trained: Tensor
    numbers: Tensor
    number_weight: nn.Parameter | None

    def __init__(
        self, settings: ModelSettings, text_width: int, n_items: int, numbers_width: int = 0
    ) -> None:
        super().__init__()
        self.id_dropout = settings.id_dropout
        self.text_norm = nn.LayerNorm(text_width, elementwise_affine=False)
        self.projection = nn.Linear(text_width, settings.dim)
        self.norm = nn.LayerNorm(settings.dim)
        # Small, so that logits start near zero and do not dwarf the id vectors.
        nn.init.constant_(self.norm.weight, 0.1)
        self.gate = nn.Parameter(torch.zeros(settings.dim))
        self.ids = nn.Parameter(torch.randn(n_items, settings.dim) * 0.02)
        self.register_buffer("trained", torch.zeros(n_items, dtype=torch.bool), persistent=False)
        self.register_buffer("numbers", torch.zeros(n_items, numbers_width), persistent=False)
        weight = nn.Parameter(torch.zeros(settings.dim, numbers_width)) if numbers_width else None
        self.register_parameter("number_weight", weight)

    def forward(
        self,
        text_vectors: Tensor,
        items: Tensor | None = None,
        proxies: Tensor | None = None,
        *,
        sparse: bool = False,
    ) -> Tensor:
        """Return item vectors [items, dim].

        Parameters
        ----------
        text_vectors
            [items, text width]
        items
            [items] positions of these items in the catalogue; None for the whole catalogue.
        proxies
            [items] proxy of each item. An untrained item uses the id vector of its proxy.
        sparse
            Whether the gradient of the id vectors is sparse: of `items` only. It needs `items`.
        """
        from_text = self.from_text(text_vectors, items)
        if proxies is not None:
            items = torch.where(self.trained, torch.arange(len(proxies), device=proxies.device), proxies)
        ids: Tensor = self.ids
        use = self.trained
        if items is not None:
            ids, use = functional.embedding(items, ids, sparse=sparse), use[items]
        if self.training and self.id_dropout > 0:
            use = use & (torch.rand(use.shape, device=use.device) >= self.id_dropout)
        return from_text + 2 * torch.sigmoid(self.gate) * ids * use.unsqueeze(-1)

    @torch.no_grad()
    def start_training(self, items: Tensor, proxies: Tensor) -> None:
        """Mark items [n] as trained; a new item starts with the id vector of its proxy."""
        new = items[~self.trained[items]]
        self.ids[new] = self.ids[proxies[new]]
        self.trained[items] = True

    def from_text(self, text_vectors: Tensor, items: Tensor | None = None) -> Tensor:
        """Return item vectors [items, dim] from the text and the numbers alone; see `forward`."""
        blocks = [
            self.projection(self.text_norm(block))
            for block in text_vectors.split(_BLOCK_ITEMS)  # type: ignore[no-untyped-call]
        ]
        projected = blocks[0] if len(blocks) == 1 else torch.cat(blocks)
        if self.number_weight is not None:
            numbers = self.numbers if items is None else self.numbers[items]
            projected = projected + functional.linear(numbers, self.number_weight)
        result: Tensor = self.norm(projected)
        return result
