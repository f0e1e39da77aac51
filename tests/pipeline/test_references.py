"""What stages hand to each other is checked when it is received."""

import json
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from recsys.errors import StaleReferenceError
from recsys.pipeline.deciding import promote
from recsys.pipeline.feedback import validate
from recsys.pipeline.learning import evaluate
from recsys.pipeline.order import HOURLY, NIGHTLY, takes
from recsys.pipeline.publishing import refresh_users
from recsys.pipeline.references import Candidate, Decided, NewChampion, OpenedWindow, receive
from recsys.promotion.decision import Check, Decision, Response
from recsys.registry.lineage import Lineage
from recsys.snapshot.reference import SnapshotRef, TrainedThrough
from recsys.training.result import TrainingResult


@pytest.fixture
def candidate() -> Candidate:
    return Candidate(
        lineage=Lineage(
            snapshot=SnapshotRef("/snapshots/full/1", "d" * 64, "full", 10, 1), parent="7", window_ids=(1, 2)
        ),
        training=TrainingResult(
            checkpoint="/runs/checkpoint",
            history="/runs/history.jsonl",
            kind="full",
            snapshot_uri="/snapshots/full/1",
            snapshot_digest="d" * 64,
            trained_through=TrainedThrough(12, datetime(2026, 1, 2, tzinfo=UTC)),
            epochs=3,
            best_epoch=2,
            seconds=1.5,
            metrics={"ndcg": 0.1, "undefined": float("nan")},
            stopped_because="patience",
        ),
        folder="/runs",
        mlflow_run="abc",
    )


def through_xcom(value: object) -> object:
    return json.loads(json.dumps(to_jsonable_python(value)))


def test_a_reference_comes_out_of_xcom_as_it_went_in(candidate: Candidate) -> None:
    [received] = receive(evaluate, (through_xcom(candidate),))
    assert received.lineage == candidate.lineage
    assert received.training.trained_through == candidate.training.trained_through
    assert received.training.metrics["ndcg"] == 0.1


def test_a_decision_keeps_its_checks_and_the_answer_of_a_person() -> None:
    check = Check("enough_users", "pass", 40.0, None, None, 30.0, "There are enough users.")
    decided = Decided(version="2", decision=Decision("ask", "better", "Better.", (check,), "1"), links={})
    answer = Response("approve", "ann", "2026-01-01T00:00:00+00:00")
    assert receive(promote, (through_xcom(decided), through_xcom(answer))) == [decided, answer]
    assert receive(promote, (through_xcom(decided), None)) == [decided, None]


def test_a_task_that_was_skipped_hands_on_nothing() -> None:
    assert receive(refresh_users, (None,)) == [None]
    champion = NewChampion(version="2", reason="better")
    assert receive(refresh_users, (through_xcom(champion),)) == [champion]


@pytest.mark.parametrize(
    "value",
    [None, {"window_id": 1}, {"window_id": "one", "arrived": 1}, {"window_id": 1, "arrived": 1, "more": 1}],
)
def test_what_another_release_handed_on_is_refused_with_the_remedy(value: object) -> None:
    with pytest.raises(StaleReferenceError, match=r"validate cannot use what(.|\n)*clear the task"):
        receive(validate, (value,))


def test_references_do_not_change() -> None:
    window = OpenedWindow(window_id=1, arrived=2)
    with pytest.raises(ValidationError, match="frozen"):
        window.arrived = 3  # type: ignore[misc]


@pytest.mark.parametrize("learning", [NIGHTLY, HOURLY], ids=lambda learning: learning.dag_id)
def test_each_stage_takes_what_the_stage_before_it_returns(learning) -> None:
    from typing import get_type_hints

    stages = [*learning.until_decision, learning.promote]
    assert not takes(stages[0])
    for before, after in pairwise(stages):
        hints = get_type_hints(after)
        first = next(name for name in hints if name != "context")
        assert issubclass(get_type_hints(before)["return"], hints[first])
