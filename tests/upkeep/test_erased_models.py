"""Files of versions that know erased users are removed once they may not be served, except the champion's."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.errors import RegistryError
from recsys.promotion.promote import promote
from recsys.registry.connection import mlflow_client
from recsys.registry.knowledge import record_knowledge
from recsys.registry.registration import register_version
from recsys.registry.tracking import track_training
from recsys.registry.versions import download_checkpoint, load_version
from recsys.settings import Settings
from recsys.training.job import run_folder
from recsys.upkeep import erased_models
from recsys.upkeep.erased_models import remove_erased_models, watch_champion
from recsys.upkeep.erasure import erase_requested, request_erasure
from recsys.warehouse.tables import feedback, model_versions, users

pytestmark = pytest.mark.usefixtures("mlflow_database")


@pytest.fixture
def versions(warehouse: sa.Engine, settings: Settings, make_training: Any, lineage: Any) -> Settings:
    """Versions 1 to 3 that know anna and are downloaded, of which 2 is champion; anna is erased."""
    for number in "123":
        run_key = f"run:{number}"
        training = make_training(run_key, bias=float(number))
        run_id = track_training(settings, run_key, training, lineage)
        registered = register_version(
            settings, run_id=run_id, run_key=run_key, training=training, lineage=lineage
        )
        record_knowledge(warehouse, settings, registered)
        download_checkpoint(settings, number)
        (run_folder(settings.runs, "full", run_key) / "checkpoint").mkdir(parents=True)
    promote(warehouse, settings, "1", None, reason="r", explanation="e", actor="a")
    promote(warehouse, settings, "2", "1", reason="r", explanation="e", actor="a")
    with warehouse.begin() as connection:
        connection.execute(users.insert().values(user_id="anna"))
        values = {"user_id": "anna", "item_id": "i", "event_type": "like", "transaction_id": 5}
        connection.execute(feedback.insert().values(values))
    request_erasure(warehouse, "anna")
    erase_requested(warehouse, settings.snapshots)
    return settings


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def left(settings: Settings) -> tuple[list[str], int, int, int]:
    """Return what is left: versions, stored checkpoints, downloaded checkpoints, folders of runs."""
    found = mlflow_client(settings).search_model_versions(f"name = '{settings.registered_model}'")
    artifacts = settings.home.resolve() / "mlflow" / "artifacts"
    return (
        sorted(str(version.version) for version in found),
        len(list(artifacts.rglob("checkpoint/manifest.json"))),
        len(list((settings.runs / "checkpoints").glob("*"))),
        len(list((settings.runs / "full").glob("*"))),
    )


def test_all_files_of_a_version_go_when_its_time_is_over_but_never_the_champions(
    warehouse: sa.Engine, versions: Settings
) -> None:
    assert remove_erased_models(warehouse, versions, in_days(13.9)) == []
    assert left(versions) == (["1", "2", "3"], 3, 3, 3)
    # 3 is `challenger`, and all three are younger than the retention of versions.
    assert remove_erased_models(warehouse, versions, in_days(14.1)) == ["1", "3"]
    assert left(versions) == (["2"], 1, 1, 1)
    assert download_checkpoint(versions, "2")
    with pytest.raises(RegistryError, match="there is no version 1"):
        load_version(versions, "1")
    assert remove_erased_models(warehouse, versions, in_days(14.1)) == []


@pytest.mark.parametrize("killed_in", ["remove_figures_by_user", "get_artifact_repository", "shutil.rmtree"])
def test_the_next_call_completes_a_removal_that_was_killed(
    warehouse: sa.Engine, versions: Settings, monkeypatch: pytest.MonkeyPatch, killed_in: str
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"recsys.upkeep.erased_models.{killed_in}", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_erased_models(warehouse, versions, in_days(15))
    remove_erased_models(warehouse, versions, in_days(15))
    assert left(versions) == (["2"], 1, 1, 1)


def test_a_champion_goes_once_another_one_has_replaced_it(warehouse: sa.Engine, versions: Settings) -> None:
    with warehouse.begin() as connection:
        # Version 3 was trained after anna had asked.
        beyond = {"base_transaction_id": 1 << 60, "trained_transaction_id": 1 << 60}
        connection.execute(
            model_versions.update().where(model_versions.c.model_version == "3").values(beyond)
        )
    promote(warehouse, versions, "3", "2", reason="r", explanation="e", actor="a", now=in_days(15))
    assert remove_erased_models(warehouse, versions, in_days(15)) == ["1", "2"]
    assert left(versions)[0] == ["3"]


@pytest.fixture
def alerts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    sent: list[str] = []
    monkeypatch.setattr(erased_models, "send_alert", lambda _, text: sent.append(text))
    return sent


@pytest.mark.parametrize(
    ("days", "advice"),
    [(10, None), (11.1, "See that nightly_training runs"), (14.1, "trigger nightly_training")],
)
def test_an_alert_says_what_to_do_when_the_champions_time_ends(
    warehouse: sa.Engine, versions: Settings, alerts: list[str], days: float, advice: str | None
) -> None:
    assert watch_champion(warehouse, versions, in_days(days)) is (advice is not None)
    assert [advice in text and "version 2 has been trained on" in text for text in alerts if advice] == (
        [] if advice is None else [True]
    )


def test_before_the_first_champion_there_is_nothing_to_watch_or_to_remove(
    warehouse: sa.Engine, settings: Settings, alerts: list[str]
) -> None:
    assert remove_erased_models(warehouse, settings, in_days(99)) == []
    assert not watch_champion(warehouse, settings, in_days(99))
    assert alerts == []
