"""Score all items for many users; everything that depends on items only is computed once."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.errors import ConfigurationError
from recsys.model.appeal import Appeal
from recsys.model.collaborative import EASE, Popularity, StandardisedEASE
from recsys.model.fusion import (
    APPEAL,
    COLLABORATIVE,
    LIKING,
    NEURAL,
    POPULARITY,
    RECENT,
    REQUEST,
    SUCCESSION,
    Fusion,
    standardise,
)
from recsys.model.heads import FeedbackHead
from recsys.model.item_age import FEATURES as AGE_FEATURES
from recsys.model.item_age import ItemAges
from recsys.model.item_encoder import ItemEncoder
from recsys.model.recent import EventLog, RecentPopularity
from recsys.model.repeats import FEATURES as REPEAT_FEATURES
from recsys.model.repeats import repeat_features
from recsys.model.succession import StandardisedSuccession, Succession
from recsys.settings import ModelSettings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.snapshot.visits import are_returning


class ScoredModel(Protocol):
    """What scores and their explanations read from a recommender."""

    settings: ModelSettings
    catalogue: Catalogue
    event_types: EventTypes
    items: ItemEncoder
    feedback: FeedbackHead
    popularity: Popularity
    recent: RecentPopularity | None
    ages: ItemAges | None
    appeal: Appeal | None
    collaborative: EASE | None
    succession: Succession | None
    fusion: Fusion
    returning_fusion: Fusion
    request_fusion: Fusion

    @property
    def proxies(self) -> Tensor:
        """Position [items] of each item's proxy; see `recsys.model.cold_items`."""
        ...

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
    column, and so are recent popularity, appeal, and the items' ages at one moment. The weighted sum of these
    parts is therefore one product of [users, columns] with [items, columns]. Only collaborative filtering,
    what follows what, repeats and the match with a request are added to it, and ages if users ask at
    different moments.

    Parameters
    ----------
    model
        The recommender.
    later
        For evaluation in the past: events after the model's training, of which recent popularity and ages
        count those before each history's moment. Default: they stay as the model knows them.

    Attributes
    ----------
    item_vectors
        [items, dim], as published.
    items
        [items, columns] item vectors minus their mean, standardised popularity, of all times and recent,
        and, if the model knows them, appeal and features of ages at the moment of the latest lists.
    """

    @torch.no_grad()
    def __init__(self, model: ScoredModel, later: EventLog | None = None) -> None:
        self.model = model
        self._later = later
        self._ages = model.ages if model.ages is None or later is None else model.ages.with_log(later)
        self._ages_at: int | None = None
        self.table = model.item_table().float()
        self.item_vectors: NDArray[np.float32] = self.table.cpu().numpy()
        self._proxies = model.proxies.cpu().numpy()
        self._known = model.items.trained.cpu().numpy()[self._proxies]
        popularity = model.popularity.score(Sequences.empty(["anyone"]))
        # A cold item has its proxy's popularity until its own is greater.
        popularity = standardise(np.maximum(popularity, popularity[:, self._proxies]), self._known)
        centred = self.table - self.table.mean(0)
        self._covariance = (centred.T @ centred / len(centred)).double()
        self._sparse: dict[str, StandardisedEASE | StandardisedSuccession] = {}
        if model.collaborative is not None:
            self._sparse[COLLABORATIVE] = StandardisedEASE(model.collaborative, self._proxies, self._known)
        if model.succession is not None:
            self._sparse[SUCCESSION] = StandardisedSuccession(model.succession, self._proxies, self._known)
        # Allocating memory for each block of users would take as long as the product itself.
        self._scores = torch.empty(0, len(centred), device=centred.device)
        recent = np.zeros_like(popularity) if model.recent is None else model.recent.score()[None]
        columns = np.concatenate([popularity, self._recent(recent)])
        if model.appeal is not None:
            columns = np.concatenate([columns, model.appeal.score()[None]])
        if self._ages is not None:
            columns = np.concatenate([columns, np.zeros((len(AGE_FEATURES), len(centred)), np.float32)])
        self.items = torch.cat([centred, torch.from_numpy(columns).T.to(centred)], 1)

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
        fusions = self.fusions(histories, requests)
        queries = self.fused_queries(users, fusions, self._freshness(histories))
        is_aged = self._set_ages(queries, histories, fusions)
        torch.mm(queries, self.items.T, out=scores)
        of_recent = self._weights(RECENT, fusions)
        if self._later is not None and self.model.recent is not None and of_recent.any():
            scores += of_recent * self._recent_since(histories)
        self._add_repeats(scores, users, histories, fusions)
        if not is_aged:
            self._add_ages(scores, histories, fusions)
        for name in self._sparse:
            self._add_sparse(name, scores, histories, self._weights(name, fusions))
        if rows := rows_with_request(requests):
            weight_of_match = self.model.request_fusion.weights.get(REQUEST, 0.0)
            scores[rows] += weight_of_match * self._matches(rows, requests)
        return scores

    @torch.no_grad()
    def parts(
        self, users: Tensor, histories: Sequences, requests: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Return the parts of the score by name, [users, items]; `request` only if there is a request."""
        queries = self._queries(users, self._freshness(histories))
        parts = {name: query @ self.items.T for name, query in queries.items()}
        if self._later is not None and self.model.recent is not None:
            parts[RECENT] = self._recent_since(histories)
        if self._ages is not None:
            ages = self._ages.features_at(self.model.catalogue, histories.moments)
            parts |= zip(AGE_FEATURES, torch.from_numpy(ages).to(self.table), strict=True)
        for name in self._sparse:
            parts[name] = torch.zeros(len(users), len(self.items), device=users.device)
            self._add_sparse(name, parts[name], histories, torch.ones(len(users), 1).to(users))
        if rows := rows_with_request(requests):
            parts[REQUEST] = torch.zeros(len(users), len(self.items), device=users.device)
            parts[REQUEST][rows] = self._matches(rows, requests)
        return parts

    def fusions(self, histories: Sequences, requests: Sequence[str] | None = None) -> list[Fusion]:
        """Return the weights [users] for each user: of the request, of who comes back, or of a visit."""
        sets = self.model.fusion, self.model.returning_fusion, self.model.request_fusion
        number = are_returning(histories).astype(np.int64)
        number[rows_with_request(requests)] = 2
        return [sets[one] for one in number]

    @torch.no_grad()
    def fused_queries(
        self, users: Tensor, fusions: Sequence[Fusion], freshness: Tensor | None = None
    ) -> Tensor:
        """Return queries [users, columns]; times `items` they give all parts that are products, weighted.

        Ages are left out.

        Parameters
        ----------
        fusions
            [users] weights.
        freshness
            [users, 1] factor of recent popularity; default: 1.
        """
        fused = torch.zeros(len(users), self.items.shape[1], device=users.device)
        for name, query in self._queries(users, freshness).items():
            fused += self._weights(name, fusions) * query
        return fused

    def _queries(self, users: Tensor, freshness: Tensor | None) -> dict[str, Tensor]:
        """Return a query [users, columns] for each part; times `items` it gives the standardised part."""
        products = {NEURAL: users, LIKING: self.model.feedback.query(users)}
        queries = {
            name: self._with_columns(self._standardised(query), 0.0, 0.0) for name, query in products.items()
        }
        nothing = torch.zeros_like(users)
        queries[POPULARITY] = self._with_columns(nothing, 1.0, 0.0)
        if self.model.recent is not None and self._later is None:
            query = self._with_columns(nothing, 0.0, 1.0)
            queries[RECENT] = query if freshness is None else query * freshness
        if self.model.appeal is not None:
            queries[APPEAL] = self._with_columns(nothing, 0.0, 0.0, 1.0)
        return queries

    def _standardised(self, query: Tensor) -> Tensor:
        exact = query.double()
        deviation = ((exact @ self._covariance) * exact).sum(1, keepdim=True).clamp(min=0).sqrt()
        # Equal scores for all items carry no information, as in `standardise`.
        return torch.where(deviation > 1e-6, query / deviation, torch.zeros_like(exact)).float()

    def _add_sparse(self, part: str, scores: Tensor, histories: Sequences, weights: Tensor) -> None:
        """Add the weighted scores of a part that only some items have; a cold item has its proxy's."""
        if not weights.any():
            return
        found, shift = self._sparse[part](self.model.read_comments(histories))
        lengths = np.diff(found.indptr)
        places = np.repeat(np.arange(len(scores)) * scores.shape[1], lengths) + found.indices
        values = found.data * np.repeat(weights[:, 0].cpu().numpy(), lengths)
        to_all = scores.view(-1)
        to_all.index_add_(0, torch.from_numpy(places).to(scores.device), torch.from_numpy(values).to(scores))
        known = torch.from_numpy(self._known).to(scores)
        scores.addr_(-torch.from_numpy(shift).to(scores) * weights[:, 0], known)

    def _recent(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardise recent popularity; a cold item has its proxy's until its own is greater."""
        return standardise(np.maximum(scores, scores[:, self._proxies]), self._known)

    def _freshness(self, histories: Sequences) -> Tensor | None:
        if self.model.recent is None or self._later is not None:
            return None
        factor = self.model.recent.freshness(histories.moments).astype(np.float32)
        return torch.from_numpy(factor).to(self.table)[:, None]

    def _recent_since(self, histories: Sequences) -> Tensor:
        assert self.model.recent is not None
        assert self._later is not None
        scores = self.model.recent.scores_at(self._later, histories.moments)
        return torch.from_numpy(self._recent(scores)).to(self.table)

    def _add_repeats(
        self, scores: Tensor, users: Tensor, histories: Sequences, fusions: Sequence[Fusion]
    ) -> None:
        repeats = repeat_features(self.model.read_comments(histories), len(self.items))
        if not len(repeats.users):
            return
        pairs = torch.from_numpy(repeats.users), torch.from_numpy(repeats.items)
        query, items = self._standardised(users), self.items[:, : users.shape[1]]
        neural = (query[pairs[0]] * items[pairs[1]]).sum(1)
        weights = torch.cat([self._weights(name, fusions) for name in REPEAT_FEATURES], 1)
        features = torch.from_numpy(repeats.with_neural(neural.cpu().numpy()).features).to(scores)
        scores[pairs] += (features * weights[pairs[0]]).sum(1)

    def _set_ages(self, queries: Tensor, histories: Sequences, fusions: Sequence[Fusion]) -> bool:
        """Put ages into the product if all users ask at one moment, as for published lists."""
        moments = histories.moments
        if self._ages is None or not len(moments) or (moments != moments[0]).any():
            return False
        if self._ages_at != moments[0]:
            self._ages_at = int(moments[0])
            features = self._ages.features_at(self.model.catalogue, moments[:1])[:, 0]
            self.items[:, -len(AGE_FEATURES) :] = torch.from_numpy(features).T.to(self.items)
        queries[:, -len(AGE_FEATURES) :] = self._age_weights(fusions)
        return True

    def _add_ages(self, scores: Tensor, histories: Sequences, fusions: Sequence[Fusion]) -> None:
        weights = self._age_weights(fusions)
        if self._ages is None or not weights.any():
            return
        moments, rows = np.unique(histories.moments, return_inverse=True)
        features = self._ages.features_at(self.model.catalogue, moments)
        for weight, feature in zip(weights.T, features, strict=True):
            scores += weight[:, None] * torch.from_numpy(feature[rows]).to(scores)

    def _age_weights(self, fusions: Sequence[Fusion]) -> Tensor:
        return torch.cat([self._weights(name, fusions) for name in AGE_FEATURES], 1)

    def _with_columns(self, queries: Tensor, *values: float) -> Tensor:
        rest = self.items.shape[1] - queries.shape[1] - len(values)
        columns = torch.tensor([*values, *[0.0] * rest], device=queries.device)
        return torch.cat([queries, columns.expand(len(queries), -1)], 1)

    def _matches(self, rows: list[int], requests: Sequence[str] | None) -> Tensor:
        assert requests is not None
        return self.model.match_requests([requests[row] for row in rows])

    def _weights(self, part: str, fusions: Sequence[Fusion]) -> Tensor:
        """Return the part's weights [users, 1]."""
        weights = [fusion.weights.get(part, 0.0) for fusion in fusions]
        return torch.tensor(weights, device=self.table.device, dtype=torch.float32)[:, None]


def rows_with_request(requests: Sequence[str] | None) -> list[int]:
    """Return the rows whose request is not blank."""
    return [row for row, request in enumerate(requests or []) if request.strip()]
