import shutil
import threading

import pytest

from recsys.errors import PromotionConflictError, RegistryError, ServiceUnavailableError
from recsys.promotion import ledger, promote
from recsys.promotion import roll_back as rollback
from recsys.promotion.decision import Check, Decision
from recsys.promotion.promote import carry_out, reconcile_alias
from recsys.promotion.roll_back import roll_back
from recsys.publishing.servable import load_servable
from recsys.registry.connection import mlflow_client
from recsys.registry.registration import register_version
from recsys.registry.tracking import track_training
from recsys.registry.versions import download_checkpoint, folder_digest, load_version

pytestmark = pytest.mark.usefixtures("mlflow_database")


@pytest.fixture
def versions(settings, tmp_path, monkeypatch):
    """Register three versions, "1" to "3", without files: only a rollback reads them."""
    monkeypatch.setattr(rollback, "download_checkpoint", lambda *_: None)
    client = mlflow_client(settings)
    client.create_registered_model(settings.registered_model)
    for number in range(3):
        tags = {"recsys.checkpoint_digest": str(number)}
        client.create_model_version(settings.registered_model, f"file://{tmp_path}/{number}", tags=tags)
    client.set_registered_model_alias(settings.registered_model, "challenger", "3")


@pytest.fixture
def alias(settings):
    def named(name="champion"):
        aliases = mlflow_client(settings).get_registered_model(settings.registered_model).aliases
        return str(aliases[name]) if name in aliases else None

    return named


def _promote(engine, settings, version, expected, run_key=None):
    return promote.promote(
        engine,
        settings,
        version,
        expected,
        reason="better_than_champion",
        explanation="It is better.",
        actor="tester",
        run_key=run_key,
    )


def _decision(action="promote", expected=None):
    check = Check("enough_users", "pass", 50, None, None, 30, "50 users.")
    return Decision(action, "some_reason", "One sentence.", (check,), expected)


def test_promotions_move_the_alias_and_rollbacks_move_it_back(warehouse, settings, versions, alias):
    _promote(warehouse, settings, "1", None)
    _promote(warehouse, settings, "2", "1")
    _promote(warehouse, settings, "3", "2")
    assert alias() == "3"
    assert alias("challenger") is None  # it is champion now
    assert roll_back(warehouse, settings, reason="Complaints.", actor="ann").model_version == "2"
    assert alias() == "2"
    assert roll_back(warehouse, settings, reason="Still.", actor="ann").model_version == "1"
    assert alias() == "1"
    newest = ledger.history(warehouse)[0]
    assert (newest.action, newest.explanation, newest.actor) == ("roll_back", "Still.", "ann")
    assert roll_back(warehouse, settings, reason="Fine now.", actor="ann", to="3").model_version == "3"
    assert alias() == "3"


def test_a_crash_between_ledger_and_alias_is_repaired(warehouse, settings, versions, alias, monkeypatch):
    _promote(warehouse, settings, "1", None, "first")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(promote, "follow_ledger", killed)
        with pytest.raises(KeyboardInterrupt):
            _promote(warehouse, settings, "2", "1", "second")
    assert (ledger.champion(warehouse).model_version, alias()) == ("2", "1")
    assert reconcile_alias(warehouse, settings) == "2"
    assert alias() == "2"
    retried = _promote(warehouse, settings, "2", "1", "second")
    assert retried.champion_sequence == 2
    assert len(ledger.history(warehouse)) == 2


def test_a_late_retry_does_not_bring_an_old_champion_back(warehouse, settings, versions, alias):
    _promote(warehouse, settings, "1", None, "first")
    _promote(warehouse, settings, "2", "1", "second")
    _promote(warehouse, settings, "1", None, "first")
    assert (ledger.champion(warehouse).model_version, alias()) == ("2", "2")


def test_a_lost_race_changes_nothing(warehouse, settings, versions, alias):
    _promote(warehouse, settings, "1", None)
    _promote(warehouse, settings, "2", "1")
    with pytest.raises(PromotionConflictError):
        carry_out(warehouse, settings, _decision(expected="1"), "3", actor="nightly", run_key="nightly:3")
    assert (ledger.champion(warehouse).model_version, alias()) == ("2", "2")


def test_an_unknown_version_is_not_promoted(warehouse, settings, versions):
    with pytest.raises(RegistryError, match="there is no version 9"):
        _promote(warehouse, settings, "9", None)
    assert ledger.champion(warehouse) is None


def test_mlflow_away_at_promotion_changes_nothing(warehouse, settings):
    away = settings.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:9"})
    with pytest.raises(ServiceUnavailableError):
        _promote(warehouse, away, "1", None)
    assert ledger.champion(warehouse) is None


def test_mlflow_away_between_registration_and_promotion_changes_nothing_and_the_retry_promotes(
    warehouse, settings, versions, alias
):
    _promote(warehouse, settings, "1", None)
    away = settings.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:9"})
    decision = _decision(expected="1")
    with pytest.raises(ServiceUnavailableError, match="no MLflow answers at") as stopped:
        carry_out(warehouse, away, decision, "2", actor="nightly", run_key="nightly:2")
    assert stopped.value.retryable
    assert (ledger.champion(warehouse).model_version, alias()) == ("1", "1")
    assert [entry.model_version for entry in ledger.history(warehouse)] == ["1"]

    carry_out(warehouse, settings, decision, "2", actor="nightly", run_key="nightly:2")
    assert (ledger.champion(warehouse).model_version, alias()) == ("2", "2")


def test_of_two_gates_at_once_one_promotes_and_the_other_gets_a_conflict(
    warehouse, settings, versions, alias
):
    _promote(warehouse, settings, "1", None)
    barrier = threading.Barrier(2)
    outcomes = {}

    def gate(version):
        barrier.wait()
        try:
            carry_out(
                warehouse, settings, _decision(expected="1"), version, actor="gate", run_key=f"run {version}"
            )
            outcomes[version] = "won"
        except PromotionConflictError:
            outcomes[version] = "lost"

    threads = [threading.Thread(target=gate, args=(version,)) for version in ("2", "3")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes.values()) == ["lost", "won"]
    champion = ledger.champion(warehouse).model_version
    assert outcomes[champion] == "won"
    assert alias() == champion


def test_a_retry_moves_the_alias_when_mlflow_was_away_after_the_ledger(
    warehouse, settings, versions, alias, monkeypatch
):
    _promote(warehouse, settings, "1", None)

    def away(*_):
        raise ServiceUnavailableError("MLflow is away")

    decision = _decision(expected="1")
    with monkeypatch.context() as patch:
        patch.setattr(promote, "follow_ledger", away)
        with pytest.raises(ServiceUnavailableError):
            carry_out(warehouse, settings, decision, "2", actor="nightly", run_key="nightly:2")
    assert (ledger.champion(warehouse).model_version, alias()) == ("2", "1")
    carry_out(warehouse, settings, decision, "2", actor="nightly", run_key="nightly:2")
    assert (ledger.champion(warehouse).model_version, alias()) == ("2", "2")
    assert len(ledger.history(warehouse)) == 2


def test_a_question_to_a_person_is_not_carried_out(warehouse, settings, versions, alias):
    with pytest.raises(RegistryError, match="waits for approval"):
        carry_out(warehouse, settings, _decision("ask"), "2", actor="nightly", run_key="nightly:2")
    assert ledger.history(warehouse) == []


def test_a_champion_whose_files_are_broken_can_be_rolled_back(
    warehouse, settings, make_training, lineage, alias
):
    for number, before in (("1", None), ("2", "1")):
        run_key = f"nightly:{number}"
        training = make_training(run_key, bias=float(number))
        run_id = track_training(settings, run_key, training, lineage)
        register_version(settings, run_id=run_id, run_key=run_key, training=training, lineage=lineage)
        _promote(warehouse, settings, number, before)
    (newest,) = [
        path
        for path in (settings.home.resolve() / "mlflow" / "artifacts").rglob("checkpoint")
        if folder_digest(path) == load_version(settings, "2").checkpoint_digest
    ]
    shutil.rmtree(newest)
    with pytest.raises(RegistryError):
        download_checkpoint(settings, "2")
    roll_back(warehouse, settings, reason="Version 2 is broken.", actor="ann")
    assert alias() == "1"
    assert load_servable(settings, "1").kind == "full"


def test_a_decision_is_recorded_once_on_the_version_and_in_the_ledger(warehouse, settings, versions, alias):
    held = _decision("hold")
    first = carry_out(warehouse, settings, held, "1", actor="nightly", run_key="nightly:1")
    again = carry_out(warehouse, settings, held, "1", actor="nightly", run_key="nightly:1")
    assert first == again
    carry_out(warehouse, settings, _decision(), "2", actor="nightly", run_key="nightly:2")
    client = mlflow_client(settings)
    tags = {number: client.get_model_version(settings.registered_model, number).tags for number in "12"}
    assert tags["1"]["recsys.decision"] == "hold"
    assert tags["2"]["recsys.decision"] == "promote"
    described = client.get_model_version(settings.registered_model, "2").description
    assert described == "promoted: One sentence."
    assert ledger.history(warehouse)[0].checks[0]["observed"] == 50
    assert ledger.history(warehouse)[1].explanation == "held: One sentence."
    assert (len(ledger.history(warehouse)), alias()) == (2, "2")


def test_an_alias_without_a_promotion_is_removed(warehouse, settings, versions, alias):
    mlflow_client(settings).set_registered_model_alias(settings.registered_model, "champion", "3")
    assert reconcile_alias(warehouse, settings) is None
    assert alias() is None


def test_reconciling_before_the_first_model_is_no_error(warehouse, settings):
    assert reconcile_alias(warehouse, settings) is None


def test_impossible_rollbacks_are_refused_with_the_reason(warehouse, settings, versions, alias):
    with pytest.raises(RegistryError, match="no champion to roll back"):
        roll_back(warehouse, settings, reason="x", actor="ann")
    _promote(warehouse, settings, "1", None)
    with pytest.raises(RegistryError, match="is the first champion"):
        roll_back(warehouse, settings, reason="x", actor="ann")
    with pytest.raises(RegistryError, match="has never been champion"):
        roll_back(warehouse, settings, reason="x", actor="ann", to="2")
    with pytest.raises(RegistryError, match="is already champion"):
        roll_back(warehouse, settings, reason="x", actor="ann", to="1")
    with pytest.raises(RegistryError, match="needs a reason"):
        roll_back(warehouse, settings, reason=" ", actor="ann")
    assert alias() == "1"


def test_a_retried_rollback_goes_back_once(warehouse, settings, versions, alias):
    for version, before in (("1", None), ("2", "1"), ("3", "2")):
        _promote(warehouse, settings, version, before)
    for _ in range(2):
        entry = roll_back(warehouse, settings, reason="x", actor="ann", run_key="roll_back:1")
        assert entry.model_version == "2"
    assert alias() == "2"
