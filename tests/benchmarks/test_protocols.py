"""What a case is: the history before it, the targets after it, and what may be recommended."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.cases import TargetCases, Task
from benchmarks.datasets import Dataset
from benchmarks.judging import case_metrics, judge
from benchmarks.protocols import make_task
from benchmarks.shown_cases import ClickRate
from benchmarks.shown_lists import ShownLists
from recsys.errors import ConfigurationError
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Catalogue, Sequences

TYPES = EventTypes.from_records(
    [
        {"event_type": "hide", "explicit": True, "weight": 0, "polarity": -1},
        {"event_type": "like", "explicit": True, "weight": 1, "polarity": 1},
        {"event_type": "purchase", "explicit": False, "weight": 1, "polarity": 1},
        {
            "event_type": "view",
            "explicit": False,
            "weight": 0.3,
            "polarity": 0,
            "role": "step",
            "hide_days": 0,
        },
    ]
)
MINUTE = 60_000_000
Event = tuple[str, str, int, float]
"""User, type, item and minute."""


def dataset(*rows: Event, n_items: int = 6, **options: Any) -> Dataset:
    users = sorted({row[0] for row in rows})
    ids = [f"i{n}" for n in range(n_items)]
    sequences = Sequences.build(
        user_keys=users,
        user_index=[users.index(user) for user, _, _, _ in rows],
        item_index=[item for _, _, item, _ in rows],
        event_type=TYPES.lookup([kind for _, kind, _, _ in rows]),
        value=[np.nan] * len(rows),
        occurred_at=[int(minute * MINUTE) for _, _, _, minute in rows],
        feedback_id=range(len(rows)),
        event_types=TYPES,
    )
    catalogue = Catalogue.build(ids, ids, [""] * n_items, [{}] * n_items)
    return Dataset("made", catalogue, TYPES, sequences, **options)


def shown(cases: TargetCases) -> list[tuple[list[int], list[int]]]:
    """Return the items of each case's history, and its targets."""
    histories = cases.histories(np.arange(len(cases)))
    return [
        (
            histories.item_index[histories.offsets[row] : histories.offsets[row + 1]].tolist(),
            cases.targets[cases.offsets[row] : cases.offsets[row + 1]].tolist(),
        )
        for row in range(len(cases))
    ]


def candidates(cases: TargetCases, row: int = 0) -> list[int]:
    scores = np.zeros((1, len(cases.catalogue)), dtype=np.float32)
    cases.mask(scores, np.array([row]), cases.histories(np.array([row])))
    return np.flatnonzero(np.isfinite(scores[0])).tolist()


SHOP: list[Event] = [
    ("a", "purchase", 0, 0), ("a", "purchase", 1, 1),
    ("a", "purchase", 0, 100), ("a", "view", 3, 101), ("a", "purchase", 2, 102),
    ("a", "view", 4, 200), ("a", "purchase", 0, 201), ("a", "purchase", 4, 202), ("a", "purchase", 4, 203),
]  # fmt: skip


def test_the_next_basket_is_a_visit_and_its_history_ends_before_it() -> None:
    task = make_task(dataset(*SHOP), "next-basket", ("purchase",), "always")
    assert shown(task.test) == [([0, 1, 0, 3, 2], [0, 4])]
    assert shown(task.tuning) == [([0, 1], [0, 2])]
    assert task.known.events == 5
    assert task.train.events == 2
    assert task.test.had.tolist() == [True, False]
    assert candidates(task.test) == [0, 1, 2, 3, 4, 5]


def test_without_repeats_what_a_user_had_is_no_target_and_no_candidate() -> None:
    task = make_task(dataset(*SHOP), "next-basket", ("purchase",), "never")
    assert shown(task.test) == [([0, 1, 0, 3, 2], [4])]
    assert candidates(task.test) == [3, 4, 5]  # what was only viewed may be recommended


def note(*rows: Event, is_defined: bool) -> str:
    return make_task(dataset(*rows, is_defined=is_defined), "next-basket", ("purchase",)).notes[1]


def test_what_nobody_defined_is_found_in_the_feedback() -> None:
    assert "items may be recommended again" in note(*SHOP, is_defined=False)
    once: list[Event] = [("a", "purchase", item, 100 * item) for item in range(4)]
    assert "is not recommended again" in note(*once, is_defined=False)
    assert "event types and rest periods say" in note(*SHOP, is_defined=True)


def test_a_view_that_hides_is_credited_with_the_like_that_follows_on_another_day() -> None:
    rows: list[Event] = [
        ("a", "like", 5, 0), ("a", "like", 4, 50), ("a", "view", 0, 100), ("a", "like", 0, 1000),
    ]  # fmt: skip
    data = dataset(*rows)
    hidden = replace(data.sequences, hide_days=np.full(4, np.inf, dtype=np.float32))
    task = make_task(replace(data, sequences=hidden), "leave-one-out", ("like",))
    assert shown(task.test) == [([5, 4], [0])]
    assert task.test.at.tolist() == [100 * MINUTE]
    assert task.test.types.tolist() == [[False, True, False, False]]


def test_the_view_that_led_to_a_like_is_not_in_its_history() -> None:
    rows: list[Event] = [
        ("a", "like", 5, 0), ("a", "like", 4, 50),
        ("a", "view", 0, 100), ("a", "view", 1, 101), ("a", "like", 0, 102), ("a", "like", 1, 110),
    ]  # fmt: skip
    task = make_task(dataset(*rows), "leave-one-out", ("like",), "never")
    assert shown(task.test) == [([5, 4, 0], [1])]
    assert shown(task.tuning) == [([5, 4], [0])]


def test_a_view_on_another_day_stays_in_the_history() -> None:
    rows: list[Event] = [
        ("a", "like", 5, 0), ("a", "like", 4, 50), ("a", "view", 0, 100), ("a", "like", 0, 1000),
    ]  # fmt: skip
    task = make_task(dataset(*rows), "leave-one-out", ("like",), "never")
    assert shown(task.test) == [([5, 4, 0], [0])]
    assert 0 in candidates(task.test)


def test_what_a_user_dislikes_is_not_a_candidate() -> None:
    rows: list[Event] = [
        ("a", "like", 5, 0), ("a", "hide", 3, 10), ("a", "like", 4, 50), ("a", "like", 0, 1000),
    ]  # fmt: skip
    task = make_task(dataset(*rows), "leave-one-out", ("like",), "always")
    assert candidates(task.test) == [0, 1, 2, 4, 5]


def test_one_item_wanted_in_two_ways_is_one_target_of_both_types() -> None:
    rows: list[Event] = [
        ("a", "like", 5, 0), ("a", "like", 4, 50), ("a", "like", 0, 100), ("a", "purchase", 0, 101),
    ]  # fmt: skip
    task = make_task(dataset(*rows), "leave-one-out", ("like", "purchase"), "never")
    assert shown(task.test) == [([5, 4], [0])]
    assert task.test.types.tolist() == [[False, True, True, False]]


def by_time(stream: bool = False) -> Task:
    rows = [
        (user, "like", (3 * n + 7 * place) % 40, 100.0 * n + place)
        for place, user in enumerate("abcd")
        for n in range(30)
    ]
    return make_task(dataset(*rows, n_items=40), "temporal", stream=stream)


def test_a_split_by_time_knows_nothing_of_the_test_period() -> None:
    task = by_time()
    end = task.known.occurred_at.max()
    assert task.test.at.min() > end
    assert task.train.occurred_at.max() < task.tuning.at.min() <= end
    assert task.log is None
    assert by_time(stream=True).log is not None


def test_no_model_trains_on_a_test_of_a_user_who_tunes_nothing() -> None:
    rows = [(user, "purchase", n, 100.0 * n) for user in "abcdefgh" for n in range(4)]
    task = make_task(dataset(*rows), "next-basket")
    assert len(task.tuning) == 4  # the other users' last basket but one is trained on
    assert task.known.lengths.tolist() == [3] * 8
    assert sorted(task.train.lengths.tolist()) == [2] * 4 + [3] * 4


def test_tuning_cases_of_cold_items_are_those_that_training_validates_with() -> None:
    rows = [(f"u{n:02}", "like", (n + 3 * step) % 30, 60 * step) for n in range(40) for step in range(6)]
    task = make_task(dataset(*rows, n_items=30), "cold-items")
    assert task.split is not None
    given = task.split.cases
    assert len(given) > 0
    assert shown(task.tuning) == [
        (given.histories.item_index[begin:end].tolist(), [target])
        for begin, end, target in zip(
            given.histories.offsets[:-1], given.histories.offsets[1:], given.targets, strict=True
        )
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "tomorrow"}, "split must be one of"),
        ({"split": "leave-one-out", "targets": ("buy",)}, "no event type 'buy'; there are hide, like"),
        ({"split": "leave-one-out", "targets": ("hide",)}, "no case"),
        ({"split": "temporal"}, "no times"),
    ],
)
def test_a_protocol_without_cases_says_why(options: dict[str, Any], message: str) -> None:
    data = replace(dataset(*SHOP), has_times=options["split"] != "temporal")
    with pytest.raises(ConfigurationError, match=message):
        make_task(data, **options)


def test_metrics_of_a_basket() -> None:
    # The first case wants two items, at ranks 1 and 3; the second wants one, at rank 20.
    metrics, cases = case_metrics(np.array([1, 3, 20]), np.array([0, 0, 1]), np.ones(3, dtype=bool))
    assert cases.tolist() == [0, 1]
    ideal = 1 + 1 / np.log2(3)
    np.testing.assert_allclose(metrics[0], [(1 + 1 / np.log2(4)) / ideal, 1, 1])
    np.testing.assert_allclose(metrics[1], [0, 0, 1 / 20])
    part, cases = case_metrics(np.array([1, 3, 20]), np.array([0, 0, 1]), np.array([False, True, False]))
    assert cases.tolist() == [0]
    np.testing.assert_allclose(part, [[1 / np.log2(4), 1, 1 / 3]])


class Always:
    """Scores item n with n."""

    def score(self, histories: Sequences) -> np.ndarray:
        return np.tile(np.arange(6, dtype=np.float32), (histories.users, 1))


def test_a_model_is_judged_among_the_candidates() -> None:
    task = make_task(dataset(*SHOP), "next-basket", ("purchase",), "never")
    judged = judge(Always(), {}, 0.0, task.test)
    assert judged.ranks.tolist() == [2]  # 5, then 4
    among = replace(task.test, shown=(np.array([0, 2]), np.array([3, 4])))
    assert judge(Always(), {}, 0.0, among).ranks.tolist() == [1]


def test_shown_lists_rank_what_was_shown_by_the_clicks_before() -> None:
    rows: list[Event] = [
        ("a", "like", 5, 0), ("a", "like", 0, 1), ("a", "like", 2, 2), ("a", "like", 4, 3),
        ("b", "like", 1, 0),
    ]  # fmt: skip
    lists = ShownLists(
        users=np.array([0, 0, 1, 0]), offsets=np.array([0, 2, 4, 6, 8]),
        items=np.array([0, 1, 2, 3, 0, 1, 3, 4]),
        clicked=np.array([True, False, True, False, False, True, False, True]),
    )  # fmt: skip
    task = make_task(replace(dataset(*rows), shown=lists), "shown-lists", ("like",))
    # The user's history, the list that was clicked in, and only clicks before it are known.
    assert shown(task.test) == [([], [1]), ([5, 0, 2], [4])]
    assert candidates(task.test, 1) == [3, 4]
    assert shown(task.tuning) == [([5, 0], [2])]
    assert task.train.item_index.tolist() == [5, 0]
    assert task.lists is not None
    assert [mask.tolist() for mask in task.lists] == [[True, False, False, False], [True, True, False, False]]


def test_the_click_rate_is_drawn_towards_the_mean() -> None:
    lists = ShownLists(
        users=np.array([0, 0]), offsets=np.array([0, 2, 4]), items=np.array([0, 1, 0, 2]),
        clicked=np.array([True, False, True, False]),
    )  # fmt: skip
    rate = ClickRate.fit(lists, np.array([True, True]), 4, prior=2.0).rate
    np.testing.assert_allclose(rate, [(2 + 1) / (2 + 2), 1 / 3, 1 / 3, 0.5])
    assert ClickRate.fit(lists, np.array([True, False]), 4, prior=2.0).rate[2] == 0.5
