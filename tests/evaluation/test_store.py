from datetime import UTC, datetime

import sqlalchemy as sa

from recsys.evaluation.earlier import Decline
from recsys.evaluation.ranking.baselines import POPULARITY
from recsys.evaluation.ranking.cases import held_out_cases
from recsys.evaluation.ranking.evaluate import evaluate
from recsys.evaluation.result import CANDIDATE
from recsys.evaluation.store import store_declines, store_evaluation


def test_figures_are_stored_for_sql_and_a_retry_overwrites_them(
    warehouse, make_sequences, catalogue, minute, fixed_scores, evaluation_settings
):
    sequences = make_sequences([("ann", "a", 10, "like", "full")], catalogue)
    cases = held_out_cases(sequences, catalogue, minute(5), evaluation_settings)
    scorers = {CANDIDATE: fixed_scores([9, 1, 1, 1, 1, 1]), POPULARITY: fixed_scores([0, 1, 2, 3, 4, 5])}
    result = evaluate(scorers, cases, evaluation_settings)
    for version in ("3", "4"):
        rows = store_evaluation(warehouse, "nightly:1", result, {CANDIDATE: version})
    assert rows == len(result.figures)
    with warehouse.connect() as connection:
        stored = connection.execute(
            sa.text(
                "select scorer, model_version, value, users from model_evaluations "
                "where slice = 'all' and metric = 'ndcg_at_2' order by scorer"
            )
        ).all()
        count = connection.execute(sa.text("select count(*) from model_evaluations")).scalar()
        empty = connection.execute(
            sa.text("select value from model_evaluations where slice = 'items_with_5_or_more_events' limit 1")
        ).scalar()
    assert count == rows
    assert stored == [("candidate", "4", 1.0, 1), ("popularity", None, 0.0, 1)]
    assert empty is None


def test_comparisons_with_earlier_champions_are_stored_once_and_a_retry_overwrites_them(warehouse):
    now = datetime(2026, 5, 20, 3, tzinfo=UTC)
    week, month = (Decline(days, 0.2, 0.21, -0.01, -0.02, 0.0, 90) for days in (7, 28))
    store_declines(warehouse, "nightly:1", [week, month], "9", {7: "5", 28: "2"}, now)
    store_declines(warehouse, "nightly:2", [week], "9", {7: "5"}, now)
    store_declines(warehouse, "nightly:1", [week], "9", {7: "6"}, now)
    with warehouse.connect() as connection:
        stored = connection.execute(
            sa.text(
                "select run_key, days, champion_version, earlier_version, difference "
                "from champion_comparisons order by run_key, days"
            )
        ).all()
    assert stored == [("nightly:1", 7, "9", "6", -0.01), ("nightly:2", 7, "9", "5", -0.01)]
