"""Rollbacks restore version, recommendations and vectors together, even if newer versions are broken."""

import shutil
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from recsys.commands import models
from recsys.commands.main import app
from recsys.errors import ErasedUsersError, RegistryError
from recsys.promotion import ledger
from recsys.promotion.decision import Decision
from recsys.promotion.promote import carry_out, promote
from recsys.promotion.roll_back import roll_back
from recsys.publishing.publish import publish
from recsys.registry.connection import mlflow_client
from recsys.registry.registration import register_version
from recsys.registry.tracking import track_training
from recsys.registry.versions import download_checkpoint, folder_digest, load_version
from recsys.upkeep.erasure import erase_requested, request_erasure
from recsys.warehouse.tables import (
    erasure_requests,
    feedback,
    item_vectors,
    items,
    model_versions,
    recommendation_lists,
    user_vectors,
    users,
)
from tests.registry_fixtures import ITEMS

pytestmark = pytest.mark.usefixtures("mlflow_database")

USERS = ["ann", "bob", "eve"]


def _register(settings, make_training, lineage, number):
    run_key = f"nightly:{number}"
    training = make_training(run_key, bias=float(number))
    run_id = track_training(settings, run_key, training, lineage)
    register_version(settings, run_id=run_id, run_key=run_key, training=training, lineage=lineage)


def _make_champion(warehouse, settings, version, before):
    promote(warehouse, settings, version, before, reason="better", explanation="Yes.", actor="nightly")
    publish(warehouse, settings, run_key=f"publication of {version}")


def _break(settings, version):
    """Remove a version's files from the artifact store and from the local cache."""
    digest = load_version(settings, version).checkpoint_digest
    stored = (settings.home.resolve() / "mlflow" / "artifacts").rglob("checkpoint")
    (broken,) = [path for path in stored if folder_digest(path) == digest]
    shutil.rmtree(broken)
    shutil.rmtree(settings.runs / "checkpoints", ignore_errors=True)


@pytest.fixture
def shop(warehouse, settings, make_training, lineage):
    """A shop with feedback and versions "1" to "3", of which "1" is champion and published."""
    start = datetime(2026, 3, 1, tzinfo=UTC)
    with warehouse.begin() as connection:
        connection.execute(items.insert(), [{"item_id": item, "title": item.title()} for item in ITEMS])
        connection.execute(users.insert(), [{"user_id": user, "user_key": user} for user in USERS])
        connection.execute(
            feedback.insert(),
            [
                {
                    "user_id": user,
                    "item_id": ITEMS[number],
                    "event_type": "like",
                    "occurred_at": start + timedelta(minutes=number),
                }
                for number, user in enumerate(USERS)
            ],
        )
    for number in "123":
        _register(settings, make_training, lineage, number)
    _make_champion(warehouse, settings, "1", None)
    return settings


@pytest.fixture
def seen(warehouse):
    """Read the versions, lists and vectors that users see, without the marks of each publication."""
    marks = ("publication_id", "published_at", "through_transaction_id")

    def look():
        with warehouse.connect() as connection:
            return {
                table.name: [
                    dict(row)
                    for row in connection.execute(
                        sa.select(*(c for c in table.c if c.name not in marks)).order_by(*table.primary_key)
                    ).mappings()
                ]
                for table in (recommendation_lists, user_vectors, item_vectors)
            }

    return look


@pytest.fixture
def recsys(monkeypatch, shop):
    monkeypatch.setattr(models, "load_settings", lambda: shop)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_a_rollback_restores_version_lists_and_vectors_even_if_newer_versions_are_broken(
    warehouse, shop, seen, recsys
):
    before = seen()
    _make_champion(warehouse, shop, "2", "1")
    assert seen()["item_vectors"] != before["item_vectors"]
    for broken in ("2", "3"):
        _break(shop, broken)
        with pytest.raises(RegistryError):
            download_checkpoint(shop, broken)

    result = recsys("rollback", "--reason", "Version 2 is broken.", "--actor", "ann")

    assert result.exit_code == 0, result.exception
    assert f"recommendations for {len(USERS)} users and vectors of {len(ITEMS)} items" in result.output
    assert seen() == before
    assert ledger.champion(warehouse).model_version == "1"
    aliases = mlflow_client(shop).get_registered_model(shop.registered_model).aliases
    assert str(aliases["champion"]) == "1"


def test_a_rollback_without_publication_changes_nothing_that_users_see(warehouse, shop, seen, recsys):
    _make_champion(warehouse, shop, "2", "1")
    before = seen()
    result = recsys("rollback", "--reason", "x", "--no-publish")
    assert "after publish_recommendations has run" in result.output
    assert (ledger.champion(warehouse).model_version, seen()) == ("1", before)


def test_a_rollback_to_a_version_with_broken_files_is_refused(warehouse, shop, seen, recsys):
    _make_champion(warehouse, shop, "2", "1")
    before = seen()
    _break(shop, "1")
    result = recsys("rollback", "--reason", "x")
    assert isinstance(result.exception, RegistryError)
    assert "version 1" in str(result.exception)
    assert (ledger.champion(warehouse).model_version, seen()) == ("2", before)


def test_a_version_promoted_by_a_person_reaches_users(warehouse, shop, recsys, seen):
    result = recsys("promote", "3", "--reason", "It reads better.", "--actor", "ann")
    assert result.exit_code == 0, result.exception
    entry = ledger.history(warehouse)[0]
    assert (entry.action, entry.reason, entry.actor) == ("promote", "promoted_by_person", "ann")
    assert entry.explanation == "It reads better."
    assert {row["model_version"] for table in seen().values() for row in table} == {"3"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("promote", "3", "--reason", " "), "needs a reason"),
        (("promote", "9", "--reason", "x"), "there is no version 9"),
        (("promote", "three", "--reason", "x"), "there is no version three"),
        (("promote", "1", "--reason", "x"), "version 1 is already the champion"),
        (("rollback", "--reason", " "), "needs a reason"),
        (("rollback", "--reason", "x", "--to", "3"), "has never been champion"),
        (("rollback", "--reason", "x"), "is the first champion"),
        (("compare", "1", "9"), "there is no version 9"),
    ],
)
def test_an_impossible_change_is_refused_with_the_reason(warehouse, recsys, words, message):
    result = recsys(*words)
    assert isinstance(result.exception, RegistryError)
    assert message in str(result.exception)
    assert len(ledger.history(warehouse)) == 1


@pytest.fixture
def forget(warehouse):
    """Erase users whom versions know."""

    def erase(user, *versions):
        request_erasure(warehouse, user)
        with warehouse.begin() as connection:
            asked = connection.scalar(sa.select(sa.func.max(erasure_requests.c.transaction_id)))
            connection.execute(model_versions.delete())
            connection.execute(
                model_versions.insert(),
                [
                    {
                        "model_version": version,
                        "kind": "full",
                        "base_transaction_id": asked if version in versions else asked + 1,
                        "trained_transaction_id": asked if version in versions else asked + 1,
                    }
                    for version in "123"
                ],
            )
        erase_requested(warehouse, "nowhere")
        return datetime.now(UTC) + timedelta(days=15)

    return erase


def test_a_rollback_skips_versions_that_know_erased_users_and_says_which(warehouse, shop, seen, forget):
    for version, before in (("2", "1"), ("3", "2")):
        promote(warehouse, shop, version, before, reason="better", explanation="Yes.", actor="nightly")
    later = forget("ann", "2")
    entry = roll_back(warehouse, shop, reason="Complaints.", actor="ben", now=later)
    assert (entry.model_version, entry.action) == ("1", "roll_back")
    assert entry.explanation.startswith("Complaints. Skipped 2: trained on users who asked to be erased")


def test_a_version_that_knows_erased_users_may_be_restored_until_its_time_is_over(warehouse, shop, forget):
    promote(warehouse, shop, "2", "1", reason="better", explanation="Yes.", actor="nightly")
    later = forget("ann", "1")
    for to in ("1", None):
        with pytest.raises(ErasedUsersError, match="asked to be erased"):
            roll_back(warehouse, shop, reason="x", actor="ben", to=to, now=later)
        refused = ledger.history(warehouse)[0]
        assert (refused.action, refused.reason) == ("reject", "trained_on_erased_users")
        assert (refused.actor, refused.explanation[-1]) == ("ben", "x")
    assert ledger.champion(warehouse).model_version == "2"
    assert roll_back(warehouse, shop, reason="x", actor="ben").model_version == "1"


def test_a_retry_of_a_refused_rollback_is_refused_too(warehouse, shop, forget):
    promote(warehouse, shop, "2", "1", reason="better", explanation="Yes.", actor="nightly")
    later = forget("ann", "1")
    for _ in range(2):
        with pytest.raises(ErasedUsersError, match="Skipped 1"):
            roll_back(warehouse, shop, reason="x", actor="ben", run_key="roll_back/1", now=later)
    assert [entry.action for entry in ledger.history(warehouse)] == ["reject", "promote", "promote"]


def test_neither_a_person_nor_a_run_promotes_a_version_after_its_time(warehouse, shop, recsys, forget):
    later = forget("ann", "3")
    with pytest.raises(ErasedUsersError):
        promote(warehouse, shop, "3", "1", reason="r", explanation="e", actor="ben", now=later)
    decision = Decision("promote", "better", "Better.", (), "1")
    for _ in range(2):  # and a retry
        entry = carry_out(warehouse, shop, decision, "3", actor="night", run_key="night/3", now=later)
        assert (entry.action, entry.reason) == ("reject", "trained_on_erased_users")
    assert [(entry.actor, entry.action) for entry in ledger.history(warehouse)] == [
        ("night", "reject"),
        ("ben", "reject"),
        ("nightly", "promote"),
    ]
    tags = load_version(shop, "3").tags
    assert tags["recsys.decision_reason"] == "trained_on_erased_users"
    assert ledger.champion(warehouse).model_version == "1"


def test_a_promotion_from_before_the_end_of_the_time_is_completed_by_its_retry(
    warehouse, shop, forget, monkeypatch
):
    later = forget("ann", "3")
    decision = Decision("promote", "better", "Better.", (), "1")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("recsys.promotion.promote.follow_ledger", killed)
        with pytest.raises(KeyboardInterrupt):
            carry_out(warehouse, shop, decision, "3", actor="night", run_key="night/3")
    entry = carry_out(warehouse, shop, decision, "3", actor="night", run_key="night/3", now=later)
    assert entry.action == "promote"
    assert str(mlflow_client(shop).get_registered_model(shop.registered_model).aliases["champion"]) == "3"
