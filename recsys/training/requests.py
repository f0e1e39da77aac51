"""What users might ask for in words, made from what items say of themselves: titles and attributes."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from recsys.model.recommender import Recommender
from recsys.snapshot.sequences import Catalogue

MAX_TEXTS = 20_000
"""Distinct requests that are encoded; of a larger catalogue a part serves."""


def item_requests(catalogue: Catalogue) -> list[list[str]]:
    """Return for each item the requests that it answers: each attribute's values, and its title."""
    result = []
    for title, attributes in zip(catalogue.titles, catalogue.attributes, strict=True):
        requests = [text for value in attributes.values() for text in _phrases(value)]
        result.append([text for text in (*requests, title) if text.strip()])
    return result


def _phrases(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple):
        return [text for part in value for text in _phrases(part)]
    if isinstance(value, Mapping):
        return [text for part in value.values() for text in _phrases(part)]
    return []  # numbers and flags say nothing without their key


class RequestTable:
    """Encoded requests, to draw one for a target item."""

    def __init__(self, model: Recommender, seed: int = 0) -> None:
        by_item = item_requests(model.catalogue)
        texts = sorted({text for requests in by_item for text in requests})
        if len(texts) > MAX_TEXTS:
            keep = np.random.default_rng(seed).choice(len(texts), MAX_TEXTS, replace=False)
            texts = [texts[i] for i in sorted(keep)]
        self.texts = texts
        row = {text: i for i, text in enumerate(texts)}
        rows = [[row[text] for text in requests if text in row] for requests in by_item]
        self._counts = torch.tensor([len(own) for own in rows])
        self._starts = self._counts.cumsum(0) - self._counts
        self._rows = torch.tensor([r for own in rows for r in own], dtype=torch.long)
        self.refresh(model)

    def refresh(self, model: Recommender) -> None:
        """Encode the requests again, after the text encoder changed."""
        self.vectors = model.text_encoder().encode(self.texts)

    def answered(self) -> Tensor:
        """Return [items]: the item answers some request."""
        return self._counts > 0

    def draw_rows(self, items: Tensor, generator: torch.Generator) -> Tensor:
        """Return for each item [n] the row of one of its requests, at random; -1 where it has none."""
        items = items.cpu()
        counts = self._counts[items]
        chance = torch.rand(len(items), generator=generator)
        offset = torch.minimum((chance * counts).long(), (counts - 1).clamp(min=0))
        if len(self._rows) == 0:
            return torch.full((len(items),), -1)
        rows = self._rows[(self._starts[items] + offset).clamp(max=len(self._rows) - 1)]
        return torch.where(counts > 0, rows, -1)

    def draw(self, items: Tensor, generator: torch.Generator) -> Tensor:
        """Return vectors [n, width] of one request for each item; zeros where it has none."""
        rows = self.draw_rows(items, generator).to(self.vectors.device)
        if len(self.texts) == 0:
            return torch.zeros(len(items), self.vectors.shape[1], device=self.vectors.device)
        return self.vectors[rows.clamp(min=0)] * (rows >= 0).unsqueeze(-1)
