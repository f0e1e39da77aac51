"""How old everybody's lists may be."""

from datetime import UTC, datetime, timedelta

import pytest

from recsys.pipeline.context import Context, Run
from recsys.pipeline.publishing import age_of_lists
from recsys.publishing.publish import publish
from recsys.settings import PublishingSettings
from tests.publishing.conftest import empty_shop, shop  # noqa: F401
from tests.publishing.shop import ITEMS, USERS, K, Shop

NEWS_HALF_LIFE_DAYS = 1 / 24


def record(shop: Shop, version: str, half_life_days: float | None) -> None:  # noqa: F811
    shop.execute(
        "insert into model_versions (model_version, kind, base_transaction_id, trained_transaction_id,"
        " live_trending_half_life_days) values (:version, 'full', 0, 0, :days)",
        {"version": version, "days": half_life_days},
    )


def context(shop: Shop, everyone_hours: float | None = None) -> Context:  # noqa: F811
    publishing = PublishingSettings(k=K, everyone_hours=everyone_hours)
    settings = shop.settings.model_copy(update={"publishing": publishing})
    return Context(Run("publish_recommendations", "publish/1"), settings, shop.engine)


@pytest.mark.parametrize(
    ("half_life_days", "hours"),
    [(1 / 24, 0.75), (1 / 8, 0.75), (1 / 4, 1.5), (1.0, 6.0), (7 / 4, 25.0), (None, 25.0)],
)
def test_lists_are_renewed_as_soon_as_the_published_model_says_that_trends_fade(
    shop: Shop,  # noqa: F811
    half_life_days: float | None,
    hours: float,
) -> None:
    assert age_of_lists(context(shop)) == timedelta(hours=25)  # nothing is published
    record(shop, "1", half_life_days)
    shop.publish()
    assert age_of_lists(context(shop)) == timedelta(hours=hours)
    assert age_of_lists(context(shop, everyone_hours=100)) == timedelta(hours=100)


def test_what_appears_in_the_morning_reaches_a_reader_who_has_not_reacted_since(shop: Shop) -> None:  # noqa: F811
    record(shop, "1", NEWS_HALF_LIFE_DAYS)
    shop.publish()
    shop.add_items("this morning's news")
    now = datetime.now(UTC) + timedelta(hours=1)
    run = context(shop)
    summary = publish(
        shop.engine, run.settings, run_key="an hour later", load=shop.load, now=now,
        everyone_after=age_of_lists(run),
    )  # fmt: skip
    assert summary.scope == "all"
    assert summary.users == len(USERS)
    pools = shop.rows("select pool_item_ids from recommendation_lists")
    assert any("this morning's news" in row["pool_item_ids"] for row in pools)
    assert set(ITEMS) & {item for row in pools for item in row["pool_item_ids"]}
