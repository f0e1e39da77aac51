"""Batch scoring: turn histories into ranked lists with reasons, in constant memory."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.errors import RegistryError
from recsys.model.ranking import NO_ITEM, top_k_things
from recsys.model.reasons import ReasonTexts, packaged_texts
from recsys.publishing.diversity import POOL_FACTOR, diversify
from recsys.publishing.exploration import Exploration
from recsys.publishing.histories import UserBatch
from recsys.settings import ModelSettings, PublishingSettings
from recsys.snapshot.catalogue import Catalogue
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Sequences, microseconds

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

SCORES_IN_MEMORY = 1 << 25
"""Largest number of scores [users, items] held at a time: 128 MiB, for any number of users and items."""
BLOCK_USERS = 256
"""Largest number of users scored at a time; fewer in large catalogues, see `SCORES_IN_MEMORY`."""
_PROGRESS_SECONDS = 10.0


class ServingScorer(Protocol):
    """The methods of a scorer of `recsys.model.scoring` that publishing calls."""

    item_vectors: NDArray[np.float32]

    def user_vectors(self, histories: Sequences) -> "Tensor":
        """Return [users, dim]."""
        ...

    def score(self, users: "Tensor", histories: Sequences, requests: list[str] | None = None) -> "Tensor":
        """Return fused scores [users, items]. The caller may change them; the next call overwrites them.

        Requests [users] are in natural language; an empty string means no request.
        """
        ...


class ServingModel(Protocol):
    """The methods of `recsys.model.recommender.Recommender` that publishing calls."""

    settings: ModelSettings
    event_types: EventTypes
    catalogue: Catalogue

    def with_catalogue(self, catalogue: Catalogue) -> "ServingModel":
        """Return the same recommender for another catalogue."""
        ...

    def to(self, device: str) -> "ServingModel":
        """Move it to a device and return it."""
        ...

    def serving_bytes(self, items: int) -> dict[str, int]:
        """Return the memory in bytes, by part, that serving this many items needs."""
        ...

    def comment_opinions(self, texts: list[str]) -> tuple[NDArray[np.float32], NDArray[np.int8]] | None:
        """Return predicted values and sentiments, each [texts]; None if not trained for it."""
        ...

    def request_cache(self) -> tuple[int, int]:
        """Return how many requests had their vectors in memory, and how many were encoded."""
        ...

    def scorer(self) -> ServingScorer:
        """Return a scorer for the recommender's current weights and catalogue."""
        ...


Explain = Callable[[Sequences, "Tensor", NDArray[np.int32], list[ReasonTexts]], list[list[str]]]
"""Takes histories, user vectors, items [users, k] and texts [users]; returns one sentence per item."""
ExplainFactory = Callable[[Any], Explain]
"""Takes a scorer; returns the function that explains its lists."""


@dataclass(frozen=True, eq=False)
class ScoredBatch:
    """Recommendations for consecutive staged users.

    Attributes
    ----------
    first
        Position of the first user among the staged ones.
    items, scores, propensities
        [users, k] in display order; `NO_ITEM` where a user has fewer items. A propensity is the probability
        that the policy shows the item at this position: 1 unless lists are drawn.
    pool_items, pool_scores
        [users, pool] in ranked order, without chance; `NO_ITEM` where a user has fewer items.
    reasons
        [users] lists of sentences, one per item.
    languages
        [users] of the sentences.
    user_vectors
        [users, dim]
    picked_by
        [users, candidates] who picked each of the first items of the pool
        (`recsys.publishing.interleaving`); None unless two versions picked in turn.
    """

    first: int
    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    propensities: NDArray[np.float32]
    pool_items: NDArray[np.int32]
    pool_scores: NDArray[np.float32]
    reasons: list[list[str]]
    languages: list[str]
    user_vectors: NDArray[np.float32]
    picked_by: NDArray[np.int8] | None = None

    def lists(self) -> Iterator[tuple[list[int], list[float], list[float], str]]:
        """Yield each user's items, scores, propensities and reasons (JSON), without empty positions."""
        lengths = (self.items != NO_ITEM).sum(axis=1).tolist()
        rows = zip(
            self.items.tolist(), self.scores.tolist(), self.propensities.tolist(), self.reasons, strict=True
        )
        for length, (items, scores, propensities, reasons) in zip(lengths, rows, strict=True):
            yield (
                items[:length],
                scores[:length],
                propensities[:length],
                json.dumps(reasons[:length], ensure_ascii=False),
            )


class BatchScorer:
    """Ranks the catalogue for users, leaving out unavailable items and those that are off a user's list.

    Of the variants of one thing only the best is ranked.

    Users are scored in blocks to bound memory.

    Parameters
    ----------
    model
        Must have the warehouse's catalogue, and must not change afterwards.
    settings
        Length, diversity and exploration of the lists, and size of the pools.
    explain
        None leaves reasons empty.
    at
        Time for which it is decided what is available; default: now.
    """

    def __init__(
        self,
        model: ServingModel,
        settings: PublishingSettings,
        explain: ExplainFactory | None,
        at: datetime | None = None,
    ) -> None:
        import torch  # imported here because reading published lists must not load torch

        self.settings = settings
        self.model = model
        self.scorer = model.scorer()
        self._exploration = Exploration(settings.exploration, settings.k)
        self._explain = explain(self.scorer) if explain else None
        self._catalogue = model.catalogue
        available = model.catalogue.available_at(microseconds(at or datetime.now(UTC)))
        self._unavailable = torch.from_numpy(np.flatnonzero(~available))
        # A list is drawn from as many candidates whatever the pool.
        self._candidates = POOL_FACTOR * settings.k
        self._pool = max(settings.pool, settings.k)
        self._block_users = max(1, min(BLOCK_USERS, SCORES_IN_MEMORY // len(model.catalogue)))

    def score(self, batch: UserBatch, requests: list[str] | None = None) -> ScoredBatch:
        """Return recommendations for a batch of users.

        Raises
        ------
        RegistryError
            The model returns NaN or infinite scores.
        """
        histories = batch.histories
        vectors = self.scorer.user_vectors(histories)
        order = np.argsort(batch.hidden_user, kind="stable")
        hidden_user, hidden_item = batch.hidden_user[order], batch.hidden_item[order]
        users, k = histories.users, self.settings.k
        items = np.full((users, k), NO_ITEM, dtype=np.int32)
        best = np.full((users, k), -np.inf, dtype=np.float32)
        propensities = np.ones((users, k), dtype=np.float32)
        pool_items = np.full((users, self._pool), NO_ITEM, dtype=np.int32)
        pool_scores = np.full((users, self._pool), -np.inf, dtype=np.float32)
        reasons: list[list[str]] = []
        texts = batch.texts or [packaged_texts()] * users
        for first in range(0, users, self._block_users):
            rows = np.arange(first, min(first + self._block_users, users))
            block = slice(first, first + len(rows))
            own, asked = histories.take_users(rows), requests[block] if requests else None
            hidden = slice(*np.searchsorted(hidden_user, [first, first + len(rows)]))
            scores = self.scorer.score(vectors[block], own, asked)
            scores.index_fill_(1, self._unavailable.to(scores.device), -np.inf)
            scores[hidden_user[hidden] - first, hidden_item[hidden].astype(np.int64)] = -np.inf
            ranked, ranked_scores = self._ranked(scores)
            pool_items[block], pool_scores[block] = ranked[:, : self._pool], ranked_scores[:, : self._pool]
            if batch.seeds is None:
                items[block], best[block] = ranked[:, :k], ranked_scores[:, :k]
            else:
                items[block], best[block], propensities[block] = self._exploration.draw(
                    ranked[:, : self._candidates], ranked_scores[:, : self._candidates], batch.seeds[block]
                )
            if self._explain is None:
                reasons += [[]] * len(rows)
            else:
                reasons += self._explain(own, vectors[block], items[block], texts[block])
        return ScoredBatch(
            first=batch.first,
            items=items,
            scores=best,
            propensities=propensities,
            pool_items=pool_items,
            pool_scores=pool_scores,
            reasons=reasons,
            languages=[own.language for own in texts],
            user_vectors=vectors.cpu().numpy(),
        )

    def _ranked(self, scores: "Tensor") -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return items and scores for pool and list, each [users, at least pool]."""
        # Candidates are without variants, so that propensities are those of such lists.
        items, best = top_k_things(scores, max(self._pool, self._candidates), self._catalogue)
        # NaN and positive infinity sort first.
        if np.isnan(best[:, 0]).any() or np.isposinf(best[:, 0]).any():
            raise RegistryError(
                "the champion returns scores that are not finite numbers; roll back to an earlier version "
                "with `recsys rollback` or the DAG roll_back_model"
            )
        if self.settings.diversity:
            head = slice(None, self._candidates)
            items[:, head], best[:, head] = diversify(
                items[:, head],
                best[:, head],
                self.scorer.item_vectors,
                self._candidates,
                self.settings.diversity,
            )
        return items, best


def score_batches(scorer: BatchScorer, batches: Iterable[UserBatch], *, users: int) -> Iterator[ScoredBatch]:
    """Yield recommendations batch by batch; `users` is the total number, for progress in the log."""
    started = reported = time.monotonic()
    done = 0
    for batch in batches:
        yield scorer.score(batch)
        done += batch.histories.users
        if time.monotonic() - reported > _PROGRESS_SECONDS or done == users:
            reported = time.monotonic()
            rate = done / max(reported - started, 1e-9)
            logger.info("scored %d of %d users (%.0f per second)", done, users, rate)
