"""A recommender as it is evaluated: on histories that may hold event types it was not trained with."""

from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.model.recent import EventLog
from recsys.model.recommender import Recommender
from recsys.model.scoring import CatalogueScorer
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Sequences


@dataclass(frozen=True)
class EvaluatedRecommender:
    """Score histories with a recommender; events of types that it does not know are left out."""

    recommender: Recommender
    event_types: EventTypes
    """The event types that the histories refer to."""
    later: EventLog | None = None
    """Events that recent popularity counts as far as they are before a history's moment."""

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return scores [users, items]."""
        known = self._known_events(histories)
        scores = self._scorer.score(self._scorer.user_vectors(known), known)
        return scores.cpu().numpy().copy()  # the scorer overwrites its scores

    def without_successions_of(self, histories: Sequences) -> "EvaluatedRecommender":
        """Return the scorer that has not counted which items follow each other in these histories.

        A model ranks what it has counted in a user's own history higher than what others did would justify.
        With more events of others, this memory fades, though nothing is forgotten.
        """
        if self.recommender.succession is None:
            return self
        model = copy(self.recommender)  # shares the weights
        nothing = histories.where(np.zeros(histories.events, dtype=bool))
        model.succession = self.recommender.succession.changed(histories, nothing)
        return replace(self, recommender=model)

    @cached_property
    def _scorer(self) -> CatalogueScorer:
        return self.recommender.scorer(self.later)

    def liking(self, histories: Sequences, items: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return [users] log odds that each user likes the one item."""
        users = torch.from_numpy(self.recommender.user_vectors(self._known_events(histories)))
        chosen = torch.from_numpy(self._item_vectors[items])
        device = self.recommender.device
        with torch.no_grad():
            logits = self.recommender.feedback(users.to(device), chosen.to(device))
        return np.asarray(logits.double().cpu().numpy())

    @cached_property
    def _item_vectors(self) -> NDArray[np.float32]:
        return self.recommender.item_vectors()

    def _known_events(self, histories: Sequences) -> Sequences:
        known = self.recommender.event_types
        if known.names == self.event_types.names:
            return histories
        event_type = known.lookup(self.event_types.names)[histories.event_type]
        return replace(histories, event_type=event_type).where(event_type >= 0)
