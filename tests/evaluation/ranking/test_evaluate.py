import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.errors import EvaluationError
from recsys.evaluation.ranking.cases import held_out_cases
from recsys.evaluation.ranking.evaluate import evaluate
from recsys.evaluation.result import CANDIDATE, CHAMPION, Evaluation
from recsys.settings import EvaluationSettings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Catalogue, Sequences


@pytest.fixture
def cases(make_sequences, catalogue, minute, evaluation_settings):
    rows = [
        ("ann", "a", 0, "like", "full"),
        ("ann", "b", 10, "like", "full"),
        ("ann", "c", 11, "like", "full"),
        ("bob", "c", 12, "like", "full"),
    ]
    return held_out_cases(make_sequences(rows, catalogue), catalogue, minute(10), evaluation_settings)


def test_consumed_and_unavailable_items_are_not_ranked(cases, fixed_scores, evaluation_settings):
    # a and b are consumed before c; f is not available: c is first for ann, second for bob.
    scorer = fixed_scores([5, 2, 4, 0, 0, 9])
    result = evaluate({CANDIDATE: scorer}, cases, evaluation_settings)
    keys = result.slices["all"].user_keys.tolist()
    second = 1 / np.log2(3)
    recall = dict(zip(keys, result.per_user(CANDIDATE, "recall_at_2"), strict=True))
    ndcg = dict(zip(keys, result.per_user(CANDIDATE, "ndcg_at_2"), strict=True))
    assert recall == {"ann": 1.0, "bob": 1.0}
    assert ndcg["ann"] == pytest.approx((second + 1) / 2)  # b behind c, then c first
    assert ndcg["bob"] == pytest.approx(second)  # c behind a


def test_an_item_is_ranked_only_while_it_is_available(
    make_sequences, fixed_scores, minute, evaluation_settings
):
    names = list("abcd")
    catalogue = Catalogue.build(
        names, names, available_from=[None, None, minute(15), None],
        available_until=[minute(5), None, None, minute(15)],
    )  # fmt: skip
    rows = [("ann", "b", 10, "like", "full"), ("bob", "b", 20, "like", "full")]
    cases = held_out_cases(make_sequences(rows, catalogue), catalogue, minute(9), evaluation_settings)
    result = evaluate({CANDIDATE: fixed_scores([9, 1, 3, 2])}, cases, evaluation_settings)
    # a has ended for both; d is above b for ann and c for bob.
    keys = result.slices["all"].user_keys.tolist()
    assert dict(zip(keys, result.per_user(CANDIDATE, "mrr"), strict=True)) == {"ann": 0.5, "bob": 0.5}
    assert result.coverage[CANDIDATE] == 1.0  # of b, c and d; a was not available in this time


def test_coverage_is_the_share_of_available_items_in_the_last_lists(cases, fixed_scores, evaluation_settings):
    # ann's latest list is c, d (a and b consumed); bob's is a, b: four of five.
    result = evaluate({CANDIDATE: fixed_scores([5, 4, 3, 2, 1, 9])}, cases, evaluation_settings)
    assert result.coverage[CANDIDATE] == pytest.approx(4 / 5)


def test_a_scorer_with_nan_fails_alone(cases, fixed_scores, evaluation_settings):
    scorers = {CANDIDATE: fixed_scores([np.nan] * 6), CHAMPION: fixed_scores([5, 4, 3, 2, 1, 0])}
    result = evaluate(scorers, cases, evaluation_settings)
    assert result.failures == {CANDIDATE: "scores contain NaN or infinity"}
    assert np.isnan(result.mean(CANDIDATE, "ndcg_at_2"))
    assert result.mean(CHAMPION, "ndcg_at_2") > 0


def test_scores_of_another_catalogue_stop_the_evaluation(cases, fixed_scores, evaluation_settings):
    with pytest.raises(EvaluationError, match="align the model"):
        evaluate({CANDIDATE: fixed_scores([1, 2, 3])}, cases, evaluation_settings)


def test_an_evaluation_survives_saving_and_names_users_by_key_only(
    cases, fixed_scores, evaluation_settings, tmp_path
):
    scorers = {CANDIDATE: fixed_scores([1, 2, 3, 4, 5, 6]), CHAMPION: fixed_scores([np.nan] * 6)}
    saved = evaluate(scorers, cases, evaluation_settings, champion_version="7")
    loaded = Evaluation.load(saved.save(tmp_path / "evaluation"))
    for name in ("k", "scorers", "failures", "champion_version", "impossible", "users", "cases"):
        assert getattr(loaded, name) == getattr(saved, name)
    assert repr(loaded.figures) == repr(saved.figures)  # NaN equals itself as text only
    assert repr(loaded.coverage) == repr(saved.coverage)
    for name, result in saved.slices.items():
        np.testing.assert_array_equal(loaded.slices[name].values, result.values)
        assert loaded.slices[name].user_keys.tolist() == result.user_keys.tolist()
    table = pq.read_table(tmp_path / "evaluation" / "per_user.parquet")
    assert set(table["user_key"].to_pylist()) == {"ann", "bob"}
    assert "user_id" not in table.column_names


def test_an_incomplete_evaluation_is_refused(cases, fixed_scores, evaluation_settings, tmp_path):
    with pytest.raises(EvaluationError, match=r"cannot be read .*; evaluate again"):
        Evaluation.load(tmp_path)
    saved = evaluate({CANDIDATE: fixed_scores([1, 2, 3, 4, 5, 6])}, cases, evaluation_settings).save(tmp_path)
    (saved / "per_user.parquet").unlink()
    with pytest.raises(EvaluationError, match=r"per_user\.parquet cannot be read"):
        Evaluation.load(saved)


def test_figures_have_intervals_for_every_scorer_slice_and_metric(cases, fixed_scores, evaluation_settings):
    result = evaluate({CANDIDATE: fixed_scores([1, 2, 3, 4, 5, 6])}, cases, evaluation_settings)
    figures = {(figure.slice, figure.metric): figure for figure in result.figures}
    assert figures["all", "ndcg_at_2"].low <= figures["all", "ndcg_at_2"].value
    assert figures["all", "coverage_at_2"].value == result.coverage[CANDIDATE]
    assert figures["cold_users", "mrr"].users == 1
    assert len(figures) == 5 * 6 + 2


def test_a_thousand_users_and_two_thousand_items_are_evaluated_quickly(fixed_scores):
    generator = np.random.default_rng(0)
    users, items, events = 500, 1_700, 60
    types = EventTypes.from_records([{"event_type": "like", "explicit": True, "weight": 1.0, "polarity": 1}])
    names = [f"item{number}" for number in range(items)]
    catalogue = Catalogue.build(names, titles=names)
    sequences = Sequences.build(
        user_keys=[f"key{number}" for number in range(users)],
        user_index=np.repeat(np.arange(users), events),
        item_index=generator.integers(0, items, users * events),
        event_type=np.zeros(users * events, dtype=int),
        value=np.full(users * events, np.nan),
        occurred_at=np.tile(np.arange(events), users),
        feedback_id=np.arange(users * events),
        event_types=types,
    )
    settings = EvaluationSettings(bootstrap_resamples=1_000)
    start = time.process_time()
    split = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=40)
    cases = held_out_cases(sequences, catalogue, split, settings)
    evaluate({name: fixed_scores(generator.random(items)) for name in "abcd"}, cases, settings)
    assert len(cases) > 9_000
    assert time.process_time() - start < 15
