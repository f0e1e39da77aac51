"""Trials: their settings, how they end, and that a search which was killed goes on."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from recsys.errors import NothingToDoError, TrainingError
from recsys.pipeline import tuning
from recsys.pipeline.context import Context, Run
from recsys.pipeline.references import SearchTrial
from recsys.settings import ModelSettings, TrainingSettings
from recsys.snapshot.reference import SnapshotRef
from recsys.training.job import TrainingJob
from recsys.tuning.search import Trial, load_search, read_trials
from recsys.tuning.space import SPACE
from recsys.tuning.study import MIN_COMPLETE, MIN_EPOCHS
from tests.tuning.conftest import Curve, later

Replace = Callable[[Curve], list[TrainingJob]]


def run(context: Context, *numbers: int) -> list[Trial]:
    for number in numbers:
        tuning.run_trial(context, SearchTrial(number=number))
    return read_trials(context.engine, load_search(context.engine, context.run.key))


def good(job: TrainingJob) -> list[float]:
    return [0.1, 0.2]


def test_the_first_trial_has_the_present_settings_and_others_differ(
    context: Context, snapshot: SnapshotRef, trained: Replace
) -> None:
    jobs = trained(good)
    assert [trial.number for trial in tuning.begin_search(context)] == list(range(6))
    trials = run(context, *range(6))
    assert jobs[0].model == context.settings.model
    assert jobs[0].training.learning_rate == context.settings.training.learning_rate
    assert len({tuple(trial.values.items()) for trial in trials}) > 3
    assert all(set(trial.values) == set(SPACE) for trial in trials)
    assert {job.unseen_share for job in jobs} == {0.5}
    assert {job.snapshot.digest for job in jobs} == {snapshot.digest}
    assert [trial.state for trial in trials] == ["complete"] * 6
    assert [trial.curve for trial in trials] == [(0.1, 0.2)] * 6


@pytest.mark.usefixtures("snapshot")
def test_a_trial_that_was_killed_keeps_its_settings(context: Context, trained: Replace) -> None:
    def killed(job: TrainingJob) -> list[float]:
        raise KeyboardInterrupt

    trained(killed)
    tuning.begin_search(context)
    with pytest.raises(KeyboardInterrupt):
        run(context, 3)
    jobs = trained(good)
    tuning.begin_search(context)  # its task is cleared too
    (before,) = read_trials(context.engine, load_search(context.engine, context.run.key))
    (after,) = run(context, 3)
    assert after.values == before.values
    assert (before.state, after.state) == ("running", "complete")
    assert run(context, 3) == [after]
    assert len(jobs) == 1


@pytest.mark.usefixtures("snapshot")
def test_a_failed_training_is_a_result_and_the_search_goes_on(context: Context, trained: Replace) -> None:
    def diverges(job: TrainingJob) -> list[float]:
        if job.tuned != present:
            raise TrainingError("the loss became nan")
        return [0.1]

    tuning.begin_search(context)
    present = load_search(context.engine, context.run.key).present
    trained(diverges)
    first, second, third = run(context, 0, 1, 2)
    assert (first.state, second.state, third.state) == ("complete", "failed", "failed")
    assert second.explanation == "the loss became nan"


@pytest.mark.usefixtures("snapshot")
def test_a_failed_trial_that_is_cleared_goes_on_with_its_settings(context: Context, trained: Replace) -> None:
    def killed(job: TrainingJob) -> list[float]:
        raise TrainingError("full training ended with signal 9")

    trained(killed)
    tuning.begin_search(context)
    before = run(context, 0, 1)
    with pytest.raises(TrainingError, match="every trial failed"):
        tuning.confirm_winner(context)
    jobs = trained(good)
    after = run(context, 0, 1)
    assert [(trial.state, trial.explanation) for trial in after] == [("complete", None)] * 2
    assert [trial.values for trial in after] == [trial.values for trial in before]
    assert len(jobs) == 2


@pytest.mark.usefixtures("snapshot")
def test_a_search_goes_on_with_what_is_possible_when_the_environment_has_changed(
    context: Context, trained: Replace
) -> None:
    jobs = trained(good)
    tuning.begin_search(context)
    run(context, 0)
    with context.engine.begin() as connection:  # a trial that was killed
        connection.execute(
            sa.text(
                "INSERT INTO search_trials (search_id, number, settings, state) SELECT search_id, 1,"
                " settings || '{\"model.dim\": 256}', 'running' FROM search_trials"
            )
        )
    three = context.settings.model_copy(update={"model": ModelSettings(heads=3, dim=192)})
    later = Context(context.run, three, context.engine, context.clock)
    second = run(later, 1)[1]
    assert (second.state, second.explanation) == (
        "failed",
        "model.dim = 256 does not go with the other settings",
    )
    assert run(later, 2)[2].values["model.dim"] == 64  # Optuna is not told of what is impossible
    assert len(jobs) == 1


@pytest.mark.usefixtures("snapshot")
def test_a_trial_far_below_the_others_is_ended_early(context: Context, trained: Replace) -> None:
    tuning.begin_search(context)
    trained(lambda job: [0.2] * (MIN_EPOCHS + 5))
    run(context, *range(MIN_COMPLETE))
    trained(lambda job: [0.01] * (MIN_EPOCHS + 5))
    *_, last = run(context, MIN_COMPLETE)
    assert (last.state, last.score) == ("pruned", None)
    assert len(last.curve) == MIN_EPOCHS


@pytest.mark.usefixtures("snapshot")
def test_the_present_settings_are_never_ended_for_their_validation(
    context: Context, trained: Replace
) -> None:
    tuning.begin_search(context)
    trained(lambda job: [0.2] * (MIN_EPOCHS + 5))
    run(context, 1, 2, 3)
    trained(lambda job: [0.01] * (MIN_EPOCHS + 5))
    assert run(context, 0)[0].state == "complete"


@pytest.mark.usefixtures("snapshot")
def test_nothing_is_tried_when_the_time_is_over_also_after_a_retry(
    context: Context, trained: Replace
) -> None:
    jobs = trained(good)
    tuning.begin_search(context)
    tuning.begin_search(later(context, 59))
    assert run(later(context, 59), 0)[0].state == "complete"
    assert run(later(context, 61), 1)[1].state == "out_of_time"
    assert len(jobs) == 1


@pytest.mark.usefixtures("snapshot")
def test_a_new_search_ends_one_that_was_left_and_its_trials_stop(context: Context, trained: Replace) -> None:
    trained(good)
    tuning.begin_search(context)
    new = Context(
        Run("tune_recommender", "tune_recommender/2"), context.settings, context.engine, context.clock
    )
    tuning.begin_search(new)
    for stage in (
        lambda: tuning.begin_search(context),
        lambda: run(context, 0),
        lambda: tuning.confirm_winner(context),
    ):
        with pytest.raises(NothingToDoError, match="tune_recommender/2 began"):
            stage()
    assert run(new, 0)[0].state == "complete"


def test_without_a_snapshot_there_is_nothing_to_search_on(context: Context) -> None:
    with pytest.raises(NothingToDoError, match="run nightly_training first"):
        tuning.begin_search(context)


@pytest.mark.usefixtures("snapshot")
def test_a_snapshot_that_housekeeping_removed_is_named(context: Context) -> None:
    with context.engine.begin() as connection:
        connection.execute(sa.text("UPDATE snapshots SET uri = uri || '-removed'"))
    with pytest.raises(NothingToDoError, match="newest full snapshot is not there"):
        tuning.begin_search(context)


def test_nothing_is_searched_when_everything_is_set_in_the_environment(context: Context) -> None:
    defaults = context.settings
    fixed = defaults.model_copy(
        update={
            "model": type(defaults.model)(**defaults.model.model_dump()),
            "training": TrainingSettings(**defaults.training.model_dump()),
        }
    )
    fixed = type(fixed)(**{name: getattr(fixed, name) for name in type(fixed).model_fields})
    with pytest.raises(NothingToDoError, match="0 of the searched settings"):
        tuning.begin_search(Context(context.run, fixed, context.engine))
