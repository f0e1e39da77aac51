"""A search from its first trial to a registered version, with real training."""

from dataclasses import replace
from datetime import timedelta
from itertools import chain, repeat
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.evaluation.bootstrap import Interval
from recsys.pipeline import learning, tuning
from recsys.pipeline.context import Context
from recsys.pipeline.references import SearchTrial
from recsys.settings import Settings
from recsys.snapshot.read import read_snapshot
from recsys.training.result import read_result
from recsys.tuning import confirm
from recsys.tuning.confirm import compare_on_unseen_users
from recsys.tuning.search import load_search, read_trials
from recsys.tuning.trial import trial_folder
from recsys.warehouse.tables import model_versions
from tests.small_models import small_settings, write_tiny_encoder
from tests.tuning.conftest import NOW

pytestmark = pytest.mark.usefixtures("snapshot")


@pytest.fixture
def quick(context: Context, tmp_path: Path) -> Context:
    """Two epochs of a small model; only its learning rate is open."""
    small = small_settings(context.settings.home, write_tiny_encoder(tmp_path / "encoder"), epochs=2)
    model = small.model.model_copy(update={"fine_tuning": "frozen"})
    tuned = context.settings.tuning.model_copy(update={"trials": 2})
    settings: Settings = context.settings.model_copy(
        update={"model": model, "training": small.training, "tuning": tuned}
    )
    return replace(context, settings=settings)


def test_a_confirmed_winner_is_registered_with_what_the_search_found(
    quick: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[confirm.Confirmation] = []

    def favour_the_winner(*arguments: object) -> confirm.Confirmation:
        compared.append(compare_on_unseen_users(*arguments))
        return replace(compared[0], users=500, difference=Interval(0.02, 0.01, 0.03))

    for trial in tuning.begin_search(quick):
        tuning.run_trial(quick, trial)
    search = load_search(quick.engine, quick.run.key)
    first, second = read_trials(quick.engine, search)
    assert (first.state, second.state) == ("complete", "complete")
    assert set(first.values) == {"training.learning_rate"}
    assert first.values != second.values
    assert len(first.curve) == 2
    with quick.engine.begin() as connection:  # whichever is better by chance
        connection.exec_driver_sql("UPDATE search_trials SET score = number")
    monkeypatch.setattr(confirm, "compare_on_unseen_users", favour_the_winner)
    candidate = tuning.confirm_winner(quick)
    assert 10 < compared[0].users < 60
    assert compared[0].difference.value == pytest.approx(compared[0].winner - compared[0].present)
    challenger = learning.register(quick, learning.evaluate(quick, candidate))
    with quick.engine.connect() as connection:
        found = connection.scalar(
            sa.select(model_versions.c.tuned_settings).where(
                model_versions.c.model_version == challenger.version
            )
        )
    assert found == second.values


def test_a_training_is_ended_when_the_time_is_over(quick: Context) -> None:
    moments = chain([NOW] * 2, repeat(NOW + timedelta(minutes=61)))
    ticking = replace(quick, clock=lambda: next(moments))
    tuning.begin_search(ticking)
    tuning.run_trial(ticking, SearchTrial(number=0))
    search = load_search(quick.engine, quick.run.key)
    (trial,) = read_trials(quick.engine, search)
    assert (trial.state, len(trial.curve)) == ("out_of_time", 1)
    assert read_result(trial_folder(quick.settings, search, 0)) is None


def test_equal_models_differ_by_nothing(quick: Context) -> None:
    (trial, *_) = tuning.begin_search(quick)
    tuning.run_trial(quick, trial)
    search = load_search(quick.engine, quick.run.key)
    result = read_result(trial_folder(quick.settings, search, 0))
    assert result is not None
    model, snapshot = Path(result.checkpoint), read_snapshot(search.snapshot)
    half = compare_on_unseen_users(snapshot, model, model, quick.settings.evaluation, 0.5)
    everybody = compare_on_unseen_users(snapshot, model, model, quick.settings.evaluation, 1.0)
    nobody = compare_on_unseen_users(snapshot, model, model, quick.settings.evaluation, 0.0)
    assert nobody.users == 0 < half.users < everybody.users
    assert (half.difference.value, half.winner) == (0, half.present)
