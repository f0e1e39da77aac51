"""Fixtures: small feedback histories written as rows, and a scorer with fixed scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.columns import PURPOSES
from recsys.settings import EvaluationSettings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Catalogue, Sequences, microseconds

START = datetime(2026, 1, 1, tzinfo=UTC)

EVENT_TYPES = EventTypes.from_records(
    [
        {"event_type": "dislike", "explicit": True, "weight": 0.0, "polarity": -1},
        {"event_type": "like", "explicit": True, "weight": 1.0, "polarity": 1},
        {"event_type": "view", "explicit": False, "weight": 0.3, "polarity": 0, "role": "step"},
    ]
)

Row = tuple[str, str, int, str, str]
"""User, item, minutes after START, event type, purpose."""


@dataclass(frozen=True)
class FixedScores:
    """Gives every user the same scores."""

    scores: Sequence[float]

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        return np.tile(np.asarray(self.scores, dtype=np.float32), (len(histories), 1))


@pytest.fixture
def fixed_scores() -> type[FixedScores]:
    return FixedScores


@pytest.fixture
def minute() -> Callable[[int], datetime]:
    return lambda number: START + timedelta(minutes=number)


@pytest.fixture
def make_sequences() -> Callable[[Sequence[Row], Catalogue], Sequences]:
    def make(rows: Sequence[Row], catalogue: Catalogue) -> Sequences:
        users = sorted({row[0] for row in rows})
        return Sequences.build(
            user_keys=users,
            user_index=[users.index(row[0]) for row in rows],
            item_index=catalogue.lookup([row[1] for row in rows]),
            event_type=EVENT_TYPES.lookup([row[3] for row in rows]),
            value=[np.nan] * len(rows),
            occurred_at=[microseconds(START + timedelta(minutes=row[2])) for row in rows],
            feedback_id=range(len(rows)),
            event_types=EVENT_TYPES,
            purpose=[PURPOSES.index(row[4]) for row in rows],
        )

    return make


@pytest.fixture
def catalogue() -> Catalogue:
    """Items a..f; f may not be recommended any more."""
    names = list("abcdef")
    return Catalogue.build(names, titles=names, available=[name != "f" for name in names])


@pytest.fixture
def evaluation_settings() -> EvaluationSettings:
    return EvaluationSettings(k=2, bootstrap_resamples=200)
