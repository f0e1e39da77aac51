import numpy as np
import pytest

from recsys.errors import EvaluationError
from recsys.evaluation.ranking.cases import GuardBoundary, guard_cases, held_out_cases
from recsys.settings import EvaluationSettings


def _described(cases, catalogue):
    histories = cases.histories(np.arange(len(cases)))
    names = catalogue.item_ids
    return [
        (
            histories.user_keys[number],
            "".join(names[histories.item_index[histories.offsets[number] : histories.offsets[number + 1]]]),
            names[cases.targets[number]],
        )
        for number in range(len(cases))
    ]


def test_each_held_out_event_is_predicted_from_all_earlier_events_of_its_user(
    make_sequences, catalogue, minute, evaluation_settings
):
    sequences = make_sequences(
        [
            ("ann", "a", 0, "like", "full"),
            ("ann", "b", 10, "like", "full"),
            ("ann", "c", 11, "like", "full"),
            ("bob", "d", 12, "view", "full"),
        ],
        catalogue,
    )
    cases = held_out_cases(sequences, catalogue, minute(10), evaluation_settings)
    assert _described(cases, catalogue) == [("ann", "a", "b"), ("ann", "ab", "c"), ("bob", "", "d")]


def test_dislikes_repeats_and_unavailable_items_are_never_targets(
    make_sequences, catalogue, minute, evaluation_settings
):
    sequences = make_sequences(
        [
            ("ann", "a", 0, "like", "full"),
            ("ann", "b", 10, "dislike", "full"),
            ("ann", "a", 11, "like", "full"),
            ("ann", "f", 12, "like", "full"),
            ("ann", "c", 13, "like", "full"),
        ],
        catalogue,
    )
    cases = held_out_cases(sequences, catalogue, minute(10), evaluation_settings)
    assert _described(cases, catalogue) == [("ann", "abaf", "c")]


def test_events_of_the_same_time_keep_log_order(make_sequences, catalogue, minute, evaluation_settings):
    sequences = make_sequences(
        [("ann", "c", 10, "like", "full"), ("ann", "a", 10, "like", "full")], catalogue
    )
    cases = held_out_cases(sequences, catalogue, minute(10), evaluation_settings)
    assert _described(cases, catalogue) == [("ann", "", "c"), ("ann", "c", "a")]


def test_an_active_user_contributes_the_first_cases_after_the_split(make_sequences, catalogue, minute):
    sequences = make_sequences(
        [("ann", item, number, "like", "full") for number, item in enumerate("abcde")], catalogue
    )
    cases = held_out_cases(sequences, catalogue, minute(1), EvaluationSettings(max_cases_per_user=2))
    assert [target for _, _, target in _described(cases, catalogue)] == ["b", "c"]


def test_too_many_users_are_sampled_the_same_way_each_time(make_sequences, catalogue, minute):
    sequences = make_sequences([(f"user{n:02}", "a", 10, "like", "full") for n in range(50)], catalogue)
    settings = EvaluationSettings(max_users=7)
    first = held_out_cases(sequences, catalogue, minute(5), settings)
    second = held_out_cases(sequences, catalogue, minute(5), settings)
    assert len(np.unique(first.users)) == 7
    assert np.array_equal(first.positions, second.positions)


def test_slices_separate_cold_users_and_rare_items(make_sequences, catalogue, minute, evaluation_settings):
    rows = [(f"u{n}", "a", n, "like", "full") for n in range(5)]
    rows += [("u0", "b", 6, "like", "full")]
    rows += [
        ("new", "a", 10, "like", "full"),
        ("u1", "b", 10, "like", "full"),
        ("u2", "c", 10, "like", "full"),
    ]
    sequences = make_sequences(rows, catalogue)
    cases = held_out_cases(sequences, catalogue, minute(10), evaluation_settings)
    members = {
        name: {catalogue.item_ids[target] for target in cases.targets[mask]}
        for name, mask in cases.slices.items()
    }
    assert members == {
        "all": {"a", "b", "c"},
        "cold_users": {"a"},
        "items_without_events": {"c"},
        "items_with_1_to_4_events": {"b"},
        "items_with_5_or_more_events": {"a"},
    }


def test_a_micro_snapshot_is_evaluated_on_fresh_events_and_guarded_on_trained_ones(
    make_sequences, catalogue, minute
):
    sequences = make_sequences(
        [
            ("ann", "a", 0, "like", "history"),
            ("ann", "b", 20, "like", "fresh"),
            ("ann", "c", 30, "like", "fresh"),
            ("bob", "a", 25, "like", "replay"),
            ("eve", "a", 1, "like", "guard"),
            ("eve", "b", 2, "like", "guard"),
            ("eve", "c", 3, "dislike", "guard"),
            ("eve", "d", 4, "like", "guard"),
        ],
        catalogue,
    )
    settings = EvaluationSettings(max_cases_per_user=2)
    held_out = held_out_cases(sequences, catalogue, minute(25), settings)
    guard = guard_cases(sequences, catalogue, settings)
    assert _described(held_out, catalogue) == [("ann", "ab", "c")]
    assert guard is not None
    assert _described(guard, catalogue) == [("eve", "a", "b"), ("eve", "abc", "d")]


def test_without_guard_users_there_are_no_guard_cases(make_sequences, catalogue, evaluation_settings):
    sequences = make_sequences([("ann", "a", 0, "like", "fresh")], catalogue)
    assert guard_cases(sequences, catalogue, evaluation_settings) is None


def test_without_a_predictable_event_the_error_says_what_is_needed(
    make_sequences, catalogue, minute, evaluation_settings
):
    sequences = make_sequences([("ann", "a", 0, "like", "full")], catalogue)
    with pytest.raises(EvaluationError, match="no held-out feedback since 2026-01-01T00:05"):
        held_out_cases(sequences, catalogue, minute(5), evaluation_settings)


def test_guard_users_are_evaluated_from_their_own_earlier_boundary_on(
    make_sequences, catalogue, minute, evaluation_settings
):
    guard, other = "00000000aa", "ffffffffaa"
    events = [
        (user, item, time, "like", "full") for user in (guard, other) for item, time in [("a", 0), ("b", 5)]
    ]
    sequences = make_sequences(events, catalogue)
    boundary = GuardBoundary(minute(5), 0.1)
    cases = held_out_cases(sequences, catalogue, minute(6), evaluation_settings, guard=boundary)
    assert _described(cases, catalogue) == [(guard, "a", "b")]


def test_probe_events_are_cases_whatever_their_time(make_sequences, catalogue, minute, evaluation_settings):
    sequences = make_sequences(
        [("ann", "a", 0, "like", "probe"), ("bob", "b", 0, "like", "fresh")], catalogue
    )
    cases = held_out_cases(sequences, catalogue, minute(10), evaluation_settings)
    assert _described(cases, catalogue) == [("ann", "", "a")]


def test_the_first_event_of_a_visitor_is_no_case_and_visitors_are_no_cold_users(
    make_sequences, catalogue, minute, evaluation_settings
):
    rows = [
        (f"fffff{n}", item, minute_of_event, "like", "full")
        for n in range(3)
        for minute_of_event, item in enumerate("ab", 10)
    ]
    rows += [
        ("new", "c", 10, "like", "full"),
        ("old", "a", 0, "like", "full"),
        ("old", "b", 10, "like", "full"),
    ]
    sequences = make_sequences(rows, catalogue)
    cases = held_out_cases(sequences, catalogue, minute(10), evaluation_settings)
    keys = cases.sequences.user_keys[cases.users]
    described = sorted(zip(keys.tolist(), catalogue.item_ids[cases.targets].tolist(), strict=True))
    assert described == [("fffff0", "b"), ("fffff1", "b"), ("fffff2", "b"), ("new", "c"), ("old", "b")]
    assert set(keys[cases.slices["cold_users"]]) == {"new"}
    assert set(keys[cases.slices["visitors"]]) == {"fffff0", "fffff1", "fffff2"}


def test_visitors_take_half_of_the_places_when_users_are_sampled(make_sequences, catalogue, minute):
    rows = [
        (f"{kind}{n:02}", item, at, "like", "full")
        for kind, people in (("fffff", 40), ("user", 8))
        for n in range(people)
        for at, item in ((0, "a"), (10, "b"))
    ]
    sequences = make_sequences(rows, catalogue)

    def sampled(places: int) -> tuple[int, int]:
        settings = EvaluationSettings(max_users=places)
        cases = held_out_cases(sequences, catalogue, minute(5), settings)
        visitors = [key.startswith("fffff") for key in cases.sequences.user_keys[np.unique(cases.users)]]
        return visitors.count(False), visitors.count(True)

    assert sampled(12) == (6, 6)
    assert sampled(30) == (8, 22)
    assert sampled(100) == (8, 40)
