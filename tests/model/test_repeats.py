"""Features of what a user has had before, and their weights in the fusion."""

from typing import Any

import numpy as np

from recsys.model.fusion import NEURAL, fit_fusion
from recsys.model.repeats import FEATURES, repeat_features
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Sequences

DAY = 86_400_000_000
SHOP = EventTypes.from_records(
    [
        {
            "event_type": "view",
            "explicit": False,
            "weight": 0.3,
            "polarity": 0,
            "role": "step",
            "hide_days": 0,
        },
        {"event_type": "purchase", "explicit": False, "weight": 1, "polarity": 1, "hide_days": 0},
        {"event_type": "dislike", "explicit": True, "weight": 0, "polarity": -1, "hide_days": 0},
        {"event_type": "subscription", "explicit": True, "weight": 1, "polarity": 1},
    ]
)


def shop(*users: list[tuple[str, int, float]], at: float) -> Sequences:
    """Return users with events (type, item, day), asked on one day."""
    flat = [(user, *event) for user, events in enumerate(users) for event in events]
    return Sequences.build(
        user_keys=[f"user {number}" for number in range(len(users))],
        user_index=[row[0] for row in flat],
        item_index=[row[2] for row in flat],
        event_type=SHOP.lookup([row[1] for row in flat]),
        value=np.full(len(flat), np.nan),
        occurred_at=[round(row[3] * DAY) for row in flat],
        feedback_id=range(len(flat)),
        event_types=SHOP,
    ).asked(round(at * DAY))


def features(histories: Sequences, user: int, item: int) -> dict[str, Any]:
    found = repeat_features(histories, 5)
    [row] = np.flatnonzero((found.users == user) & (found.items == item))
    return dict(zip(FEATURES, found.features[row].tolist(), strict=True))


def test_activation_grows_with_number_and_recency_of_events() -> None:
    histories = shop([("purchase", 1, 0), ("purchase", 1, 6), ("purchase", 2, 9)], [("view", 1, 9)], at=10)
    twice = features(histories, 0, 1)
    np.testing.assert_allclose(twice["repeat_activation"], np.log(10**-0.5 + 4**-0.5), rtol=1e-5)
    np.testing.assert_allclose(twice["repeat_count"], np.log(2), rtol=1e-5)
    assert features(histories, 0, 2)["repeat_activation"] == 0  # a day ago
    seen = features(histories, 1, 1)
    assert (seen["repeat"], seen["seen"], seen["repeat_count"]) == (0, 1, 0)


def test_an_item_is_due_when_its_usual_pause_is_over() -> None:
    weekly = [("purchase", 1, day) for day in (0.0, 7.0, 14.0)]
    due = [features(shop(weekly, at=day), 0, 1)["repeat_due"] for day in (15, 21, 60)]
    assert due[1] == max(due)
    assert features(shop([("purchase", 1, 0)], at=3), 0, 1)["repeat_due"] == 0


def test_older_visits_with_an_item_count_less_and_each_visit_once() -> None:
    hour = 1 / 24
    bought = [("purchase", 1, 0.0), ("purchase", 1, hour / 4), ("purchase", 2, 1.0), ("purchase", 3, 6.0)]
    histories = shop([*bought, ("purchase", 1, 7.0)], at=9)
    assert features(histories, 0, 3)["repeat_frequency"] == np.float32(np.log(0.5**0.2))
    expected = np.log(0.5 ** (3 / 5) + 1)  # the first of four visits, and the last
    np.testing.assert_allclose(features(histories, 0, 1)["repeat_frequency"], expected, rtol=1e-5)


def test_what_is_off_the_list_or_was_refused_last_has_no_features() -> None:
    histories = shop(
        [
            ("subscription", 1, 0),
            ("purchase", 2, 0),
            ("dislike", 2, 1),
            ("dislike", 3, 0),
            ("purchase", 3, 1),
        ],
        [],
        at=9,
    )
    found = repeat_features(histories, 5)
    assert (found.users.tolist(), found.items.tolist()) == ([0], [3])
    assert len(repeat_features(shop([], at=1), 5).users) == 0


def test_the_fusion_repeats_as_much_as_users_do() -> None:
    rng = np.random.default_rng(0)
    neural = rng.normal(size=(300, 20)).astype(np.float32)
    histories = shop(
        *[[("purchase", item, 0), ("purchase", (item + 3) % 20, 1)] for item in range(20)] * 15, at=2
    )
    repeats = repeat_features(histories, 20)
    users = np.array([f"user {number}" for number in range(300)], dtype=object)
    mine = np.arange(300) % 20
    nothing = np.zeros((300, 20), dtype=bool)
    share = {}
    for name, targets in {"always": mine, "never": (mine + 7) % 20}.items():
        fusion, _ = fit_fusion({NEURAL: neural}, targets.astype(np.int64), nothing, users, repeats=repeats)
        scores = fusion.join({NEURAL: neural}, repeats)
        best = scores.argmax(axis=1)
        share[name] = np.mean((best == mine) | (best == (mine + 3) % 20))
    assert share["always"] > 0.9
    assert share["never"] < 0.05


def test_features_of_some_users_are_those_of_their_rows() -> None:
    histories = shop([("purchase", 1, 0)], [("purchase", 2, 0)], [("view", 3, 0), ("view", 4, 0)], at=2)
    some = repeat_features(histories, 5).take(np.array([2, 0]))
    again = repeat_features(histories.take_users([2, 0]), 5)
    order, other = np.lexsort((some.items, some.users)), np.lexsort((again.items, again.users))
    assert some.users[order].tolist() == again.users[other].tolist() == [0, 0, 1]
    np.testing.assert_array_equal(some.features[order], again.features[other])
