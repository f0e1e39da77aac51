"""A small shop with a champion: a fake recommender whose scores a test can recompute."""

import json
import os
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from multiprocessing import parent_process
from typing import Any

import numpy as np
import sqlalchemy as sa
import torch
from numpy.typing import NDArray

from recsys.pipeline.context import Context, Run
from recsys.pipeline.publishing import refresh_active_users
from recsys.promotion import ledger
from recsys.publishing import active
from recsys.publishing import publish as publish_module
from recsys.publishing.publish import PublishSummary
from recsys.publishing.score import Explain
from recsys.publishing.servable import Servable
from recsys.publishing.shards import stage_shard
from recsys.settings import ModelSettings, Settings
from recsys.snapshot.catalogue import Catalogue
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Sequences

START = datetime(2026, 5, 1, tzinfo=UTC)
ITEMS = [f"item {number:02}" for number in range(30)]
UNAVAILABLE = {"item 03", "item 07"}
USERS = [f"user {number:02}" for number in range(40)]
K = 5
DIM = 4


@dataclass
class FakeRecommender:
    """Scores items by fixed random vectors per version and the last item of the history."""

    event_types: EventTypes
    version: str = "1"
    catalogue: Catalogue = field(default_factory=lambda: Catalogue.build([], []))
    settings: ModelSettings = field(default_factory=lambda: ModelSettings(max_events=3))

    def with_catalogue(self, catalogue: Catalogue) -> "FakeRecommender":
        return replace(self, catalogue=catalogue)

    def to(self, device: str) -> "FakeRecommender":
        return self

    def serving_bytes(self, items: int) -> dict[str, int]:
        return {"vectors": 4 * DIM * items}

    def request_cache(self) -> tuple[int, int]:
        return 3, 2

    def comment_opinions(self, texts: list[str]) -> tuple[NDArray[np.float32], NDArray[np.int8]] | None:
        """Version 9 cannot read comments; the others know two words, and do not understand other scripts."""
        sentiment = np.array([("good" in text) - ("bad" in text) for text in texts], dtype=np.int8)
        value = (1 + sentiment.astype(np.float32)) / 2
        value[[not any(c.isascii() and c.isalpha() for c in text) for text in texts]] = np.nan
        return None if self.version == "9" else (value, sentiment)

    def scorer(self) -> "FakeRecommender":
        return self

    @property
    def item_vectors(self) -> NDArray[np.float32]:
        seed = np.random.default_rng(int(self.version))
        return seed.standard_normal((len(self.catalogue), DIM)).astype(np.float32)

    def user_vectors(self, histories: Sequences) -> torch.Tensor:
        table = np.vstack([self.item_vectors, np.full((1, DIM), float(self.version), dtype=np.float32)])
        last = np.full(histories.users, -1)
        some = histories.lengths > 0
        last[some] = histories.item_index[histories.offsets[1:][some] - 1]
        return torch.from_numpy(table[last])

    def score(
        self, users: torch.Tensor, histories: Sequences, requests: list[str] | None = None
    ) -> torch.Tensor:
        scores = users @ torch.from_numpy(self.item_vectors).T
        for row, request in enumerate(requests or []):
            asked = [100.0 * (request in title.lower()) for title in self.catalogue.titles]
            scores[row] += torch.tensor(asked)
        return scores


def explain(model: FakeRecommender) -> Explain:
    def sentence(item: int, language: str) -> str:
        spoken = "" if language == "en" else f" in {language}"
        return f'version {model.version} likes "{model.catalogue.titles[item]}"{spoken}'

    return lambda _histories, _users, items, texts: [
        [sentence(item, own.language) for item in row if item >= 0]
        for row, own in zip(items, texts, strict=True)
    ]


@dataclass
class Shop:
    """A warehouse with helpers to fill and read it."""

    engine: sa.Engine
    settings: Settings
    kinds: dict[str, tuple[str, str | None]] = field(default_factory=dict)

    def load(self, settings: Settings, version: str) -> Servable:
        kind, parent = self.kinds[version]
        return Servable(FakeRecommender(self.event_types(), version), kind, parent, explain)

    def event_types(self) -> EventTypes:
        return EventTypes.from_records([dict(row) for row in self.rows("select * from event_types")])

    def rows(self, statement: str, **parameters: Any) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(sa.text(statement), parameters).mappings())

    def execute(self, statement: str, *parameters: dict[str, Any]) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), list(parameters) or None)

    def promote(self, version: str, kind: str = "full", parent: str | None = None) -> None:
        self.kinds[version] = (kind, parent)
        self._change("promote", version)

    def roll_back(self, version: str) -> None:
        self._change("roll_back", version)

    def _change(self, action: Any, version: str) -> None:
        current = ledger.champion(self.engine)
        ledger.change_champion(
            self.engine,
            action=action,
            version=version,
            expected_champion=current.model_version if current else None,
            reason="test",
            explanation="It is a test.",
            actor="tests",
        )

    def add_items(self, *item_ids: str) -> None:
        self.execute(
            "insert into items (item_id, title, available) values (:id, :title, :available)",
            *({"id": i, "title": i.title(), "available": i not in UNAVAILABLE} for i in item_ids),
        )

    def add_users(self, *user_ids: str, consent: bool = True) -> None:
        self.execute(
            "insert into users (user_id, user_key, consent) values (:id, md5(:id), :consent)",
            *({"id": user_id, "consent": consent} for user_id in user_ids),
        )

    def speak(self, user_id: str, language: object) -> None:
        """Give a user a language, or something that is none."""
        attributes = {"u": user_id, "a": json.dumps({"language": language})}
        self.execute("update users set attributes = cast(:a as jsonb) where user_id = :u", attributes)

    def react(self, user_id: str, *item_ids: str, hours: float = 0, **columns: Any) -> None:
        """Give a like to each item, a second apart."""
        for second, item_id in enumerate(item_ids):
            values = {
                "user_id": user_id,
                "item_id": item_id,
                "event_type": "like",
                "value": None,
                "occurred_at": START + timedelta(hours=hours, seconds=second),
            } | columns
            self.execute(
                "insert into feedback (user_id, item_id, event_type, value, occurred_at)"
                " values (:user_id, :item_id, :event_type, :value, :occurred_at)",
                values,
            )

    def close_window(self) -> None:
        """Record that all feedback so far has passed validation."""
        self.execute(
            "with opened as ("
            "insert into windows (consumer, run_key, lower_transaction_id, upper_transaction_id, arrived)"
            " select 'tests', gen_random_uuid()::text, 0, warehouse_horizon(), 1 returning window_id)"
            " insert into validation_results (window_id, expectation, success, severity, observed, expected)"
            " select window_id, 'valid_share', true, 'critical', '{}', '{}' from opened"
        )

    def lists(self) -> dict[str, list[str]]:
        return {row["user_id"]: row["item_ids"] for row in self.rows("select * from recommendation_lists")}

    def publish(self, run_key: str = "first", scope: Any = "auto") -> PublishSummary:
        return publish_module.publish(
            self.engine, self.settings, scope=scope, run_key=run_key, load=self.load
        )

    def publications(self) -> dict[str, int]:
        """Return the publication of each user's list."""
        rows = self.rows("select user_id, publication_id from recommendation_lists")
        return {row["user_id"]: row["publication_id"] for row in rows}

    def versions(self, table: str) -> set[str]:
        return {row["model_version"] for row in self.rows(f"select model_version from {table}")}

    def vectors(self, table: str, key: str) -> dict[str, NDArray[np.float32]]:
        rows = self.rows(f"select {key} as id, vector::real[] as vector from {table} order by id")
        return {row["id"]: np.array(row["vector"], dtype=np.float32) for row in rows}

    def consumed(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {user_id: set() for user_id in USERS}
        for row in self.rows("select user_id, item_id from feedback"):
            found.setdefault(row["user_id"], set()).add(row["item_id"])
        return found


def publish_and_hang_before_the_swap(settings: Settings, reached: Any) -> None:
    """Stage everything and hang before the swap; runs in its own process."""
    engine = sa.create_engine(settings.require_warehouse_url())
    shop = Shop(engine, settings, {"2": ("full", None)})

    def hang(*arguments: Any) -> None:
        reached.set()
        time.sleep(600)

    publish_module.swap = hang
    publish_module.publish(engine, settings, run_key="killed", load=shop.load)


def refresh(shop: Shop, key: str = "refresh/1") -> PublishSummary:
    """Run the stage of `refresh_active_users`."""
    run = Run("refresh_active_users", key)
    now = START + timedelta(days=1)
    return refresh_active_users(Context(run, shop.settings, shop.engine, clock=lambda: now))


def refresh_and_die_before_the_swap(settings: Settings, kinds: dict[str, tuple[str, str | None]]) -> None:
    """Score everybody who has reacted and die; runs in its own process."""
    shop = Shop(sa.create_engine(settings.require_warehouse_url()), settings, kinds)
    vars(active).update(load_servable=shop.load, swap=lambda *_: os._exit(9))
    refresh(shop)


def stage_shard_and_hang(
    settings: Settings, kinds: dict[str, tuple[str, str | None]], plan_id: int, shard: int, reached: Any
) -> None:
    """Stage the first batch of a shard and hang in the second; runs in its own process."""
    shop = Shop(sa.create_engine(settings.require_warehouse_url()), settings, kinds)
    vars(publish_module)["BATCH_USERS"] = 16
    batches = iter(range(2))

    class Hanging(FakeRecommender):
        def user_vectors(self, histories: Sequences) -> torch.Tensor:
            if next(batches) == 1:
                reached.set()
                time.sleep(600)
            return super().user_vectors(histories)

    stage_shard(
        shop.engine,
        settings,
        plan_id,
        shard,
        load=lambda *_: Servable(Hanging(shop.event_types()), "full", None, explain),
    )


def load_fake(settings: Settings, version: str) -> Servable:
    """Load a version as `Shop.load` does, in any process."""
    engine = sa.create_engine(settings.require_warehouse_url())
    try:
        types = Shop(engine, settings).event_types()
    finally:
        engine.dispose()
    return Servable(FakeRecommender(types, version), "full", None, explain)


def load_one_that_dies(settings: Settings, version: str) -> Servable:
    """Load a version that ends a process that another one has started when it scores there."""
    found = load_fake(settings, version)
    if parent_process() is None:
        return found

    class Deadly(FakeRecommender):
        def user_vectors(self, histories: Sequences) -> torch.Tensor:
            os._exit(9)

    return replace(found, model=Deadly(found.model.event_types, version))


def load_something_broken(settings: Settings, version: str) -> Servable:
    """Load a version that returns NaN in a process that another one has started."""
    found = load_fake(settings, version)
    if parent_process() is None:
        return found

    class Broken(FakeRecommender):
        def score(
            self, users: torch.Tensor, histories: Sequences, requests: list[str] | None = None
        ) -> torch.Tensor:
            return super().score(users, histories, requests) * float("nan")

    return replace(found, model=Broken(found.model.event_types, version))


def load_while_another_is_promoted(settings: Settings, version: str) -> Servable:
    """Load version 1 and make version 2 champion."""
    if version == "1" and parent_process() is not None:
        engine = sa.create_engine(settings.require_warehouse_url())
        Shop(engine, settings).promote("2")
        engine.dispose()
    return load_fake(settings, version)
