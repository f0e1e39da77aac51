"""What `benchmarks.list_age` asks."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import torch

from benchmarks.datasets import PRODUCT_EVENT_TYPES, Dataset
from benchmarks.list_age import _first_of_day, _judge
from recsys.model.recent import EventLog
from recsys.model.recommender import Recommender
from recsys.snapshot.sequences import Sequences

HOUR = 3_600_000_000
ITEMS = 15
NEWS = 0
"""Published at twenty past ten on the second day."""


class Prefers:
    """A model that ranks the first items first."""

    def user_vectors(self, histories: Sequences) -> torch.Tensor:
        return torch.zeros(histories.users, 1)

    def score(self, vectors: torch.Tensor, histories: Sequences) -> torch.Tensor:
        return -torch.arange(ITEMS, dtype=torch.float32).repeat(len(vectors), 1)


def newsroom() -> Dataset:
    """On the first day ada opens all items but the news, on the second the news; bob opens it later."""
    hours = [*range(1, ITEMS), 24 + 10 + 1 / 3, 24 + 11.5, 24 + 12.0]
    items = [*range(1, ITEMS), NEWS, NEWS, 1]
    readers = [0] * ITEMS + [1, 1]
    sequences = Sequences.build(
        user_keys=["ada", "bob"], user_index=readers, item_index=items,
        event_type=PRODUCT_EVENT_TYPES.lookup(["click"] * len(items)), value=np.full(len(items), np.nan),
        occurred_at=[int(hour * HOUR) for hour in hours], feedback_id=np.arange(len(items)),
        event_types=PRODUCT_EVENT_TYPES,
    )  # fmt: skip
    return cast(Dataset, SimpleNamespace(sequences=sequences, catalogue=range(ITEMS)))


def test_a_list_of_midnight_cannot_hold_what_was_published_in_the_morning() -> None:
    dataset = newsroom()
    model = cast(Recommender, SimpleNamespace(scorer=lambda log: Prefers()))
    bobs = np.flatnonzero(dataset.sequences.event_users() == 1)
    found = _judge(dataset, model, EventLog.of(dataset.sequences), bobs[:1])[0]
    daily, every_8_hours, hourly = found[:3]
    assert (daily, every_8_hours, hourly) == (0, 0, 1)
    assert found[-3:].tolist() == [0, 0, 1]


def test_what_follows_on_the_same_day_is_no_case() -> None:
    dataset = newsroom()
    sequences = dataset.sequences
    first = _first_of_day(dataset, np.arange(sequences.events))
    assert sequences.item_index[first].tolist() == [1, NEWS, NEWS]
