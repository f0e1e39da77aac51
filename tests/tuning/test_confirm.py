"""The winner of a search is handed on only if it is better on users whom the search has not seen."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.errors import NothingToDoError, TrainingError
from recsys.evaluation.bootstrap import Interval
from recsys.pipeline import tuning
from recsys.pipeline.context import Context
from recsys.pipeline.references import SearchTrial
from recsys.registry.connection import mlflow_client
from recsys.training.job import TrainingJob, run_folder
from recsys.training.result import read_result
from recsys.tuning import confirm
from recsys.tuning.confirm import Confirmation
from recsys.tuning.search import load_search
from recsys.warehouse.analytics import install_analytics
from recsys.warehouse.tables import promotion_ledger, searches
from tests.tuning.conftest import Curve, later

Replace = Callable[[Curve], list[TrainingJob]]

pytestmark = pytest.mark.usefixtures("snapshot")


def search(context: Context, trials: int = 3) -> None:
    for trial in tuning.begin_search(context)[:trials]:
        tuning.run_trial(context, trial)


def recorded(context: Context) -> sa.Row:
    with context.engine.connect() as connection:
        return connection.execute(sa.select(searches)).one()


def view(context: Context) -> Sequence[sa.Row]:
    """Return what analysts see of the search."""
    install_analytics(context.engine)
    with context.engine.connect() as connection:
        return connection.execute(sa.text("SELECT * FROM analytics.tuning_trials ORDER BY trial")).all()


def better_than_present(job: TrainingJob) -> list[float]:
    return [0.2 if job.training.learning_rate == 1e-3 else 0.3]


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Decide what the unseen users say."""

    def say(low: float, high: float, users: int = 500) -> None:
        found = Confirmation(users, 0.2, 0.2 + (low + high) / 2, Interval((low + high) / 2, low, high))
        monkeypatch.setattr(confirm, "compare_on_unseen_users", lambda *_: found)

    return say


def test_a_winner_that_unseen_users_confirm_goes_on_as_a_candidate_of_this_run(
    context: Context, trained: Replace, unseen: Callable[..., None]
) -> None:
    jobs = trained(better_than_present)
    unseen(0.01, 0.03)
    search(context)
    candidate = tuning.confirm_winner(context)
    row = recorded(context)
    assert (row.outcome, row.users, row.low) == ("confirmed", 500, 0.01)
    assert "difference +0.0200 [+0.0100, +0.0300]" in row.explanation
    folder = run_folder(context.settings.runs, "full", context.run.key)
    assert candidate.folder == str(folder)
    assert candidate.training == read_result(folder)
    assert Path(candidate.training.checkpoint).parent == folder
    assert candidate.lineage.snapshot == load_search(context.engine, context.run.key).snapshot
    client = mlflow_client(context.settings)
    winner = jobs[row.winner]
    parameters = client.get_run(candidate.mlflow_run).data.params
    assert float(parameters["training.learning_rate"]) == winner.training.learning_rate
    assert [artifact.path for artifact in client.list_artifacts(candidate.mlflow_run)] == ["search.png"]
    below = client.search_runs(
        [client.get_run(candidate.mlflow_run).info.experiment_id],
        f"tags.`mlflow.parentRunId` = '{candidate.mlflow_run}'",
    )
    assert len(below) == 3
    assert tuning.confirm_winner(context) == candidate  # a retry
    tried = view(context)
    assert [(t.trial, t.state, t.epochs, t.best, t.low) for t in tried] == [
        (number, "complete", 1, number == row.winner, 0.01 if number == row.winner else None)
        for number in range(3)
    ]
    assert {(t.model_version, t.adopted) for t in tried} == {(None, False)}
    with context.engine.begin() as connection:
        connection.execute(
            sa.insert(promotion_ledger).values(
                action="promote", model_version="9", champion_sequence=1, run_key=context.run.key,
                reason="r", explanation="e", checks=[], actor="a",
            )
        )  # fmt: skip
    assert [(t.model_version, t.adopted) for t in view(context) if t.best] == [("9", True)]
    assert [t.adopted for t in view(context) if not t.best] == [False, False]


@pytest.mark.parametrize(
    ("low", "high", "users", "outcome"),
    [(-0.01, 0.05, 500, "not_better"), (0.0, 0.05, 500, "not_better"), (0.01, 0.05, 3, "too_few_users")],
)
def test_a_winner_that_is_not_shown_to_be_better_changes_nothing(
    context: Context, trained: Replace, unseen: Callable[..., None],
    low: float, high: float, users: int, outcome: str,
) -> None:  # fmt: skip
    trained(better_than_present)
    unseen(low, high, users)
    search(context)
    with pytest.raises(NothingToDoError, match=r"not shown to be better: .* users"):
        tuning.confirm_winner(context)
    assert recorded(context).outcome == outcome
    [best] = [trial for trial in view(context) if trial.best]
    assert (best.outcome, best.users, best.difference) == (
        (outcome, users, (low + high) / 2) if users >= 5 else (outcome, None, None)
    )
    assert not run_folder(context.settings.runs, "full", context.run.key).exists()


def test_the_present_settings_stay_when_no_trial_scores_higher(context: Context, trained: Replace) -> None:
    trained(lambda job: [0.2])
    search(context)
    with pytest.raises(NothingToDoError, match="best of 3"):
        tuning.confirm_winner(context)
    assert recorded(context).outcome == "present_is_best"


def test_a_search_whose_trials_all_fail_says_why(context: Context, trained: Replace) -> None:
    def fails(job: TrainingJob) -> list[float]:
        raise TrainingError("the GPU's memory does not suffice")

    trained(fails)
    search(context)
    with pytest.raises(TrainingError, match=r"every trial failed; .* memory does not suffice"):
        tuning.confirm_winner(context)
    assert recorded(context).outcome == "failed"


def test_a_catalogue_too_large_for_the_time_is_named_with_the_setting(
    context: Context, trained: Replace
) -> None:
    trained(lambda job: [0.2])
    tuning.begin_search(context)
    tuning.run_trial(later(context, 61), SearchTrial(number=0))
    with pytest.raises(TrainingError, match="RECSYS_TUNING__TIME_BUDGET_MINUTES = 60; raise it"):
        tuning.confirm_winner(context)


def test_a_damaged_checkpoint_of_the_winner_is_not_handed_on(
    context: Context, trained: Replace, unseen: Callable[..., None]
) -> None:
    jobs = trained(better_than_present)
    unseen(0.01, 0.03)
    search(context)
    for job in jobs:
        (job.output / "result.json").unlink()
    with pytest.raises(TrainingError, match="no longer in"):
        tuning.confirm_winner(context)
