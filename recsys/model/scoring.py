"""Score all items for many users; everything that depends on items only is computed once."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.errors import ConfigurationError
from recsys.model.collaborative import EASE, Popularity
from recsys.model.fusion import COLLABORATIVE, LIKING, NEURAL, POPULARITY, REQUEST, Fusion, standardise
from recsys.model.heads import FeedbackHead
from recsys.model.item_encoder import ItemEncoder
from recsys.settings import ModelSettings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Catalogue, Sequences


class ScoredModel(Protocol):
    """What scores and their explanations read from a recommender."""

    settings: ModelSettings
    catalogue: Catalogue
    event_types: EventTypes
    items: ItemEncoder
    feedback: FeedbackHead
    proxies: Tensor
    popularity: Popularity
    collaborative: EASE | None
    fusion: Fusion
    request_fusion: Fusion

    def item_table(self) -> Tensor:
        """Return the vectors [items, dim] of the whole catalogue."""
        ...

    def encode_users(self, histories: Sequences, item_table: Tensor) -> Tensor:
        """Return user vectors [users, dim]."""
        ...

    def read_comments(self, histories: Sequences) -> Sequences:
        """Return the events with the opinions that their comments express."""
        ...

    def match_requests(self, requests: list[str]) -> Tensor:
        """Return how well each item matches each request: logits [requests, items]."""
        ...


class CatalogueScorer:
    """Scores the whole catalogue with the current weights; make a new one when the model changes.

    The neural part and the liking head are products of a user's query vector q and the item's vector v.
    After standardising over the catalogue they are still products, because the mean of q·v over the items
    is q·mean(v) and its variance is qᵀ·Cov(v)·q. Popularity is the same for every user and is one more
    column. The weighted sum of these parts is therefore one product of [users, dim + 1] with
    [items, dim + 1]. Only collaborative filtering (small catalogues have it) and the match with a request
    are added to it.

    Attributes
    ----------
    item_vectors
        [items, dim], as published.
    items
        [items, dim + 1] item vectors minus their mean, and standardised popularity.
    """

    @torch.no_grad()
    def __init__(self, model: ScoredModel) -> None:
        self.model = model
        self.table = model.item_table().float()
        self.item_vectors: NDArray[np.float32] = self.table.cpu().numpy()
        self._proxies = model.proxies.cpu().numpy()
        self._known = model.items.trained.cpu().numpy()[self._proxies]
        popularity = model.popularity.score(Sequences.empty(["anyone"]))
        # A cold item has its proxy's popularity until its own is greater.
        popularity = standardise(np.maximum(popularity, popularity[:, self._proxies]), self._known)
        centred = self.table - self.table.mean(0)
        self._covariance = (centred.T @ centred / len(centred)).double()
        # Allocating memory for each block of users would take as long as the product itself.
        self._scores = torch.empty(0, len(centred), device=centred.device)
        self.items = torch.cat([centred, torch.from_numpy(popularity).T.to(centred)], 1)

    def user_vectors(self, histories: Sequences) -> Tensor:
        """Return user vectors [users, dim]; see `Recommender.user_vectors`."""
        return self.model.encode_users(histories, self.table)

    @torch.no_grad()
    def score(self, users: Tensor, histories: Sequences, requests: Sequence[str] | None = None) -> Tensor:
        """Return fused scores [users, items]; the next call overwrites them.

        Parameters
        ----------
        users
            [users, dim] from `user_vectors`.
        histories, requests
            Events and requests of the same users; an empty string is no request.

        Raises
        ------
        ConfigurationError
            The numbers of requests and users differ.
        """
        if requests is not None and len(requests) != len(users):
            raise ConfigurationError(f"{len(requests)} requests were given for {len(users)} users")
        if len(self._scores) < len(users):
            self._scores = torch.empty(len(users), len(self.items), device=users.device)
        scores = self._scores[: len(users)]
        torch.mm(self.fused_queries(users, requests), self.items.T, out=scores)
        if self.model.collaborative is not None:
            weight = self._weight(COLLABORATIVE, users, requests)
            scores += weight * self._collaborative(self.model.collaborative, histories)
        if rows := rows_with_request(requests):
            weight_of_match = self.model.request_fusion.weights.get(REQUEST, 0.0)
            scores[rows] += weight_of_match * self._matches(rows, requests)
        return scores

    @torch.no_grad()
    def parts(
        self, users: Tensor, histories: Sequences, requests: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Return the parts of the score by name, [users, items]; `request` only if there is a request."""
        parts = {name: query @ self.items.T for name, query in self._queries(users).items()}
        if self.model.collaborative is not None:
            parts[COLLABORATIVE] = self._collaborative(self.model.collaborative, histories)
        if rows := rows_with_request(requests):
            parts[REQUEST] = torch.zeros(len(users), len(self.items), device=users.device)
            parts[REQUEST][rows] = self._matches(rows, requests)
        return parts

    @torch.no_grad()
    def fused_queries(self, users: Tensor, requests: Sequence[str] | None = None) -> Tensor:
        """Return queries [users, dim + 1]; times `items` they give all parts that are products, weighted."""
        fused = torch.zeros(len(users), self.items.shape[1], device=users.device)
        for name, query in self._queries(users).items():
            fused += self._weight(name, users, requests) * query
        return fused

    def _queries(self, users: Tensor) -> dict[str, Tensor]:
        """Return a query [users, dim + 1] for each part; times `items` it gives the standardised part."""
        products = {NEURAL: users, LIKING: self.model.feedback.query(users)}
        queries = {name: _with_column(self._standardised(query), 0.0) for name, query in products.items()}
        return queries | {POPULARITY: _with_column(torch.zeros_like(users), 1.0)}

    def _standardised(self, query: Tensor) -> Tensor:
        exact = query.double()
        deviation = ((exact @ self._covariance) * exact).sum(1, keepdim=True).clamp(min=0).sqrt()
        # Equal scores for all items carry no information, as in `standardise`.
        return torch.where(deviation > 1e-6, query / deviation, torch.zeros_like(exact)).float()

    def _collaborative(self, collaborative: EASE, histories: Sequences) -> Tensor:
        scores = collaborative.score(self.model.read_comments(histories))
        cold = np.flatnonzero(self._proxies != np.arange(len(self._proxies)))
        scores[:, cold] = scores[:, self._proxies[cold]]
        return torch.from_numpy(standardise(scores, self._known)).to(self.table)

    def _matches(self, rows: list[int], requests: Sequence[str] | None) -> Tensor:
        assert requests is not None
        return self.model.match_requests([requests[row] for row in rows])

    def _weight(self, part: str, users: Tensor, requests: Sequence[str] | None) -> Tensor:
        """Return the part's weight [users, 1]; users with a request have other weights."""
        plain = self.model.fusion.weights.get(part, 0.0)
        with_request = self.model.request_fusion.weights.get(part, 0.0)
        weights = [with_request if request.strip() else plain for request in requests or [""] * len(users)]
        return torch.tensor(weights, device=users.device, dtype=torch.float32)[:, None]


def rows_with_request(requests: Sequence[str] | None) -> list[int]:
    """Return the rows whose request is not blank."""
    return [row for row, request in enumerate(requests or []) if request.strip()]


def _with_column(queries: Tensor, value: float) -> Tensor:
    return torch.nn.functional.pad(queries, (0, 1), value=value)
