"""Let a model version rank items for one person and, if there is one, a request in words."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import sqlalchemy as sa

from recsys.model.ranking import NO_ITEM
from recsys.model.reasons import ReasonTexts, packaged_texts
from recsys.publishing.histories import HISTORY_EVENTS, UserBatch, read_histories, read_horizon
from recsys.publishing.score import BatchScorer
from recsys.publishing.servable import Servable
from recsys.publishing.staging import stage_user, staging_session
from recsys.settings import PublishingSettings
from recsys.snapshot.catalogue import Catalogue
from recsys.snapshot.sequences import Sequences


@dataclass(frozen=True)
class RankedItem:
    """An item of a ranking; its position is its place in the catalogue of the ranker."""

    item_id: str
    title: str
    score: float
    position: int


class RequestRanker:
    """A model version on the current catalogue. Not safe for several threads at once.

    Parameters
    ----------
    publishing
        The length of a pool is that of a ranking.
    """

    def __init__(self, servable: Servable, catalogue: Catalogue, publishing: PublishingSettings) -> None:
        self.catalogue = catalogue
        self._model = servable.model.with_catalogue(catalogue)
        # Reasons are made for what is shown, which is less than what is ranked.
        self._scorer = BatchScorer(self._model, publishing, None)
        self._explain = servable.explain(self._scorer.scorer) if servable.explain else None

    def read_history(self, engine: sa.Engine, user_id: str) -> UserBatch | None:
        """Read what the model may know of a user; None if the user is unknown."""
        with staging_session(engine) as connection:
            if not stage_user(connection, user_id):
                return None
            [batch] = read_histories(
                connection,
                self.catalogue,
                self._model.event_types,
                last=1,
                batch_users=1,
                max_events=max(HISTORY_EVENTS, self._model.settings.max_events),
                through_transaction_id=read_horizon(connection),
            )
            return batch

    def no_history(self) -> UserBatch:
        """Return the history of somebody of whom nothing is known."""
        nothing = Sequences.build(
            user_keys=[""],
            user_index=[],
            item_index=[],
            event_type=[],
            value=[],
            occurred_at=[],
            feedback_id=[],
            event_types=self._model.event_types,
            rest_days=self.catalogue.rest_days,
        )
        return UserBatch(
            0, nothing.asked(datetime.now(UTC)), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32)
        )

    def rank(self, history: UserBatch, request: str) -> list[RankedItem]:
        """Return the best items for a user and a request, which may be empty.

        Raises
        ------
        RegistryError
            The model returns NaN or infinite scores.
        """
        scored = self._scorer.score(history, [request])
        return [
            RankedItem(
                self.catalogue.item_ids[item],
                self.catalogue.titles[item] or self.catalogue.item_ids[item],
                score,
                item,
            )
            for item, score in zip(scored.pool_items[0].tolist(), scored.pool_scores[0].tolist(), strict=True)
            if item != NO_ITEM
        ]

    def request_cache(self) -> tuple[int, int]:
        """Return how many requests had their vectors in memory, and how many were encoded."""
        return self._model.request_cache()

    def reasons(
        self, history: UserBatch, items: list[RankedItem], texts: ReasonTexts | None = None
    ) -> list[str]:
        """Return one sentence for each item, with these texts or else in the user's language."""
        if self._explain is None or not items:
            return [""] * len(items)
        positions = np.array([[item.position for item in items]], dtype=np.int32)
        vectors = self._scorer.scorer.user_vectors(history.histories)
        own = [texts] if texts else history.texts or [packaged_texts()]
        return self._explain(history.histories, vectors, positions, own)[0]
