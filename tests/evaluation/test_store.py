import sqlalchemy as sa

from recsys.evaluation.ranking.baselines import POPULARITY
from recsys.evaluation.ranking.cases import held_out_cases
from recsys.evaluation.ranking.evaluate import evaluate
from recsys.evaluation.result import CANDIDATE
from recsys.evaluation.store import store_evaluation


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
