"""The fused score of all items for many users: what concerns items is computed once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.errors import ConfigurationError
from recsys.model.fusion import COLLABORATIVE, LIKING, NEURAL, POPULARITY, REQUEST, standardise
from recsys.snapshot.sequences import Sequences

if TYPE_CHECKING:
    from recsys.model.recommender import Recommender


class Scorer:
    """Scores the catalogue of a recommender as it is now; make another one when the model changes.

    The neural part and the liking head multiply a vector q of the user's with the item's vector v.
    Standardised over the catalogue that is still a product, because the mean of q·v over the items is
    q·mean(v) and its variance qᵀ·Cov(v)·q. Popularity is the same for every user: one more column. So
    the weighted sum of these parts is a single product of [users, dim + 1] with [items, dim + 1]. Only
    collaborative filtering, which small catalogues have, and the match with a request are added on top.

    Attributes
    ----------
    item_vectors
        [items, dim], as published.
    items
        [items, dim + 1] item vectors less their mean, and standardised popularity.
    """

    @torch.no_grad()
    def __init__(self, model: "Recommender") -> None:
        self.model = model
        self.table = model.item_table().float()
        self.item_vectors: NDArray[np.float32] = self.table.cpu().numpy()
        self._stand_ins = model.stand_ins.cpu().numpy()
        self._known = model.items.trained.cpu().numpy()[self._stand_ins]
        popularity = model.popularity.score(Sequences.empty(["anyone"]))
        # A newcomer has its stand-in's popularity until its own is greater.
        popularity = standardise(np.maximum(popularity, popularity[:, self._stand_ins]), self._known)
        centred = self.table - self.table.mean(0)
        self._covariance = (centred.T @ centred / len(centred)).double()
        # Fresh memory for each block of users would cost as much time as the product itself.
        self._scores = torch.empty(0, len(centred), device=centred.device)
        self.items = torch.cat([centred, torch.from_numpy(popularity).T.to(centred)], 1)

    def user_vectors(self, histories: Sequences) -> Tensor:
        """Return [users, dim]; see `Recommender.user_vectors`."""
        return self.model.encode_users(histories, self.table)

    @torch.no_grad()
    def score(self, users: Tensor, histories: Sequences, requests: Sequence[str] | None = None) -> Tensor:
        """Return the fused scores [users, items], valid until the next call: its memory is used again.

        Parameters
        ----------
        users
            [users, dim] from `user_vectors`.
        histories, requests
            Of the same users; an empty string is no request.

        Raises
        ------
        ConfigurationError
            When there are more or fewer requests than users.
        """
        if requests is not None and len(requests) != len(users):
            raise ConfigurationError(f"{len(requests)} requests were given for {len(users)} users")
        if len(self._scores) < len(users):
            self._scores = torch.empty(len(users), len(self.items), device=users.device)
        scores = self._scores[: len(users)]
        torch.mm(self.fused_queries(users, requests), self.items.T, out=scores)
        if self.model.collaborative is not None:
            weight = self._weight(COLLABORATIVE, users, requests)
            scores += weight * self._collaborative(histories)
        if asked := asking(requests):
            scores[asked] += self.model.request_fusion.weights.get(REQUEST, 0.0) * self._matches(
                asked, requests
            )
        return scores

    @torch.no_grad()
    def parts(
        self, users: Tensor, histories: Sequences, requests: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Return the parts [users, items] of the score by name; that of requests only where there is one."""
        parts = {name: query @ self.items.T for name, query in self._queries(users).items()}
        if self.model.collaborative is not None:
            parts[COLLABORATIVE] = self._collaborative(histories)
        if asked := asking(requests):
            parts[REQUEST] = torch.zeros(len(users), len(self.items), device=users.device)
            parts[REQUEST][asked] = self._matches(asked, requests)
        return parts

    def contributions(
        self, users: Tensor, histories: Sequences, requests: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Return what each part adds to the fused score, [users, items] by name."""
        parts = self.parts(users, histories, requests)
        return {name: self._weight(name, users, requests) * part for name, part in parts.items()}

    @torch.no_grad()
    def fused_queries(self, users: Tensor, requests: Sequence[str] | None = None) -> Tensor:
        """Return [users, dim + 1], whose product with `items` is the score less collaborative filtering."""
        fused = torch.zeros(len(users), self.items.shape[1], device=users.device)
        for name, query in self._queries(users).items():
            fused += self._weight(name, users, requests) * query
        return fused

    def _queries(self, users: Tensor) -> dict[str, Tensor]:
        """Return for each part [users, dim + 1], whose product with `items` is the standardised part."""
        products = {NEURAL: users, LIKING: self.model.feedback.query(users)}
        queries = {name: _with_column(self._standardised(query), 0.0) for name, query in products.items()}
        return queries | {POPULARITY: _with_column(torch.zeros_like(users), 1.0)}

    def _standardised(self, query: Tensor) -> Tensor:
        exact = query.double()
        deviation = ((exact @ self._covariance) * exact).sum(1, keepdim=True).clamp(min=0).sqrt()
        # As `standardise` does: scores that are all equal say nothing.
        return torch.where(deviation > 1e-6, query / deviation, torch.zeros_like(exact)).float()

    def _collaborative(self, histories: Sequences) -> Tensor:
        assert self.model.collaborative is not None
        scores = self.model.collaborative.score(self.model.read_comments(histories))
        newcomers = np.flatnonzero(self._stand_ins != np.arange(len(self._stand_ins)))
        scores[:, newcomers] = scores[:, self._stand_ins[newcomers]]
        return torch.from_numpy(standardise(scores, self._known)).to(self.table)

    def _matches(self, asked: list[int], requests: Sequence[str] | None) -> Tensor:
        assert requests is not None
        return self.model.match_requests([requests[row] for row in asked])

    def _weight(self, part: str, users: Tensor, requests: Sequence[str] | None) -> Tensor:
        """Return [users, 1] the part's weight: another where something was asked for."""
        plain = self.model.fusion.weights.get(part, 0.0)
        asked = self.model.request_fusion.weights.get(part, 0.0)
        weights = [asked if request.strip() else plain for request in requests or [""] * len(users)]
        return torch.tensor(weights, device=users.device, dtype=torch.float32)[:, None]


def asking(requests: Sequence[str] | None) -> list[int]:
    """Return the rows of those who ask for something."""
    return [row for row, request in enumerate(requests or []) if request.strip()]


def _with_column(queries: Tensor, value: float) -> Tensor:
    return torch.nn.functional.pad(queries, (0, 1), value=value)
