import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from recsys.registry.pyfunc_model import input_example, recommend


def _event(**changes):
    return {
        "item_id": "item0",
        "event_type": "rating",
        "value": 5.0,
        "occurred_at": "2026-01-01T00:00:00+00:00",
    } | changes


def _ask(recommender, *histories, **params):
    return recommend(recommender, pd.DataFrame({"history": list(histories)}), params)


def test_a_model_answers_its_own_example(recommender):
    users, params = input_example(recommender)
    answer = recommend(recommender, users, params)
    assert len(answer["item_ids"][0]) == 3


def test_consumed_items_come_back_only_when_asked_for(recommender):
    everything = len(recommender.catalogue)
    without = _ask(recommender, [_event()], k=everything)
    with_consumed = _ask(recommender, [_event()], k=everything, exclude_consumed=False)
    assert "item0" not in without["item_ids"][0]
    assert len(without["item_ids"][0]) == len(without["scores"][0]) == everything - 1
    assert "item0" in with_consumed["item_ids"][0]


def test_only_items_that_are_available_now_are_recommended(recommender):
    catalogue = recommender.catalogue
    until, start = catalogue.available_until.copy(), catalogue.available_from.copy()
    until[1], start[2] = 0, np.iinfo(np.int64).max  # 1970, and never
    available = catalogue.available & (np.arange(len(catalogue)) != 3)
    limited = copy.copy(recommender)
    limited.catalogue = replace(catalogue, available=available, available_from=start, available_until=until)
    answer = _ask(limited, [_event()], k=12)["item_ids"][0]
    gone = set(catalogue.item_ids[:4])
    assert set(answer) == set(catalogue.item_ids) - gone


def test_an_answer_holds_one_of_the_items_that_are_one_thing(recommender):
    catalogue = recommender.catalogue
    grouped = copy.copy(recommender)
    grouped.catalogue = replace(catalogue, group=np.minimum(np.arange(len(catalogue)), 9))
    everything = _ask(recommender, [_event()], k=12)["item_ids"][0]
    last_three = set(catalogue.item_ids[9:])
    best = next(item for item in everything if item in last_three)
    expected = [item for item in everything if item not in last_three - {best}]
    assert _ask(grouped, [_event()], k=12)["item_ids"][0] == expected


def test_only_the_candidates_are_ranked_in_the_order_of_the_whole_list(recommender):
    users = [{"history": [_event()]}] * 5
    chosen = [["item7", "item3", "item0", "unheard of", "item7"], [], None, float("nan"), ["item5"]]
    rows = pd.DataFrame([user | {"candidates": items} for user, items in zip(users, chosen, strict=True)])
    answers = recommend(recommender, rows, {"k": 12})["item_ids"].tolist()
    everything = _ask(recommender, [_event()], k=12)["item_ids"][0]
    assert answers[0] == [item for item in everything if item in ("item3", "item7")]
    assert answers[1:] == [[], everything, everything, ["item5"]]
    assert recommend(recommender, rows[:1], {"k": 1})["item_ids"][0] == answers[0][:1]


@pytest.mark.parametrize(
    ("candidates", "reason"),
    [
        ("item0", "row 0: candidates must be a list of item ids, not str"),
        ([7], "row 0: a candidate must be text, not 7"),
        ([None], "row 0: a candidate must be text, not None"),
    ],
)
def test_wrong_candidates_are_refused_with_row_and_reason(recommender, candidates, reason):
    with pytest.raises(MlflowException) as refused:
        recommend(recommender, pd.DataFrame({"history": [[]], "candidates": [candidates]}), {})
    assert reason in refused.value.message


def test_each_item_has_a_reason(recommender):
    answer = _ask(recommender, [_event(item_id="item3")], [], k=12)
    for items, reasons in zip(answer["item_ids"], answer["reasons"], strict=True):
        assert len(reasons) == len(items) > 0
        assert all(reasons)
    assert any("Item3" in reason for reason in answer["reasons"][0])


def test_items_that_the_model_does_not_know_are_left_out_of_the_history(recommender):
    known = _ask(recommender, [_event()], k=3)
    both = _ask(recommender, [_event(item_id="unheard of"), _event()], k=3)
    assert known["item_ids"].tolist() == both["item_ids"].tolist()


def test_the_answer_depends_on_the_history_and_not_on_the_neighbouring_rows(recommender):
    alone = _ask(recommender, [_event(item_id="item3")], k=5)
    beside = _ask(recommender, [_event(item_id="item9")], [_event(item_id="item3")], k=5)
    assert beside["item_ids"][1] == alone["item_ids"][0]
    assert np.allclose(beside["scores"][1], alone["scores"][0], atol=1e-5)


@pytest.mark.parametrize(
    ("history", "reason"),
    [
        ("item0", "row 0: history must be a list of events, not str"),
        (None, "row 0: history must be a list of events, not NoneType"),
        (["item0"], "row 0, event 0: an event must be an object, not str"),
        ([_event(event_type="adored")], "unknown event type 'adored'; known are dislike, rating"),
        ([_event(item_id=7)], "row 0, event 0: item_id must be text, not 7"),
        ([_event(), _event(value="five")], "row 0, event 1: value must be a number, not 'five'"),
        ([_event(value=float("inf"))], "value must be finite"),
        ([_event(value=10**400)], "row 0, event 0: value must be finite and fit a double"),
        ([_event(value=-(10**5000))], "value must be finite"),
        ([_event(item_id=10**5000)], "item_id must be text, not a int of thousands of digits"),
        ([_event(value=np.complex128(1j))], "value must be a number"),
        ([_event(event_type="x" * 10**6)], "unknown event type"),
        ([_event(occurred_at="2026-01-01")], "occurred_at must be ISO 8601 with a time zone"),
        ([_event(occurred_at="yesterday")], "occurred_at must be ISO 8601 with a time zone"),
        ([{"item_id": "item0"}], "event_type must be text, not None"),
    ],
)
def test_a_bad_history_is_refused_with_row_and_reason(recommender, history, reason):
    with pytest.raises(MlflowException) as refused:
        _ask(recommender, history)
    assert reason in refused.value.message
    assert refused.value.get_http_status_code() == 400


@pytest.mark.parametrize("k", [0, -1, 13])
def test_k_outside_the_catalogue_is_refused(recommender, k):
    with pytest.raises(MlflowException, match="k must be from 1 to 12"):
        _ask(recommender, [_event()], k=k)


def test_a_missing_column_and_a_request_that_is_not_text_are_refused(recommender):
    with pytest.raises(MlflowException, match="'history' is missing"):
        recommend(recommender, pd.DataFrame({"items": [[]]}), {})
    with pytest.raises(MlflowException, match="request must be text"):
        recommend(recommender, pd.DataFrame({"history": [[]], "request": [5]}), {})
