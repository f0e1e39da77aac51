from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from recsys.errors import RegistryError
from recsys.promotion import ledger
from recsys.promotion.promote import promote
from recsys.promotion.roll_back import roll_back
from recsys.registry.connection import mlflow_client
from recsys.registry.registration import register_version
from recsys.registry.tracking import track_training
from recsys.registry.versions import download_checkpoint, load_version
from recsys.upkeep import prune
from recsys.upkeep.prune import PruneReport, prune_versions

pytestmark = pytest.mark.usefixtures("mlflow_database")

PARENTS = {"1": None, "2": "1", "3": "2", "4": "2", "5": "3"}


@pytest.fixture
def keen(settings):
    """Keeps one former champion and one ancestor beyond a day."""
    retention = {"model_versions_days": 1, "champions": 1, "ancestors": 1}
    return settings.model_copy(update={"retention": settings.retention.model_copy(update=retention)})


@pytest.fixture
def versions(warehouse, settings, make_training, lineage):
    """Versions "1" to "5": three champions one after the other, a rejected one, a challenger."""
    for number, parent in PARENTS.items():
        run_key = f"run:{number}"
        training = make_training(run_key, bias=float(number))
        source = lineage.model_copy(update={"parent": parent})
        run_id = track_training(settings, run_key, training, source)
        register_version(settings, run_id=run_id, run_key=run_key, training=training, lineage=source)
    for number, before in (("1", None), ("2", "1"), ("3", "2")):
        promote(warehouse, settings, number, before, reason="better", explanation="Yes.", actor="nightly")
    ledger.record_decision(
        warehouse, action="reject", version="4", reason="worse", explanation="No.", actor="nightly"
    )


def _age(settings, days):
    moment = int((datetime.now(UTC) - timedelta(days=days)).timestamp() * 1000)
    engine = sa.create_engine(settings.mlflow_tracking_uri)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE model_versions SET creation_time = :t"), {"t": moment})
        connection.execute(sa.text("UPDATE logged_models SET creation_timestamp_ms = :t"), {"t": moment})
    engine.dispose()


def _left(settings):
    found = mlflow_client(settings).search_model_versions(f"name = '{settings.registered_model}'")
    return sorted(str(version.version) for version in found)


def _files(settings):
    return len(list((settings.home.resolve() / "mlflow" / "artifacts").rglob("checkpoint/manifest.json")))


def test_only_what_nobody_can_need_is_removed_with_its_files(warehouse, keen, versions):
    before = len(ledger.history(warehouse))
    assert prune_versions(warehouse, keen).versions == []  # all are young
    _age(keen, days=2)
    report = prune_versions(warehouse, keen)
    # 3 is champion, 2 its parent and the champion before it, 5 the challenger.
    assert (report.versions, report.models) == (["1", "4"], 2)
    assert _left(keen) == ["2", "3", "5"]
    assert _files(keen) == 3
    for number in ("2", "3", "5"):
        download_checkpoint(keen, number)
    for number in ("1", "4"):
        with pytest.raises(RegistryError, match=f"there is no version {number}"):
            load_version(keen, number)
    assert len(ledger.history(warehouse)) == before
    assert prune_versions(warehouse, keen).models == 0


@pytest.mark.parametrize(
    ("retention", "left"),
    [
        ({"champions": 1, "ancestors": 0}, ["2", "3", "5"]),
        ({"champions": 2, "ancestors": 0}, ["1", "2", "3", "5"]),
        ({"champions": 1, "ancestors": 2}, ["1", "2", "3", "5"]),  # 3 descends from 2 and 2 from 1
    ],
)
def test_ancestors_and_former_champions_stay_as_far_back_as_the_settings_say(
    warehouse, keen, versions, retention, left
):
    _age(keen, days=2)
    asked = keen.model_copy(update={"retention": keen.retention.model_copy(update=retention)})
    prune_versions(warehouse, asked)
    assert _left(keen) == left


def test_after_a_rollback_the_old_champion_stays_and_so_does_what_it_came_back_from(
    warehouse, keen, versions
):
    roll_back(warehouse, keen, reason="x", actor="ann", to="1")
    _age(keen, days=2)
    prune_versions(warehouse, keen)
    # 1 is champion and 3 was before it; 2, a champion further back, is nobody's ancestor any more.
    assert _left(keen) == ["1", "3", "5"]
    assert roll_back(warehouse, keen, reason="y", actor="ann", to="3").model_version == "3"


def test_what_the_ledger_tells_of_a_version_outlives_it(warehouse, keen, versions):
    _age(keen, days=2)
    decided = {entry.model_version: entry for entry in ledger.history(warehouse)}
    assert {"1", "4"} <= set(prune_versions(warehouse, keen).versions)
    assert {entry.model_version: entry for entry in ledger.history(warehouse)} == decided
    # A rollback to what is gone is refused before anything changes.
    with pytest.raises(RegistryError, match="there is no version 1"):
        roll_back(warehouse, keen, reason="x", actor="ann", to="1")
    assert ledger.champion(warehouse).model_version == "3"


def test_killed_between_registry_and_files_another_call_removes_the_files(
    warehouse, keen, versions, monkeypatch
):
    _age(keen, days=2)

    def killed(*_):
        raise KeyboardInterrupt

    for name in ("_remove_files", "remove_figures_by_user"):
        with monkeypatch.context() as patch:
            patch.setattr(prune, name, killed)
            with pytest.raises(KeyboardInterrupt):
                prune_versions(warehouse, keen)
    assert prune_versions(warehouse, keen).models == 2
    assert (_left(keen), _files(keen)) == (["2", "3", "5"], 3)


def test_before_the_first_model_there_is_nothing_to_prune(warehouse, keen):
    assert prune_versions(warehouse, keen) == PruneReport([], 0)
