"""Each rival computes what its paper says, on feedback small enough for a pencil."""

from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks.peers import parse_grid
from benchmarks.rivals import (
    DAY,
    RIVALS,
    Ease,
    GlobalAndPersonalFrequency,
    ItemKnn,
    Log,
    PersonalFrequency,
    RecentPopularity,
    SessionKnn,
    TifuKnn,
)
from recsys.errors import ConfigurationError
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Sequences

TYPES = EventTypes.from_records(
    [
        {"event_type": "purchase", "explicit": False, "weight": 1, "polarity": 1},
        {"event_type": "view", "explicit": False, "weight": 1, "polarity": 0},
    ]
)
Event = tuple[str, int, float]
"""User, item and day; an item of 10 or more is a view of the item without the 10."""
N_ITEMS = 4


def events(*rows: Event) -> Sequences:
    users = sorted({user for user, _, _ in rows})
    return Sequences.build(
        user_keys=users,
        user_index=[users.index(user) for user, _, _ in rows],
        item_index=[item % 10 for _, item, _ in rows],
        event_type=[int(item >= 10) for _, item, _ in rows],
        value=[np.nan] * len(rows),
        occurred_at=[int(day * DAY) for _, _, day in rows],
        feedback_id=range(len(rows)),
        event_types=TYPES,
    )


def log(*rows: Event, is_aligned: bool = True) -> Log:
    return Log(events(*rows), N_ITEMS, np.array([True, False]), is_aligned)


def at(*days: float) -> np.ndarray:
    return np.array([int(day * DAY) for day in days])


def rounded(scores: np.ndarray) -> list[float]:
    return [round(float(score), 3) for score in scores]


def test_recent_popularity_counts_wanted_events_of_the_window_before_the_case() -> None:
    feedback = log(("a", 0, 1), ("b", 0, 1.1), ("c", 1, 9), ("c", 12, 9.5), ("d", 3, 9.9), ("e", 3, 10.5))
    model = RecentPopularity.fit(feedback, {"days": 3})
    early, late = model.score(events(("x", 2, 0), ("y", 2, 0)), at(2, 10))
    assert rounded(early) == [2, 0, 0, 0]
    assert late[1] == late[3] == 1  # the view of 2 is not wanted, and what follows the case is unknown
    assert 0 < late[0] < 1  # older popularity breaks ties


def test_without_common_clocks_the_window_ends_where_the_log_ends() -> None:
    feedback = log(("a", 0, 1), ("b", 1, 9), is_aligned=False)
    scores = RecentPopularity.fit(feedback, {"days": 3}).score(events(("x", 2, 0)), at(0.5))
    assert scores.argmax() == 1


def test_personal_frequency_halves_with_age() -> None:
    model = PersonalFrequency.fit(log(("z", 3, 0)), {"half_life": 2, "unit": "days", "everything": False})
    history = events(("a", 0, 0), ("a", 0, 2), ("a", 1, 4), ("a", 12, 4))
    assert rounded(model.score(history, at(4))[0]) == [0.75, 1, 0, 0]


def test_age_may_be_counted_in_visits_and_views_may_count() -> None:
    model = PersonalFrequency.fit(log(("z", 3, 0)), {"half_life": 1, "unit": "visits", "everything": True})
    history = events(("a", 0, 0), ("a", 1, 100), ("a", 12, 100.001), ("b", 3, 7))
    first, second = model.score(history, at(200, 200))
    assert rounded(first) == [0.5, 1, 1, 0]
    assert rounded(second) == [0, 0, 0, 1]


def test_after_what_the_user_had_comes_what_is_popular() -> None:
    settings = {"half_life": np.inf, "unit": "days", "everything": False, "share": 0.1, "days": np.inf}
    model = GlobalAndPersonalFrequency.fit(log(("z", 3, 0), ("y", 3, 0), ("y", 2, 0)), settings)
    assert rounded(model.score(events(("a", 0, 1)), at(2))[0]) == [1, 0, 0.05, 0.1]


def test_tifu_decays_within_and_across_groups_and_asks_the_neighbours() -> None:
    settings = {"group": 2, "within": 0.5, "across": 0.1, "neighbours": 1, "own": 0.75}
    feedback = log(("near", 0, 1), ("far", 2, 1))
    model = TifuKnn.fit(feedback, settings)
    # Three baskets: the oldest is alone in its group. Groups weigh 1 and 0.1, and there are two.
    history = events(("a", 0, 1), ("a", 1, 2), ("a", 0, 3))
    own = [(1 / 2 + 0.1) / 2, 0.5 / 2 / 2, 0, 0]
    near = [1, 0, 0, 0]
    expected = [0.75 * mine + 0.25 * other for mine, other in zip(own, near, strict=True)]
    assert rounded(model.score(history, at(4))[0]) == [round(score, 3) for score in expected]


def test_a_user_is_not_a_neighbour_of_himself() -> None:
    settings = {"group": 2, "within": 1, "across": 1, "neighbours": 1, "own": 0.0}
    feedback = log(("a", 0, 1), ("b", 0, 1), ("b", 1, 1))
    scores = TifuKnn.fit(feedback, settings).score(events(("a", 0, 1)), at(2))
    assert rounded(scores[0]) == [1, 1, 0, 0]


def session_knn(feedback: Log, **settings: object) -> SessionKnn:
    defaults = {"by": "visit", "latest": 2, "neighbours": 2, "sample": 10, "idf": False}
    return SessionKnn.fit(feedback, defaults | settings)


def test_session_neighbours_share_late_items() -> None:
    feedback = log(("a", 0, 1), ("a", 2, 1), ("b", 1, 1), ("b", 3, 1))
    scores = session_knn(feedback).score(events(("x", 0, 5), ("x", 1, 5.001)), at(6))
    # Weights of the history are 1/2 and 1; similarity times the weight of the latest common item.
    assert rounded(scores[0]) == [0.25, 1, 0.25, 1]


def test_session_neighbours_ended_before_the_case_and_the_latest_are_sampled() -> None:
    feedback = log(("a", 0, 1), ("a", 1, 1), ("b", 0, 3), ("b", 2, 3), ("c", 0, 9), ("c", 3, 9))
    history = events(("x", 0, 5))
    assert rounded(session_knn(feedback).score(history, at(6))[0]) == [2, 1, 1, 0]
    assert rounded(session_knn(feedback, sample=1).score(history, at(6))[0]) == [1, 0, 1, 0]


def test_item_neighbours_are_near_by_cosine_with_shrinkage() -> None:
    feedback = log(("a", 0, 1), ("a", 1, 1), ("b", 0, 1), ("b", 1, 1), ("c", 0, 1), ("c", 2, 1))
    model = ItemKnn.fit(feedback, {"neighbours": 1, "shrinkage": 1.0})
    scores = model.score(events(("x", 0, 5)), at(6))[0]
    assert rounded(scores) == [0, round(2 / (6**0.5 + 1), 3), round(1 / (3**0.5 + 1), 3), 0]


def test_ease_solves_its_equation() -> None:
    rows = [("a", 0, 1), ("a", 1, 1), ("b", 0, 1), ("b", 1, 1), ("c", 0, 1), ("c", 2, 1), ("d", 3, 1)]
    weights = Ease.fit(log(*rows), {"penalty": 10.0}).weights
    matrix = np.zeros((4, N_ITEMS))
    for user, item, _ in rows:
        matrix["abcd".index(user), item] = 1
    # At the optimum the gradient is zero everywhere but on the diagonal, which is held at zero.
    gradient = matrix.T @ (matrix @ weights - matrix) + 10 * weights
    np.testing.assert_allclose(np.diag(weights), 0)
    np.testing.assert_allclose(gradient - np.diag(np.diag(gradient)), 0, atol=1e-5)


@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_ranks_for_a_user_without_history(name: str) -> None:
    rival = RIVALS[name]
    feedback = log(("a", 0, 1), ("a", 1, 1), ("b", 0, 2), ("b", 1, 2), ("b", 12, 3))
    histories = events(("x", 0, 5), ("y", 1, 5)).where(np.array([False, True]))
    settings: Sequence[dict] = rival.GRID
    for choice in (settings[0], settings[-1]):
        scores = rival.fit(feedback, choice).score(histories, at(6, 6))
        assert scores.shape == (2, N_ITEMS)
        assert np.isfinite(scores).all()


def test_a_grid_names_width_dropout_and_perhaps_learning_rate() -> None:
    assert parse_grid("64:0.2,128:0.4:0.002", patience=5) == [
        {"factors": 64, "dropout": 0.2, "patience": 5},
        {"factors": 128, "dropout": 0.4, "learning_rate": 0.002, "patience": 5},
    ]
    with pytest.raises(ConfigurationError, match="'64' is not width:dropout"):
        parse_grid("64")
