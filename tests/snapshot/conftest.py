"""Event types as the first migration seeds them, without a database."""

import pytest

from recsys.snapshot.event_types import EventTypes

_SEEDED = [
    # name, explicit, weight, polarity, min, max, negative to, positive from
    ("rating", True, 1.0, 0, 0.5, 5.0, 2.0, 4.0),
    ("like", True, 1.0, 1, None, None, None, None),
    ("dislike", True, 0.0, -1, None, None, None, None),
    ("view", False, 0.3, 0, None, None, None, None),
    ("dwell", False, 0.3, 0, 0.0, 86400.0, 3.0, 30.0),
]
_FIELDS = (
    "event_type",
    "explicit",
    "weight",
    "polarity",
    "min_value",
    "max_value",
    "negative_to",
    "positive_from",
)


@pytest.fixture
def event_types() -> EventTypes:
    return EventTypes.from_records(dict(zip(_FIELDS, row, strict=True)) for row in _SEEDED)
