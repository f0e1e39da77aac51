"""Publish a real recommender with a tiny text encoder; only MLflow is replaced."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recsys.model.checkpoint import load_recommender, save_recommender
from recsys.model.recommender import Recommender
from recsys.publishing.publish import publish
from recsys.publishing.read import published_recommendations, requested_recommendations
from recsys.publishing.shards import ShardWorker, publish_or_plan, stage_shard, swap_shards
from recsys.registry import versions
from recsys.registry.versions import RegisteredVersion
from recsys.snapshot.catalogue import Catalogue
from tests.publishing.sharding import NOW, forget_publications, seen
from tests.publishing.shop import ITEMS, UNAVAILABLE, USERS, K, Shop
from tests.small_models import small_settings, write_tiny_encoder

TAGS = {"recsys.kind": "full"}


@pytest.fixture
def checkpoint(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint trained on the first 25 items only, returned in place of MLflow's download."""
    torch.manual_seed(0)
    settings = small_settings(tmp_path, write_tiny_encoder(tmp_path / "encoder"))
    catalogue = Catalogue.build(ITEMS[:25], [item.title() for item in ITEMS[:25]])
    model = Recommender.build(settings.model, catalogue, shop.event_types())
    model.items.trained[:] = True
    save_recommender(model, tmp_path / "checkpoint")

    def load_version(_settings: Any, version: str) -> RegisteredVersion:
        return RegisteredVersion(version, "run", "digest", TAGS, "m-1")

    monkeypatch.setattr(versions, "load_version", load_version)
    monkeypatch.setattr(versions, "download_checkpoint", lambda *arguments: tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.mark.usefixtures("checkpoint")
def test_shards_of_a_real_recommender_hold_the_same_bytes_as_one_process(shop: Shop) -> None:
    publish(shop.engine, shop.settings, run_key="night", scope="all", now=NOW)
    expected = seen(shop)
    forget_publications(shop)
    worker = publish_or_plan(
        shop.engine, shop.settings, run_key="night", scope="all", now=NOW, users_per_shard=lambda _: 16
    )
    assert isinstance(worker, ShardWorker)
    planned = worker.plan
    for shard in range(planned.shards):
        stage_shard(shop.engine, shop.settings, planned.plan_id, shard)
    swap_shards(shop.engine, planned.plan_id)
    assert seen(shop) == expected


def test_a_real_recommender_is_published_with_reasons(shop: Shop, checkpoint: Path) -> None:
    summary = publish(shop.engine, shop.settings, run_key="r")
    assert (summary.users, summary.items, summary.scope) == (len(USERS), len(ITEMS) - len(UNAVAILABLE), "all")
    consumed = shop.consumed()
    for user_id, items in shop.lists().items():
        assert len(set(items)) == K
        assert not set(items) & (consumed[user_id] | UNAVAILABLE)
    rows = shop.rows("select * from recommendations")
    assert all(row["reason"] for row in rows)
    assert any("you liked Item" in row["reason"] for row in rows if row["user_id"] == USERS[1])
    assert {row["reason"] for row in rows if row["user_id"] == USERS[0]} == {"Popular with others"}
    model = load_recommender(checkpoint)
    vectors = {
        row["item_id"]: row["vector"] for row in shop.rows("select item_id, vector::real[] from item_vectors")
    }
    available = [number for number, item in enumerate(ITEMS[:25]) if item not in UNAVAILABLE]
    own = np.array([vectors[ITEMS[number]] for number in available], dtype=np.float32)
    np.testing.assert_allclose(own, model.item_vectors()[available], rtol=1e-5, atol=1e-6)


def test_a_natural_language_request_publishes_nothing(shop: Shop, checkpoint: Path) -> None:
    publish(shop.engine, shop.settings, run_key="r")
    before = shop.lists()
    found = requested_recommendations(shop.engine, shop.settings, USERS[1], "something new", 3)
    assert (found.model_version, found.published_at, len(found.recommendations)) == ("1", None, 3)
    assert not {row.item_id for row in found.recommendations} & (shop.consumed()[USERS[1]] | UNAVAILABLE)
    assert shop.lists() == before
    assert published_recommendations(shop.engine, USERS[1], 3).published_at is not None
