"""Settings in force: the environment's, else those of the champion's search, else the defaults."""

import itertools
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.errors import TrainingError
from recsys.pipeline import learning
from recsys.pipeline.context import Context, Run
from recsys.settings import ModelSettings, Settings
from recsys.training import launch, run
from recsys.training.job import TrainingJob
from recsys.tuning.adopted import settings_in_force
from recsys.tuning.space import Values
from recsys.warehouse.tables import model_versions, promotion_ledger
from tests.registry_fixtures import lineage_of

Promote = Callable[..., None]


@pytest.fixture
def promote(warehouse: sa.Engine) -> Promote:
    def record(version: str, tuned: Values | None, action: str = "promote") -> None:
        with warehouse.begin() as connection:
            if action == "promote":
                connection.execute(
                    model_versions.insert().values(
                        model_version=version, kind="full", base_transaction_id=1,
                        trained_transaction_id=1, tuned_settings=tuned,
                    )
                )  # fmt: skip
            connection.execute(
                promotion_ledger.insert().values(
                    action=action, model_version=version, champion_sequence=next(sequence), reason="x",
                    explanation="x", actor="t",
                )
            )  # fmt: skip

    sequence = itertools.count(1)
    return record


FOUND: Values = {"training.learning_rate": 0.002, "model.dim": 128}


def test_a_night_trains_with_what_the_champions_search_found(
    warehouse: sa.Engine, settings: Settings, promote: Promote
) -> None:
    promote("1", FOUND)
    in_force, found = settings_in_force(warehouse, settings)
    assert (in_force.training.learning_rate, in_force.model.dim) == (0.002, 128)
    assert found == FOUND
    assert in_force.model.dropout == settings.model.dropout


def test_a_rollback_takes_the_settings_back(
    warehouse: sa.Engine, settings: Settings, promote: Promote
) -> None:
    promote("1", None)
    promote("2", FOUND)
    promote("1", None, "roll_back")
    assert settings_in_force(warehouse, settings) == (settings, {})


def test_the_environment_wins_and_the_log_says_so(
    warehouse: sa.Engine, settings: Settings, promote: Promote, caplog: pytest.LogCaptureFixture
) -> None:
    promote("1", FOUND)
    own = settings.model_copy(update={"model": ModelSettings(dim=64)})
    with caplog.at_level(logging.INFO):
        in_force, found = settings_in_force(warehouse, own)
    assert in_force.model.dim == 64
    assert found == {"training.learning_rate": 0.002}
    assert "model.dim: the environment's value is used, not 128" in caplog.text
    assert "settings of the champion's search: training.learning_rate = 0.002" in caplog.text


def test_a_night_does_not_fail_for_settings_that_do_not_go_together_any_more(
    warehouse: sa.Engine, settings: Settings, promote: Promote
) -> None:
    promote("1", FOUND | {"model.of_an_older_release": 3})
    own = settings.model_copy(update={"model": ModelSettings(heads=3)})
    _, found = settings_in_force(warehouse, own)
    assert found == {"training.learning_rate": 0.002}


def test_without_a_champion_the_settings_are_those_given(warehouse: sa.Engine, settings: Settings) -> None:
    assert settings_in_force(warehouse, settings) == (settings, {})


def test_a_night_hands_them_to_training_and_an_update_keeps_those_of_its_parent(
    warehouse: sa.Engine,
    settings: Settings,
    promote: Promote,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    jobs: list[TrainingJob] = []

    def train(job: TrainingJob, *_: object) -> None:
        jobs.append(job)
        raise TrainingError("far enough")

    monkeypatch.setattr(launch, "run_training", train)
    promote("1", FOUND)
    context = Context(Run("nightly_training", "night"), settings, warehouse)
    with pytest.raises(TrainingError):
        learning.fine_tune(context, lineage_of(tmp_path))
    (night,) = jobs
    assert (night.tuned, night.model.dim, night.unseen_share) == (FOUND, 128, 0)
    monkeypatch.setattr(run, "read_manifest", lambda _: {"tuned_settings": FOUND})
    update = night.model_copy(update={"kind": "micro", "parent": tmp_path, "tuned": {}})
    assert run._tuned(night) == run._tuned(update) == FOUND
