"""Which versions know a user who was erased: by when the user came, asked, and what each was trained on."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from recsys.promotion.serving_term import serving_terms
from recsys.registry.connection import mlflow_client
from recsys.settings import Settings
from recsys.upkeep.erasure import erase_requested, request_erasure
from recsys.warehouse.tables import erasure_requests, feedback, model_versions, users
from recsys.warehouse.windows import open_window

pytestmark = pytest.mark.usefixtures("mlflow_database")


class Shop:
    """Users who give feedback and leave, and versions that are trained on what has arrived."""

    def __init__(self, engine: sa.Engine, settings: Settings) -> None:
        self.engine, self.settings = engine, settings

    def buys(self, user: str) -> None:
        with self.engine.begin() as connection:
            if not connection.scalar(sa.select(users.c.user_id).where(users.c.user_id == user)):
                connection.execute(users.insert().values(user_id=user))
            values = {"user_id": user, "item_id": "tea", "event_type": "purchase"}
            connection.execute(feedback.insert().values(values | {"occurred_at": datetime.now(UTC)}))

    def trains(self, version: str, parent: str | None = None) -> None:
        through = open_window(self.engine, "shop", version).upper_transaction_id
        of_parent = sa.select(model_versions.c.base_transaction_id).where(
            model_versions.c.model_version == parent
        )
        with self.engine.begin() as connection:
            base = through if parent is None else connection.scalar(of_parent)
            kind = "full" if parent is None else "micro"
            connection.execute(
                model_versions.insert().values(
                    model_version=version, kind=kind, parent=parent, run_key=version,
                    base_transaction_id=base, trained_transaction_id=through,
                )
            )  # fmt: skip

    def forgets(self, *people: str) -> None:
        for person in people:
            request_erasure(self.engine, person)
        erase_requested(self.engine, self.settings.snapshots)

    def knowing(self) -> set[str]:
        with self.engine.connect() as connection:
            versions = connection.scalars(sa.select(model_versions.c.model_version)).all()
        return set(serving_terms(self.engine, self.settings, versions))


@pytest.fixture
def shop(warehouse: sa.Engine, settings: Settings) -> Shop:
    return Shop(warehouse, settings)


def test_versions_trained_between_the_first_event_and_the_request_know_the_user(shop: Shop) -> None:
    shop.buys("ben")
    shop.trains("1")
    shop.buys("anna")
    shop.trains("2")
    shop.buys("ben")
    shop.trains("3")
    assert shop.knowing() == set()
    request_erasure(shop.engine, "anna")
    shop.trains("4")  # leaves out who has asked, before the rows are erased
    shop.forgets("anna")
    shop.trains("5")
    assert shop.knowing() == {"2", "3"}


def test_a_micro_update_knows_whom_its_parents_know_even_if_it_came_after_the_erasure(shop: Shop) -> None:
    shop.buys("anna")
    shop.trains("1")
    shop.trains("2", parent="1")
    shop.forgets("anna")
    shop.trains("3", parent="2")
    shop.trains("4")
    shop.trains("5", parent="4")
    assert shop.knowing() == {"1", "2", "3"}


def test_the_term_counts_from_the_first_request_and_a_second_erasure_changes_nothing(shop: Shop) -> None:
    shop.buys("anna")
    shop.buys("ben")
    shop.trains("1")
    shop.forgets("anna")
    first = serving_terms(shop.engine, shop.settings, ["1"])["1"]
    assert first.until - first.requested_at == timedelta(days=14)
    shop.forgets("anna", "ben")
    assert serving_terms(shop.engine, shop.settings, ["1"])["1"] == first


def test_somebody_who_gave_no_feedback_is_in_no_version(shop: Shop) -> None:
    shop.buys("ben")
    shop.trains("1")
    shop.forgets("nobody")
    assert shop.knowing() == set()


def test_an_application_that_inserts_a_request_starts_the_term_too(shop: Shop) -> None:
    shop.buys("anna")
    shop.trains("1")
    with shop.engine.begin() as connection:
        connection.execute(erasure_requests.insert().values(user_id="anna"))
    erase_requested(shop.engine, shop.settings.snapshots)
    assert shop.knowing() == {"1"}


def test_a_killed_erasure_that_is_run_again_forgets_no_version(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.buys("anna")
    shop.trains("1")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("recsys.snapshot.erasure.unfinished_folders", killed)
        with pytest.raises(KeyboardInterrupt):
            shop.forgets("anna")
    assert shop.knowing() == {"1"}  # from the moment when the rows are gone
    assert len(erase_requested(shop.engine, shop.settings.snapshots)) == 1
    assert shop.knowing() == {"1"}


def test_where_months_were_dropped_every_version_may_know_the_user(shop: Shop) -> None:
    shop.buys("anna")
    shop.trains("1")
    with shop.engine.begin() as connection:
        # Her rows are gone with a month, so nothing tells when she came.
        connection.execute(feedback.delete())
        connection.exec_driver_sql(
            "INSERT INTO dropped_feedback SELECT window_id, '2026-01-01', 1 FROM windows"
        )
    shop.forgets("anna", "nobody")
    assert shop.knowing() == {"1"}


def test_a_version_that_does_not_say_what_it_was_trained_on_is_taken_to_know_everybody(shop: Shop) -> None:
    client = mlflow_client(shop.settings)
    client.create_registered_model(shop.settings.registered_model)
    for trained in (None, "0"):
        tags = {"recsys.checkpoint_digest": "d"}
        if trained is not None:
            through = f'{{"transaction_id": {trained}, "occurred_before": "2026-01-01T00:00:00+00:00"}}'
            tags["recsys.trained_through"] = through
        client.create_model_version(shop.settings.registered_model, "file:///nowhere", tags=tags)
    shop.buys("anna")
    shop.forgets("anna")
    assert set(serving_terms(shop.engine, shop.settings, ["1", "2", "3"])) == {"1"}
    assert shop.knowing() == {"1"}  # recorded now
