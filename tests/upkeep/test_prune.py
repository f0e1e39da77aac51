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
def short_retention(settings, monkeypatch):
    """Settings that keep versions for a day; only one former champion and one ancestor are kept longer."""
    monkeypatch.setattr(prune, "ANCESTORS", 1)
    retention = {"model_versions_days": 1, "champions": 1}
    return settings.model_copy(update={"retention": settings.retention.model_copy(update=retention)})


@pytest.fixture
def versions(warehouse, settings, make_training, lineage):
    """Versions 1 to 5: three successive champions, a rejected version and a challenger."""
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


def test_versions_that_are_no_longer_needed_are_removed_with_their_files(
    warehouse, short_retention, versions
):
    before = len(ledger.history(warehouse))
    assert prune_versions(warehouse, short_retention, datetime.now(UTC)).versions == []  # all are young
    _age(short_retention, days=2)
    report = prune_versions(warehouse, short_retention, datetime.now(UTC))
    # 3 is champion, 2 is its parent and the previous champion, 5 is the challenger.
    assert (report.versions, report.models) == (["1", "4"], 2)
    assert _left(short_retention) == ["2", "3", "5"]
    assert _files(short_retention) == 3
    for number in ("2", "3", "5"):
        download_checkpoint(short_retention, number)
    for number in ("1", "4"):
        with pytest.raises(RegistryError, match=f"there is no version {number}"):
            load_version(short_retention, number)
    assert len(ledger.history(warehouse)) == before
    assert prune_versions(warehouse, short_retention, datetime.now(UTC)).models == 0


@pytest.mark.parametrize(
    ("champions", "ancestors", "left"),
    [
        (1, 0, ["2", "3", "5"]),
        (2, 0, ["1", "2", "3", "5"]),
        (1, 2, ["1", "2", "3", "5"]),  # 3 descends from 2 and 2 from 1
    ],
)
def test_ancestors_and_former_champions_are_kept_up_to_their_limits(
    warehouse, short_retention, versions, monkeypatch, champions, ancestors, left
):
    _age(short_retention, days=2)
    monkeypatch.setattr(prune, "ANCESTORS", ancestors)
    retention = short_retention.retention.model_copy(update={"champions": champions})
    asked = short_retention.model_copy(update={"retention": retention})
    prune_versions(warehouse, asked, datetime.now(UTC))
    assert _left(short_retention) == left


def test_after_a_rollback_the_restored_and_the_replaced_champion_are_kept(
    warehouse, short_retention, versions
):
    roll_back(warehouse, short_retention, reason="x", actor="ann", to="1")
    _age(short_retention, days=2)
    prune_versions(warehouse, short_retention, datetime.now(UTC))
    # 1 is champion and 3 was the previous one; 2 is neither a recent champion nor an ancestor.
    assert _left(short_retention) == ["1", "3", "5"]
    assert roll_back(warehouse, short_retention, reason="y", actor="ann", to="3").model_version == "3"


def test_the_ledger_keeps_the_decisions_about_removed_versions(warehouse, short_retention, versions):
    _age(short_retention, days=2)
    decided = {entry.model_version: entry for entry in ledger.history(warehouse)}
    assert {"1", "4"} <= set(prune_versions(warehouse, short_retention, datetime.now(UTC)).versions)
    assert {entry.model_version: entry for entry in ledger.history(warehouse)} == decided
    # A rollback to what is gone is refused before anything changes.
    with pytest.raises(RegistryError, match="there is no version 1"):
        roll_back(warehouse, short_retention, reason="x", actor="ann", to="1")
    assert ledger.champion(warehouse).model_version == "3"


def test_the_next_call_removes_files_after_a_kill_between_registry_and_files(
    warehouse, short_retention, versions, monkeypatch
):
    _age(short_retention, days=2)

    def killed(*_):
        raise KeyboardInterrupt

    for name in ("_remove_files", "remove_figures_by_user"):
        with monkeypatch.context() as patch:
            patch.setattr(prune, name, killed)
            with pytest.raises(KeyboardInterrupt):
                prune_versions(warehouse, short_retention, datetime.now(UTC))
    assert prune_versions(warehouse, short_retention, datetime.now(UTC)).models == 2
    assert (_left(short_retention), _files(short_retention)) == (["2", "3", "5"], 3)


def test_before_the_first_model_there_is_nothing_to_prune(warehouse, short_retention):
    assert prune_versions(warehouse, short_retention, datetime.now(UTC)) == PruneReport([], 0)


def test_the_challenger_of_a_running_experiment_is_kept(warehouse, short_retention, versions):
    with warehouse.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO experiments (name, challenger, champion, challenger_share, success, guardrails,"
            " days, started_by) VALUES ('first', '4', '3', 0.5, '{slates}', '{}', 28, 'me')"
        )
    _age(short_retention, days=2)
    prune_versions(warehouse, short_retention, datetime.now(UTC))
    assert "4" in _left(short_retention)
