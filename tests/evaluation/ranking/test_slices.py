from dataclasses import replace

import numpy as np
import pytest

from recsys.errors import ConfigurationError
from recsys.evaluation.ranking import fairness, slices
from recsys.evaluation.ranking.cases import held_out_cases
from recsys.evaluation.ranking.evaluate import evaluate
from recsys.evaluation.ranking.fairness import largest_gaps
from recsys.evaluation.ranking.slices import family, item_features, with_slices
from recsys.evaluation.result import CANDIDATE
from recsys.snapshot.sequences import Catalogue
from recsys.warehouse.analytics import MIN_PEOPLE
from tests.evaluation.conftest import EVENT_TYPES

DAY = 24 * 60


@pytest.fixture
def films():
    genres = [["Drama"], ["Drama", "Comedy"], ["Comedy"], [], ["War"]]
    attributes = [{"genres": names} if names else {} for names in genres]
    return Catalogue.build(list("abcde"), ["A", "B", "C", "Blue Sky", "E"], attributes=attributes)


@pytest.fixture
def cases(make_sequences, films, minute, evaluation_settings):
    rows = [
        ("ann", "a", 0, "like", "full"), ("ann", "b", 1, "like", "full"),
        ("ann", "c", 40 * DAY, "like", "full"),
        ("bob", "a", 2, "like", "full"), ("bob", "b", 40 * DAY, "like", "full"),
        ("eve", "e", 40 * DAY, "like", "full"),
    ]  # fmt: skip
    return held_out_cases(make_sequences(rows, films), films, minute(DAY), evaluation_settings)


@pytest.fixture(autouse=True)
def groups_of_one(monkeypatch):
    monkeypatch.setattr(slices, "MIN_PEOPLE", 1)


def _members(cases, name):
    return cases.sequences.user_keys[cases.users[cases.slices[name]]].tolist()


def test_users_are_split_by_activity_before_their_first_case(cases, films, evaluation_settings):
    sliced = with_slices(cases, films, evaluation_settings)
    assert _members(sliced, "activity:low") == ["eve"]
    assert _members(sliced, "activity:medium") == ["bob"]
    assert _members(sliced, "activity:high") == ["ann"]


def test_items_are_split_by_the_time_since_their_first_event(cases, films, evaluation_settings):
    sliced = with_slices(cases, films, evaluation_settings)
    assert _members(sliced, "item_age:under_7_days") == ["ann", "eve"]
    assert _members(sliced, "item_age:under_365_days") == ["bob"]
    assert "item_age:older" not in sliced.slices


def test_attributes_of_items_and_users_make_slices(cases, films, evaluation_settings):
    settings = evaluation_settings.model_copy(
        update={"item_slices": ("genres",), "user_slices": ("country",)}
    )
    people = {"ann": {"country": "fr"}, "bob": {"country": "de"}, "stranger": {"country": "it"}}
    sliced = with_slices(cases, films, settings, people)
    assert _members(sliced, "item.genres:Comedy") == ["ann", "bob"]
    assert _members(sliced, "item.genres:War") == ["eve"]
    assert _members(sliced, "user.country:fr") == ["ann"]
    assert not any(name.endswith(":it") for name in sliced.slices)
    assert family("user.country:fr") == "user.country"
    assert family("cold_users") is None


def test_no_slice_has_fewer_than_five_people(cases, films, evaluation_settings, monkeypatch):
    monkeypatch.setattr(slices, "MIN_PEOPLE", MIN_PEOPLE)
    settings = evaluation_settings.model_copy(
        update={"item_slices": ("genres",), "user_slices": ("country",)}
    )
    assert not with_slices(cases, films, settings, {"ann": {"country": "fr"}}).slices.keys() - cases.slices


def test_the_most_frequent_values_of_an_attribute_make_slices(cases, films, evaluation_settings, monkeypatch):
    monkeypatch.setattr(slices, "_MAX_VALUES", 1)
    settings = evaluation_settings.model_copy(update={"item_slices": ("genres",)})
    names = [name for name in with_slices(cases, films, settings).slices if name.startswith("item.")]
    assert names == ["item.genres:Comedy"]


def test_items_are_alike_by_attributes_or_else_by_the_words_of_their_title(films):
    features = item_features(films)
    likeness = (features @ features.T).toarray()
    assert likeness[0, 1] == pytest.approx(np.sqrt(0.5))
    assert likeness[0, 2] == 0
    assert np.diag(likeness) == pytest.approx(np.ones(5))


def test_the_largest_gap_of_a_family_is_between_its_best_and_its_worst_slice(
    cases, films, fixed_scores, evaluation_settings, monkeypatch
):
    settings = evaluation_settings
    result = evaluate(
        {CANDIDATE: fixed_scores([0, 1, 9, 0, -1])}, with_slices(cases, films, settings), settings
    )
    assert largest_gaps(result, CANDIDATE, "ndcg_at_2", settings) == []
    monkeypatch.setattr(fairness, "MIN_SLICE_USERS", 1)
    with np.errstate(all="ignore"):
        gaps = {gap.family: gap for gap in largest_gaps(result, CANDIDATE, "ndcg_at_2", settings)}
    assert gaps["activity"].best == "activity:high"
    assert gaps["activity"].worst == "activity:low"
    assert gaps["activity"].difference == pytest.approx(1.0)


def test_targets_are_split_by_type_and_by_what_the_user_had_before(
    make_sequences, films, minute, evaluation_settings
):
    rows = [
        ("ann", "a", 0, "view", "full"), ("ann", "a", 2 * DAY, "like", "full"),
        ("ann", "b", 2 * DAY, "view", "full"), ("bob", "a", 2 * DAY, "like", "full"),
    ]  # fmt: skip
    sequences = make_sequences(rows, films)
    views_hide_nothing = replace(
        sequences, hide_days=np.where(sequences.outcome, np.inf, 0).astype(np.float32)
    )
    cases = held_out_cases(views_hide_nothing, films, minute(DAY), evaluation_settings)
    sliced = with_slices(cases, films, evaluation_settings, event_types=EVENT_TYPES)
    assert _members(sliced, "target:like") == ["ann", "bob"]
    assert _members(sliced, "target:view") == ["ann"]
    assert _members(sliced, "had:before") == ["ann"]


def test_a_setting_says_which_types_of_targets_decide(make_sequences, films, minute, evaluation_settings):
    rows = [("ann", "a", 0, "like", "full"), ("ann", "b", 2, "view", "full"), ("ann", "c", 2, "like", "full")]
    sequences = make_sequences(rows, films)

    def targets(*names):
        settings = evaluation_settings.model_copy(update={"target_event_types": names})
        cases = held_out_cases(sequences, films, minute(1), settings, event_types=EVENT_TYPES)
        return films.item_ids[cases.targets].tolist()

    assert targets() == ["b", "c"]
    assert targets("like") == ["c"]
    with pytest.raises(ConfigurationError, match="TARGET_EVENT_TYPES names order, which the table"):
        targets("like", "order")


def test_features_of_titles_are_in_the_order_of_their_words():
    titles = ["seven brides for seven brothers", "for seven"]
    features = item_features(Catalogue.build(["a", "b"], titles, None)).toarray()
    assert (features > 0).tolist() == [[True] * 4, [True, False, True, False]]
    assert np.allclose((features**2).sum(axis=1), 1)
