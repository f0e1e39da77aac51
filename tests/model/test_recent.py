"""Popularity of the recent past."""

import numpy as np

from recsys.model.recent import LAG, EventLog, RecentPopularity
from recsys.snapshot.sequences import Sequences
from tests.model.test_repeats import shop


def news(*events: tuple[int, float]) -> Sequences:
    """Return views (item, day) of as many users."""
    return shop(*[[("view", item, day)] for item, day in events], at=0)


def test_an_old_hit_counts_less_than_a_new_one() -> None:
    events = news(*[(0, day / 10) for day in range(10)], *[(1, 20 + day / 10) for day in range(4)])
    recent = RecentPopularity.fit(events, 3, half_life_days=1).score()
    lasting = RecentPopularity.fit(events, 3, half_life_days=1000).score()
    assert recent[1] > recent[0] > recent[2] == 0
    assert lasting[0] > lasting[1]


def test_time_alone_changes_no_share_and_parts_add_up() -> None:
    first, second = news((0, 1), (1, 2), (1, 2.5)), news((0, 3), (2, 4))
    both = RecentPopularity.fit([first, second], 3, 2)
    np.testing.assert_allclose(both.score(), RecentPopularity.fit(first, 3, 2).counted(second).score())
    np.testing.assert_allclose(both.score(), RecentPopularity.fit([second, first], 3, 2).score())


def test_scores_at_a_moment_know_nothing_of_what_comes_later() -> None:
    events = news((0, 1), (1, 2), (1, 3), (2, 4))
    start = RecentPopularity(np.zeros(3), 0, 1.0)
    day = 86_400_000_000
    moments = np.array([4, 1, 2, 10]) * day + LAG
    found = start.scores_at(EventLog.of(events), moments)
    for row, moment in enumerate(moments):
        before = RecentPopularity.fit(events.before(int(moment) - LAG), 3, 1.0)
        np.testing.assert_allclose(found[row], before.score(), rtol=1e-6)
    assert not found[1].any()


def test_what_a_model_has_counted_is_not_counted_again() -> None:
    events = news((0, 1), (1, 2), (2, 4))
    day = 86_400_000_000
    known = RecentPopularity.fit(events.before(3 * day), 3, 1.0)
    [score] = known.scores_at(EventLog.of(events), np.array([9 * day]))
    np.testing.assert_allclose(score, RecentPopularity.fit(events, 3, 1.0).score(), rtol=1e-6)


def test_a_moment_before_the_models_end_has_the_counts_of_then() -> None:
    events = news((0, 1), (1, 2), (1, 3), (2, 4))
    day = 86_400_000_000
    known = RecentPopularity.fit(events, 3, 1.0)
    past, now = known.scores_at(EventLog.of(events), np.array([2 * day + 2 * LAG, 9 * day]))
    before = RecentPopularity.fit(events.before(2 * day + LAG), 3, 1.0)
    np.testing.assert_allclose(past, before.score(), rtol=1e-6)
    np.testing.assert_allclose(now, known.score(), rtol=1e-6)


def test_counts_that_nobody_adds_to_lose_their_worth() -> None:
    day = 86_400_000_000
    known = RecentPopularity.fit(news((0, 1), (1, 2)), 3, half_life_days=2)
    moments = np.array([0, 2 * day, 2 * day + LAG, 4 * day + LAG, 400 * day])
    np.testing.assert_allclose(known.freshness(moments), [1, 1, 1, 0.5, 0], atol=1e-6)
