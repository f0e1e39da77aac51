"""Batch scoring: from histories to ranked lists with reasons, batch after batch in constant memory."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.errors import RegistryError
from recsys.model.ranking import NO_ITEM, top_k
from recsys.publishing.diversity import POOL_FACTOR, diversify
from recsys.publishing.histories import UserBatch
from recsys.settings import ModelSettings, PublishingSettings
from recsys.snapshot.catalogue import Catalogue
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Sequences

logger = logging.getLogger(__name__)

MAX_SCORES_IN_MEMORY = 1 << 25
"""Scores [users, items] of one batch; a large catalogue makes batches smaller, not memory larger."""
_PROGRESS_SECONDS = 10.0


class ServingModel(Protocol):
    """What publishing asks of a recommender."""

    settings: ModelSettings
    event_types: EventTypes
    catalogue: Catalogue

    def with_catalogue(self, catalogue: Catalogue) -> "ServingModel":
        """Return the same recommender on the warehouse's items of now."""
        ...

    def item_vectors(self) -> NDArray[np.float32]:
        """Return [items, dim]."""
        ...

    def user_vectors(self, histories: Sequences) -> NDArray[np.float32]:
        """Return [users, dim]; users without events too."""
        ...

    def score(self, histories: Sequences, requests: list[str] | None = None) -> NDArray[np.float32]:
        """Return fused scores [users, items], moved by requests in natural language [users] if given."""
        ...


Explainer = Callable[[Any, Sequences, NDArray[np.int32], NDArray[np.float32]], list[list[str]]]
"""From model, histories, items [users, k] and item vectors to one plain sentence for each item."""


@dataclass(frozen=True, eq=False)
class ScoredBatch:
    """Recommendations of consecutive staged users.

    Attributes
    ----------
    first
        Position of the first user among the staged ones.
    items, scores, propensities
        [users, k], best first; `NO_ITEM` where a user has fewer. A propensity is the probability with
        which the policy shows the item at this place; this policy is deterministic, so it is 1.
    reasons
        [users] lists of sentences, one for each item.
    user_vectors
        [users, dim]
    """

    first: int
    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    propensities: NDArray[np.float32]
    reasons: list[list[str]]
    user_vectors: NDArray[np.float32]

    def lists(self) -> Iterator[tuple[list[int], list[float], list[float], str]]:
        """Yield for each user items, scores, propensities and the reasons as JSON, without empty places."""
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


def users_per_batch(settings: PublishingSettings, items: int) -> int:
    """Return how many users are scored at a time with a catalogue of this size."""
    return max(1, min(settings.batch_users, MAX_SCORES_IN_MEMORY // max(items, 1)))


def score_batches(
    model: ServingModel,
    batches: Iterable[UserBatch],
    settings: PublishingSettings,
    *,
    users: int,
    explain: Explainer | None,
) -> Iterator[ScoredBatch]:
    """Rank the catalogue for each user, without consumed and unavailable items.

    Parameters
    ----------
    users
        How many there are in all, for the progress in the log.

    Raises
    ------
    RegistryError
        The model gives scores that are not numbers.
    """
    item_vectors = model.item_vectors()
    started = reported = time.monotonic()
    done = 0
    for batch in batches:
        yield score_batch(model, batch, item_vectors, settings, explain)
        done += batch.histories.users
        if time.monotonic() - reported > _PROGRESS_SECONDS or done == users:
            reported = time.monotonic()
            rate = done / max(reported - started, 1e-9)
            logger.info("scored %d of %d users (%.0f a second)", done, users, rate)


def score_batch(
    model: ServingModel,
    batch: UserBatch,
    item_vectors: NDArray[np.float32],
    settings: PublishingSettings,
    explain: Explainer | None,
    requests: list[str] | None = None,
) -> ScoredBatch:
    """Rank the catalogue for the users of one batch; see `score_batches`."""
    scores = model.score(batch.histories, requests)
    if np.isnan(scores).any() or np.isposinf(scores).any():
        raise RegistryError(
            "the champion gives scores that are not numbers; roll back to an earlier version with "
            "`recsys rollback` or the DAG roll_back_model"
        )
    scores[:, ~model.catalogue.available] = -np.inf
    scores[batch.consumed_user, batch.consumed_item] = -np.inf
    if settings.diversity > 0:
        items, best = top_k(scores, POOL_FACTOR * settings.k)
        items, best = diversify(items, best, item_vectors, settings.k, settings.diversity)
    else:
        items, best = top_k(scores, settings.k)
    return ScoredBatch(
        first=batch.first,
        items=items,
        scores=best,
        propensities=np.ones_like(best),
        reasons=explain(model, batch.histories, items, item_vectors) if explain else [[]] * len(items),
        user_vectors=model.user_vectors(batch.histories),
    )
