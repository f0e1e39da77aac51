"""A warehouse with the reading functions, and helpers to fill and ask it."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from recsys.local.postgres import PostgresServer
from recsys.serving.http.application import create_application
from recsys.serving.install import install_serving
from recsys.warehouse.engine import create_engine
from recsys.warehouse.roles import grant_roles


class Shop:
    """Items, users and their lists, and what `serving` answers."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    def execute(self, statement: str, *rows: dict[str, Any]) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), list(rows) or None)

    def rows(self, statement: str, **parameters: Any) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            found = connection.execute(sa.text(statement), parameters)
            return [dict(row) for row in found.mappings()]

    def add_items(self, *item_ids: str, **columns: Any) -> None:
        values = {
            "title": None, "attributes": "{}", "available": True, "available_from": None,
            "available_until": None, "variant_of": None, "rest_days": None,
        } | columns  # fmt: skip
        self.execute(
            "insert into items (item_id, title, attributes, available, available_from, available_until,"
            " variant_of, rest_days) values (:id, coalesce(:title, 'Title of ' || :id),"
            " cast(:attributes as jsonb), :available, :available_from, :available_until, :variant_of,"
            " :rest_days)",
            *({"id": item_id} | values for item_id in item_ids),
        )

    def add_user(self, user_id: str, attributes: str = "{}", consent: bool = True) -> None:
        self.execute(
            "insert into users (user_id, attributes, consent) values (:u, cast(:a as jsonb), :c)",
            {"u": user_id, "a": attributes, "c": consent},
        )

    def publish(
        self, user_id: str, *pool: str, length: int = 20, list_: list[str] | None = None,
        propensities: list[float] | None = None, available_until: datetime | None = None,
        titled: bool = True,
    ) -> None:  # fmt: skip
        """Store a user's list and pool as a publication does that has read all feedback so far.

        With `titled` false, as a release that stored no titles.
        """
        listed = list_ or list(pool[:length])
        self.execute(
            "with publication as (insert into publications"
            " (run_key, model_version, scope, users, items, through_transaction_id)"
            " values (gen_random_uuid()::text, '7', 'affected', 1, 1, warehouse_horizon())"
            " returning publication_id, through_transaction_id)"
            " insert into recommendation_lists (user_id, publication_id, model_version, item_ids, scores,"
            " propensities, reasons, pool_item_ids, pool_scores, titles, available_until,"
            " through_transaction_id)"
            " select :u, publication_id, '7', :ids, :scores, :propensities,"
            " (select jsonb_agg('because of ' || item) from unnest(cast(:ids as text[])) as item), :pool,"
            " :pool_scores, array(select coalesce(nullif(items.title, ''), listed.item_id)"
            " from unnest(cast(:ids as text[])) with ordinality as listed (item_id, number)"
            " left join items using (item_id) where :titled order by number), :until,"
            " case when :titled then through_transaction_id end from publication"
            " on conflict (user_id) do update set publication_id = excluded.publication_id,"
            " pool_item_ids = excluded.pool_item_ids, pool_scores = excluded.pool_scores,"
            " item_ids = excluded.item_ids, scores = excluded.scores, titles = excluded.titles,"
            " propensities = excluded.propensities, reasons = excluded.reasons,"
            " available_until = excluded.available_until,"
            " through_transaction_id = excluded.through_transaction_id,"
            " published_at = excluded.published_at",
            {
                "u": user_id,
                "ids": listed,
                "scores": [1 - n / 1000 for n in range(len(listed))],
                "propensities": propensities or [1.0] * len(listed),
                "pool": list(pool),
                "titled": titled,
                "until": available_until,
                "pool_scores": [1 - n / 1000 for n in range(len(pool))],
            },
        )

    def share(self, kind: str, *item_ids: str, attribute: str = "", segment: str = "") -> None:
        self.execute(
            "insert into shared_lists (kind, attribute, segment, item_ids, scores)"
            " values (:kind, :attribute, :segment, :ids, :scores)",
            {
                "kind": kind,
                "attribute": attribute,
                "segment": segment,
                "ids": list(item_ids),
                "scores": [float(len(item_ids) - n) for n in range(len(item_ids))],
            },
        )

    def react(self, user_id: str | None, event_type: str, *item_ids: str, **columns: Any) -> None:
        values = {"value": None, "occurred_at": datetime.now(UTC), "session_id": None} | columns
        self.execute(
            "insert into feedback (user_id, session_id, item_id, event_type, value, occurred_at)"
            " values (:u, :session_id, :i, :e, :value, :occurred_at)",
            *({"u": user_id, "i": item_id, "e": event_type} | values for item_id in item_ids),
        )

    def vectors(self, **vectors: list[float]) -> None:
        self.execute(
            "insert into item_vectors (item_id, model_version, vector) values (:i, '7', cast(:v as vector))",
            *({"i": item_id.replace("_", "-"), "v": str(vector)} for item_id, vector in vectors.items()),
        )

    def phrases(self, item_id: str, *phrases: dict[str, Any]) -> None:
        """Store what 20 people praise and criticise about an item."""
        self.execute(
            "insert into item_phrases (item_id, comment_ids, people, phrases, model_version)"
            " values (:i, '{1}', 20, cast(:phrases as jsonb), '7')",
            {"i": item_id, "phrases": json.dumps(phrases)},
        )

    def rule(self, rule: str, kind: str, **columns: Any) -> None:
        """Add a rule that holds now; `live=False`: a draft."""
        values = {
            "placements": None, "filter": None, "item_ids": None, "audience": "{}", "position": None,
            "factor": None, "number": None, "attribute": None, "reason": None, "priority": 0,
            "valid_until": None, "live": True,
        } | columns  # fmt: skip
        values["filter"] = None if values["filter"] is None else json.dumps(values["filter"])
        self.execute(
            "insert into placement_rules (rule, kind, placements, filter, item_ids, audience, position,"
            " factor, number, attribute, reason, priority, valid_from, valid_until)"
            " values (:rule, :kind, :placements, cast(:filter as jsonb), :item_ids, cast(:audience as jsonb),"
            " :position, :factor, :number, :attribute, :reason, :priority,"
            " case when :live then coalesce(cast(:valid_until as timestamptz), now()) - interval '1 hour'"
            " end, :valid_until)",
            {"rule": rule, "kind": kind} | values,
        )

    def recommend(self, user_id: str | None, **arguments: Any) -> list[dict[str, Any]]:
        kinds = {"filter": "jsonb", "context": "jsonb", "exclude": "text[]"}
        named = "".join(
            f", {name} => cast(:{name} as {kinds.get(name, 'integer' if name == 'k' else 'text')})"
            for name in arguments
        )
        return self.rows(
            f"select * from serving.recommend(:user_id{named}) order by rank", user_id=user_id, **arguments
        )

    def shown(self, user_id: str | None, **arguments: Any) -> list[str]:
        return [row["item_id"] for row in self.recommend(user_id, **arguments)]


@pytest.fixture(scope="session")
def serving_template(postgres: PostgresServer, warehouse_template: str) -> str:
    """Name of a migrated, empty database with the reading functions."""
    name = "serving_template"
    postgres.create_database(name, template=warehouse_template)
    engine = sa.create_engine(postgres.url(name))
    install_serving(engine)
    engine.dispose()
    return name


@pytest.fixture
def shop(postgres: PostgresServer, serving_template: str, request: pytest.FixtureRequest) -> Iterator[Shop]:
    """An empty shop; the event types are those of a new warehouse."""
    name = f"shop_{abs(hash(request.node.nodeid))}"
    postgres.create_database(name, template=serving_template)
    engine = sa.create_engine(postgres.url(name))
    try:
        yield Shop(engine)
    finally:
        engine.dispose()


Login = Callable[[str], sa.Engine]


@pytest.fixture(scope="module")
def http_shop(
    postgres: PostgresServer, serving_template: str, request: pytest.FixtureRequest
) -> Iterator[Shop]:
    """A shop that the tests of a module share."""
    name = f"shop_{abs(hash(request.node.nodeid))}"
    postgres.create_database(name, template=serving_template)
    engine = sa.create_engine(postgres.url(name))
    with engine.begin() as connection:
        grant_roles(connection)
    try:
        yield Shop(engine)
    finally:
        engine.dispose()


@pytest.fixture(scope="module")
def login(http_shop: Shop) -> Iterator[Login]:
    """Make an engine of a login that is a member of a role."""
    engines: dict[str, sa.Engine] = {}

    def make(role: str) -> sa.Engine:
        if role not in engines:
            name = f"{role}_of_{http_shop.engine.url.database}"
            http_shop.execute(f"create role {name} login in role {role}")
            engines[role] = create_engine(http_shop.engine.url.set(username=name))
        return engines[role]

    yield make
    for engine in engines.values():
        engine.dispose()
        http_shop.execute(f"drop role {engine.url.username}")


@pytest.fixture(scope="module")
def http(login: Login) -> TestClient:
    """A client of the HTTP service, whose login is an application's."""
    application = create_application(login("recsys_writer"))
    return TestClient(application, base_url="http://localhost", raise_server_exceptions=False)
