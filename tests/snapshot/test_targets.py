"""What is a target, and what is off a user's list, by the meaning of event types."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Sequences
from recsys.snapshot.targets import find_targets, hidden_items

DAY = 86_400_000_000
NAN = float("nan")
_VIEW = {"event_type": "view", "explicit": False, "weight": 0.3, "polarity": 0, "role": "step"}
_BUY = {"event_type": "purchase", "explicit": False, "weight": 1.0, "polarity": 1, "role": "outcome"}
_DISLIKE = {"event_type": "dislike", "explicit": True, "weight": 0.0, "polarity": -1, "role": "dislike"}


def types(*, view: float | None, purchase: float | None, **more: Any) -> EventTypes:
    """Return views, purchases and dislikes; the first two hide their item for this many days."""
    return EventTypes.from_records(
        [_VIEW | {"hide_days": view}, _BUY | {"hide_days": purchase} | more, _DISLIKE]
    )


def history(
    meaning: EventTypes,
    *events: tuple[str, int, float] | tuple[str, int, float, float],
    rest: Sequence[float] | None = None,
) -> Sequences:
    """Return one user's events, each (type, item, day) or (type, item, day, value)."""
    return Sequences.build(
        user_keys=["ann"],
        user_index=[0] * len(events),
        item_index=[event[1] for event in events],
        event_type=meaning.lookup([event[0] for event in events]),
        value=[event[3] if len(event) > 3 else NAN for event in events],
        occurred_at=[round(event[2] * DAY) for event in events],
        feedback_id=range(len(events)),
        event_types=meaning,
        rest_days=None if rest is None else np.array(rest, dtype=np.float32),
    )


def weights(past: Sequences) -> list[float]:
    return [round(weight, 3) for weight in find_targets(past).weight.tolist()]


def hidden(past: Sequences, day: float) -> set[int]:
    return set(hidden_items(past.asked(round(day * DAY)))[1].tolist())


def test_a_purchase_after_a_view_that_hides_nothing_is_a_target_of_its_own() -> None:
    past = history(types(view=0, purchase=None), ("view", 1, 0), ("view", 1, 1), ("purchase", 1, 2))
    assert weights(past) == [0.3, 0, 1]  # a second look teaches nothing


def test_a_hidden_outcome_is_credited_to_the_event_that_brought_it_about() -> None:
    meaning = types(view=None, purchase=None)
    past = history(meaning, ("view", 1, 0), ("view", 2, 1), ("purchase", 1, 2), ("purchase", 1, 3))
    assert weights(past) == [1, 0.3, 0, 0]
    kinds = find_targets(past).event_type
    assert [meaning.names[kind] for kind in kinds[:2]] == ["purchase", "view"]


def test_a_dislike_is_not_credited_with_what_follows_it() -> None:
    past = history(types(view=0, purchase=None), ("dislike", 1, 0), ("purchase", 1, 1))
    assert weights(past) == [0, 0]


def test_what_may_be_had_again_is_a_target_again_after_its_rest() -> None:
    events = [("purchase", 1, day) for day in (0, 1, 9, 9, 30)]
    assert weights(history(types(view=0, purchase=7), *events)) == [1, 0, 1, 0, 1]
    assert weights(history(types(view=0, purchase=0), *events)) == [
        1,
        1,
        1,
        0,
        1,
    ]  # two at one moment are one
    assert weights(history(types(view=0, purchase=None), *events)) == [1, 0, 0, 0, 0]


def test_an_item_rests_as_long_as_it_says_itself_but_a_dislike_stays() -> None:
    meaning = types(view=0, purchase=None)
    events = [("purchase", 0, 0), ("purchase", 1, 0), ("dislike", 2, 0), ("view", 3, 0)]
    past = history(meaning, *events, rest=[7, NAN, 7, 7])
    assert hidden(past, 6.9) == {0, 1, 2}
    assert hidden(past, 7.1) == {1, 2}


def test_types_of_an_older_release_hide_their_items_for_ever() -> None:
    old = EventTypes.from_records([{k: v for k, v in _BUY.items() if k != "role"}])
    past = history(old, ("purchase", 1, 0), ("purchase", 1, 9000))
    assert weights(past) == [1, 0]
    assert hidden(past, 90_000) == {1}


def test_a_return_takes_the_purchase_back() -> None:
    meaning = types(view=0, purchase=0, value_is_amount=True)
    past = history(
        meaning,
        ("purchase", 1, 0, 5), ("purchase", 1, 1, 5), ("purchase", 2, 1, 0), ("purchase", 1, 2, -5),
        ("purchase", 3, 3, -1), ("purchase", 1, 4, 5),
    )  # fmt: skip
    assert weights(past) == [1, 0, 1, 0, 0, 1]  # the return of day 3 has no purchase to take back
    assert past.sentiment.tolist() == [1, 1, 1, -1, -1, 1]


@pytest.mark.parametrize(("amount", "expected"), [(40, 2), (10, 1), (2.5, 0.5), (1e12, 3), (0, 1 / 3)])
def test_an_amount_weighs_a_target_within_bounds(amount: float, expected: float) -> None:
    meaning = types(view=0, purchase=0, value_is_amount=True, typical_amount=10)
    past = history(meaning, ("purchase", 1, 0, amount), ("purchase", 2, 0))
    np.testing.assert_allclose(find_targets(past).weight, [expected, 1])


def test_many_random_histories_agree_with_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        view, purchase = rng.choice([np.nan, 0, 1, 3], 2)
        meaning = types(
            view=None if np.isnan(view) else view, purchase=None if np.isnan(purchase) else purchase
        )
        count = int(rng.integers(1, 40))
        names = rng.choice(["view", "purchase", "dislike"], count, p=[0.5, 0.4, 0.1])
        item, day = rng.integers(0, 4, count), np.sort(rng.integers(0, 12, count) / 2)
        past = history(meaning, *zip(names.tolist(), item.tolist(), day.tolist(), strict=True))
        assert weights(past) == _expected(
            list(zip(names.tolist(), item.tolist(), day.tolist(), strict=True)),
            {"view": view, "purchase": purchase},
        )


def _expected(events: list[tuple[str, int, float]], hide_days: Mapping[str, float]) -> list[float]:
    until: dict[int, float] = {}
    carrier: dict[int, int] = {}
    found = [0.0] * len(events)
    for row, (name, item, day) in enumerate(events):
        own = {"view": 0.3, "purchase": 1.0, "dislike": 0.0}[name]
        if item in until and day <= until[item]:
            if name == "purchase" and events[carrier[item]][0] != "dislike":
                found[carrier[item]] = max(found[carrier[item]], own)
        else:
            found[row] = 0.0 if name == "view" and item in carrier else own
            carrier[item] = row
        days = hide_days.get(name, np.nan)
        until[item] = max(until.get(item, -1.0), np.inf if np.isnan(days) else day + days)
    return [round(weight, 3) for weight in found]
