"""How our model is evaluated beside its rivals."""

from pathlib import Path

import numpy as np

from benchmarks.datasets import Dataset
from benchmarks.protocols import make_task
from benchmarks.quality import as_of_each_case
from recsys.model.fusion import RECENT, Fusion
from recsys.model.recent import RecentPopularity
from recsys.model.recommender import Recommender
from tests.benchmarks.test_protocols import dataset
from tests.small_models import small_settings, write_tiny_encoder

DAY = 1440
"""Minutes."""
EARLY, LATE, LAST = 4, 5, 3
"""What people bought in the first days, a hundred days later, and as their last purchase."""
FEEDBACK = [
    *[(user, "purchase", EARLY, 1 * DAY) for user in "abc"],
    *[(user, "purchase", item, 2 * DAY) for item, user in enumerate("abc")],
    *[(user, "purchase", LAST, 3 * DAY) for user in "abc"],
    *[(user, "purchase", LATE, 101 * DAY) for user in "def"],
    *[(user, "purchase", item, 102 * DAY) for item, user in enumerate("def")],
    *[(user, "purchase", LAST, 103 * DAY) for user in "def"],
]


def best_by_recent_popularity(data: Dataset, split: str, folder: Path) -> list[int]:
    task = make_task(data, split, repeats="always")
    settings = small_settings(folder, write_tiny_encoder(folder / "encoder")).model
    model = Recommender.build(settings, data.catalogue, data.event_types)
    model.items.trained.fill_(True)
    model.fusion = model.returning_fusion = Fusion({RECENT: 1.0})
    model.recent = RecentPopularity.fit(task.known, len(data.catalogue), half_life_days=7)
    judged = as_of_each_case(model, data, task)
    scores = judged.score(task.test.histories(np.arange(len(task.test))))
    assert model.recent.as_of  # the model itself stays as it was
    return np.argmax(scores, axis=1).tolist()


def test_a_case_sees_what_was_popular_before_it_and_not_years_later(tmp_path: Path) -> None:
    best = best_by_recent_popularity(dataset(*FEEDBACK), "leave-one-out", tmp_path)
    assert best == [EARLY] * 3 + [LATE] * 3


def test_after_the_training_data_popularity_is_what_the_model_knows(tmp_path: Path) -> None:
    later = [("a", "purchase", 0, 140 * DAY + minute) for minute in range(2)]
    best = best_by_recent_popularity(dataset(*FEEDBACK, *later), "temporal", tmp_path)
    assert best == [LAST]
