"""Items to vectors: projected text plus a gated id embedding."""

import torch
from torch import Tensor, nn

from recsys.settings import ModelSettings


class ItemEncoder(nn.Module):
    """Join what an item says of itself with what its consumption says of it.

    The id is a residual that is dropped at random in training, so the text alone must do: an item never
    met in training has no id part at all and is still recommendable.

    Attributes
    ----------
    ids
        [items, dim] id embeddings.
    trained
        [items] the item was met in training; the id part of the others is left out.
    """

    trained: Tensor

    def __init__(self, settings: ModelSettings, text_width: int, n_items: int) -> None:
        super().__init__()
        self.id_dropout = settings.id_dropout
        self.text_norm = nn.LayerNorm(text_width, elementwise_affine=False)
        self.projection = nn.Linear(text_width, settings.dim)
        self.norm = nn.LayerNorm(settings.dim)
        # Small, so that logits start near zero and the id part is not drowned.
        nn.init.constant_(self.norm.weight, 0.1)
        self.gate = nn.Parameter(torch.zeros(settings.dim))
        self.ids = nn.Parameter(torch.randn(n_items, settings.dim) * 0.02)
        self.register_buffer("trained", torch.zeros(n_items, dtype=torch.bool), persistent=False)

    def forward(
        self, text_vectors: Tensor, items: Tensor | None = None, lent_by: Tensor | None = None
    ) -> Tensor:
        """Return item vectors [items, dim].

        Parameters
        ----------
        text_vectors
            [items, text width]
        items
            [items] positions of these items in the catalogue; all of it when None.
        lent_by
            [items] positions of the items whose id part is lent to those never met in training.
        """
        if lent_by is not None:
            items = torch.where(self.trained, torch.arange(len(lent_by), device=lent_by.device), lent_by)
        ids, use = (self.ids, self.trained) if items is None else (self.ids[items], self.trained[items])
        if self.training and self.id_dropout > 0:
            use = use & (torch.rand(use.shape, device=use.device) >= self.id_dropout)
        return self.from_text(text_vectors) + 2 * torch.sigmoid(self.gate) * ids * use.unsqueeze(-1)

    @torch.no_grad()
    def meet(self, items: Tensor, lent_by: Tensor) -> None:
        """Mark items [n] as met in training; those that were not begin with the id part lent to them."""
        new = items[~self.trained[items]]
        self.ids[new] = self.ids[lent_by[new]]
        self.trained[items] = True

    def from_text(self, text_vectors: Tensor) -> Tensor:
        """Return what the text alone gives, [items, dim]."""
        result: Tensor = self.norm(self.projection(self.text_norm(text_vectors)))
        return result
