"""Plan, stage and compare publications in shards."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from recsys.publishing.plans import Plan
from recsys.publishing.publish import publish
from recsys.publishing.servable import Servable
from recsys.publishing.shards import ShardWorker, publish_or_plan, stage_shard
from tests.publishing.shop import START, Shop

NOW = START + timedelta(days=1)
WHAT_READERS_SEE = {
    "recommendation_lists": "user_id, model_version, item_ids, scores, propensities, reasons, language,"
    " titles, available_until, pool_item_ids, pool_scores, through_transaction_id",
    "user_vectors": "user_id, model_version, vector::text",
    "item_vectors": "item_id, model_version, vector::text",
    "item_lists": "*",
    "published_items": "*",
    "comment_sentiment": "item_id, model_version, comments, average_value, average_sentiment",
}


def seen(shop: Shop) -> dict[str, list[Any]]:
    """All that readers see, but for ids and times of publications."""
    return {
        table: sorted(map(repr, (dict(row) for row in shop.rows(f"select {columns} from {table}"))))
        for table, columns in WHAT_READERS_SEE.items()
    }


def plan(shop: Shop, run_key: str = "night", users_per_shard: int = 16, **options: Any) -> Plan:
    planned = publish_or_plan(
        shop.engine,
        shop.settings,
        run_key=run_key,
        users_per_shard=lambda _: users_per_shard,
        load=shop.load,
        now=NOW,
        scope="all",
        **options,
    )
    assert isinstance(planned, ShardWorker)
    return planned.plan


def stage(shop: Shop, planned: Plan, *numbers: int, load: Callable[..., Servable] | None = None) -> None:
    for number in numbers or range(3):
        stage_shard(
            shop.engine, shop.settings, planned.plan_id, number, load=load or shop.load, load_on_cpu=shop.load
        )


def in_one_process(shop: Shop, run_key: str = "night") -> dict[str, list[Any]]:
    publish(shop.engine, shop.settings, run_key=run_key, load=shop.load, now=NOW, scope="all")
    return seen(shop)


def forget_publications(shop: Shop) -> None:
    for table in WHAT_READERS_SEE:
        shop.execute(f"delete from {table}")
    shop.execute("delete from publications")


def staged_rows(shop: Shop) -> dict[str, int]:
    tables = shop.rows(
        "select tablename from pg_tables"
        " where schemaname = 'staging' and tablename not in ('plans', 'shards')"
    )
    return {
        row["tablename"]: shop.rows(f"select count(*) as rows from staging.{row['tablename']}")[0]["rows"]
        for row in tables
    }
