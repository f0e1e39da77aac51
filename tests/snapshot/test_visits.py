"""Where visits begin, and who comes back."""

import numpy as np
from numpy.typing import ArrayLike

from recsys.snapshot.sequences import Sequences
from recsys.snapshot.visits import VISIT_GAP, are_returning, starts_of_visits, visits
from tests.small_models import EVENT_TYPES, LIKE

MINUTE = 60_000_000


def at_minutes(*users: list[float]) -> Sequences:
    times = [(user, time) for user, own in enumerate(users) for time in own]
    return Sequences.build(
        user_keys=[f"user-{number}" for number in range(len(users))],
        user_index=[user for user, _ in times],
        item_index=np.arange(len(times)),
        event_type=np.full(len(times), LIKE),
        value=np.full(len(times), np.nan),
        occurred_at=[round(time * MINUTE) for _, time in times],
        feedback_id=range(len(times)),
        event_types=EVENT_TYPES,
    )


def asked(histories: Sequences, minutes: ArrayLike) -> list[bool]:
    returning: list[bool] = are_returning(histories.asked(np.asarray(minutes) * MINUTE)).tolist()
    return returning


def test_a_visit_ends_after_half_an_hour_without_an_event() -> None:
    assert VISIT_GAP == 30 * MINUTE
    events = at_minutes([0, 30, 60, 90.1, 91], [], [91, 91])
    assert visits(events).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert starts_of_visits(events).tolist() == [0, 3, 5]
    assert len(visits(at_minutes([], []))) == 0


def test_users_come_back_when_their_visit_is_over() -> None:
    events = at_minutes([0, 10], [0, 10], [0, 50], [])
    assert asked(events, [40, 41, 50, 99]) == [False, True, False, False]
    assert are_returning(events).tolist() == [False] * 4
