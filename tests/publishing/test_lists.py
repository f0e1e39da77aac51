"""The pool of a user: what lists are chosen from when they are read."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.publishing.publish import PublishSummary, publish
from recsys.settings import ExplorationSettings, PublishingSettings
from tests.publishing.shop import ITEMS, UNAVAILABLE, USERS, K, Shop


def run(shop: Shop, key: str, settings: PublishingSettings, **options: Any) -> PublishSummary:
    configured = shop.settings.model_copy(update={"publishing": settings})
    return publish(shop.engine, configured, run_key=key, load=shop.load, **options)


def pools(shop: Shop) -> dict[str, tuple[list[str], list[float]]]:
    rows = shop.rows("select user_id, pool_item_ids, pool_scores from recommendation_lists")
    return {row["user_id"]: (row["pool_item_ids"], row["pool_scores"]) for row in rows}


def test_a_pool_is_the_ranking_beyond_the_list_without_what_the_user_had(shop: Shop) -> None:
    run(shop, "first", PublishingSettings(k=K, pool=200))
    lists, consumed = shop.lists(), shop.consumed()
    for user, (items, scores) in pools(shop).items():
        assert items[:K] == lists[user]
        assert set(items) == set(ITEMS) - UNAVAILABLE - consumed[user]
        assert scores == sorted(scores, reverse=True)


def test_a_pool_has_the_size_that_is_set_and_never_less_than_the_list(shop: Shop) -> None:
    run(shop, "first", PublishingSettings(k=K, pool=9))
    assert {len(items) for items, _ in pools(shop).values()} == {9}
    run(shop, "second", PublishingSettings(k=K, pool=1), scope="all")
    assert {len(items) for items, _ in pools(shop).values()} == {K}


def test_chance_draws_the_list_and_leaves_the_pool(shop: Shop) -> None:
    run(shop, "first", PublishingSettings(k=K))
    ranked = pools(shop)
    exploring = PublishingSettings(k=K, exploration=ExplorationSettings(share=1))
    run(shop, "second", exploring, scope="all")
    assert pools(shop) == ranked
    lists = shop.lists()
    assert any(items[:K] != lists[user] for user, (items, _) in ranked.items())
    assert all(set(lists[user]) <= set(items[: 4 * K]) for user, (items, _) in ranked.items())


def test_a_user_who_had_everything_has_an_empty_pool(shop: Shop) -> None:
    shop.react(USERS[0], *ITEMS)
    run(shop, "first", PublishingSettings(k=K))
    assert pools(shop)[USERS[0]] == ([], [])


@pytest.mark.parametrize("odd", ['quote " and, comma', "é\u202e 漢字", "back\\slash", "{brace}", "NULL"])
def test_strange_ids_arrive_as_they_are(shop: Shop, odd: str) -> None:
    shop.add_items(odd)
    run(shop, "first", PublishingSettings(k=K))
    assert odd in pools(shop)[USERS[0]][0]


def test_a_pool_is_stored_in_its_page(shop: Shop) -> None:
    with shop.engine.connect() as connection:
        options = connection.scalar(
            sa.text("select reloptions from pg_class where oid = 'recommendation_lists'::regclass")
        )
    assert options == ["toast_tuple_target=8160"]


def test_everybody_is_published_again_after_a_day_although_the_champion_stays(shop: Shop) -> None:
    settings, now = PublishingSettings(k=K), datetime.now(UTC)
    run(shop, "first", settings)
    shop.react(USERS[1], ITEMS[0])
    day = timedelta(hours=20)
    assert run(shop, "hourly", settings, now=now + 2 * day).scope == "affected"
    shop.react(USERS[1], ITEMS[1])
    assert run(shop, "soon", settings, now=now + timedelta(hours=1), everyone_after=day).scope == "affected"
    shop.add_items("item of the day")
    assert run(shop, "morning", settings, now=now + timedelta(hours=21), everyone_after=day).scope == "all"
    assert any("item of the day" in items for items, _ in pools(shop).values())


def test_ids_titles_and_reasons_of_any_characters_are_listed_as_they_are(shop: Shop) -> None:
    odd = ['comma, "quoted"', "new\nline", "{brace}", "back\\slash", "三体 🎉", "NULL", "\t", "it's"]
    shop.execute("delete from feedback")
    shop.execute("delete from items")
    shop.execute("insert into items (item_id, title) values (:id, :title)", *(
        {"id": item, "title": item * (number % 2)} for number, item in enumerate(odd)
    ))  # fmt: skip
    run(shop, "odd", PublishingSettings(k=len(odd)))
    [row, *_] = shop.rows("select * from recommendation_lists")
    assert sorted(row["item_ids"]) == sorted(odd)
    assert row["titles"] == row["pool_item_ids"] == row["item_ids"]
    titles = [item * (odd.index(item) % 2) for item in row["item_ids"]]
    assert row["reasons"] == [f'version 1 likes "{title}"' for title in titles]
