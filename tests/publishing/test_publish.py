"""What a publication writes."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from recsys.errors import ConfigurationError, NothingToDoError, RegistryError
from recsys.publishing import publish as publish_module
from recsys.publishing.histories import read_catalogue
from recsys.publishing.publish import publish
from recsys.publishing.servable import Servable
from recsys.settings import PublishingSettings, Settings
from tests.publishing.shop import (
    DIM,
    ITEMS,
    START,
    UNAVAILABLE,
    USERS,
    FakeRecommender,
    K,
    Shop,
    explain,
)


def test_every_user_gets_the_best_items_that_are_new_and_available(shop: Shop) -> None:
    summary = shop.publish()
    assert (summary.model_version, summary.scope, summary.users, summary.items) == ("1", "all", 40, 28)
    lists, consumed = shop.lists(), shop.consumed()
    assert lists.keys() == set(USERS)
    with shop.engine.connect() as connection:
        model = FakeRecommender(shop.event_types()).with_catalogue(read_catalogue(connection))
    item_vectors = model.item_vectors
    users = shop.vectors("user_vectors", "user_id")
    for user_id, items in lists.items():
        scores = dict(zip(ITEMS, (item_vectors @ users[user_id]).tolist(), strict=True))
        allowed = [item for item in ITEMS if item not in UNAVAILABLE and item not in consumed[user_id]]
        assert items == sorted(allowed, key=lambda item: -scores[item])[:K]


def test_rows_say_rank_score_propensity_reason_and_version(shop: Shop) -> None:
    shop.publish()
    rows = shop.rows("select * from recommendations where user_id = :u order by rank", u=USERS[1])
    assert [row["item_id"] for row in rows] == shop.lists()[USERS[1]]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    assert sorted((row["score"] for row in rows), reverse=True) == [row["score"] for row in rows]
    assert {row["propensity"] for row in rows} == {1.0}
    assert [row["reason"] for row in rows] == [f'version 1 likes "{row["item_id"].title()}"' for row in rows]


def test_vectors_in_postgres_are_the_models(shop: Shop) -> None:
    shop.publish()
    with shop.engine.connect() as connection:
        model = FakeRecommender(shop.event_types()).with_catalogue(read_catalogue(connection))
    found = shop.vectors("item_vectors", "item_id")
    available = [number for number, item in enumerate(ITEMS) if item not in UNAVAILABLE]
    assert list(found) == [ITEMS[number] for number in available]
    assert np.array_equal(np.stack(list(found.values())), model.item_vectors[available])
    users = shop.vectors("user_vectors", "user_id")
    assert users.keys() == set(USERS)
    # A user without history has the vector of no history.
    assert users[USERS[0]].tolist() == [1.0] * DIM
    nearest = (
        "select item_id from item_vectors order by vector <=> (select avg(vector) from user_vectors) limit 1"
    )
    assert len(shop.rows(nearest)) == 1


def test_a_user_who_has_consumed_almost_everything_gets_a_short_list(shop: Shop) -> None:
    shop.react(USERS[5], *ITEMS[:-2])
    shop.react(USERS[6], *ITEMS)
    shop.publish()
    assert sorted(shop.lists()[USERS[5]]) == sorted(set(ITEMS[-2:]) - shop.consumed()[USERS[5]])
    assert shop.lists()[USERS[6]] == []


def test_items_consumed_before_the_events_that_the_model_reads_stay_out(shop: Shop) -> None:
    shop.publish("first")
    favourites = shop.lists()[USERS[9]]
    shop.react(USERS[9], *favourites, *ITEMS[10:20], hours=1)
    shop.publish("second", "all")
    assert not set(shop.lists()[USERS[9]]) & shop.consumed()[USERS[9]]


def test_a_second_call_with_the_same_run_key_changes_nothing(shop: Shop) -> None:
    first = shop.publish()
    shop.promote("2")
    again = shop.publish()
    assert replace(again, seconds=0) == replace(first, seconds=0)
    assert shop.versions("recommendation_lists") == {"1"}


def test_without_a_champion_there_is_nothing_to_do(empty_shop: Shop) -> None:
    with pytest.raises(NothingToDoError, match="no champion"):
        empty_shop.publish()


def test_without_items_there_is_nothing_to_do(empty_shop: Shop) -> None:
    empty_shop.promote("1")
    with pytest.raises(NothingToDoError, match="no items"):
        empty_shop.publish()


def test_reasons_are_in_the_language_of_each_user(shop: Shop) -> None:
    asked = dict(zip(USERS, ["de-AT", "zh", "fr", None, 7, ["de"], "'; --"], strict=False))
    for user, language in asked.items():
        shop.speak(user, language)
    shop.publish()
    found = {row["user_id"]: row for row in shop.rows("select * from recommendation_lists")}
    assert [found[user]["language"] for user in asked] == ["de", "zh", "en", "en", "en", "en", "en"]
    assert all(reason.endswith('" in de') for reason in found[USERS[0]]["reasons"])
    assert all(reason.endswith('"') for reason in found[USERS[2]]["reasons"])


def test_items_are_published_without_users_for_search_by_vector(empty_shop: Shop) -> None:
    empty_shop.add_items(*ITEMS)
    empty_shop.promote("1")
    assert (empty_shop.publish().users, empty_shop.publish().items) == (0, len(ITEMS) - len(UNAVAILABLE))


def test_lists_hold_what_is_available_at_the_time_of_the_publication(shop: Shop) -> None:
    first, second = (START + timedelta(days=days) for days in (10, 20))
    shop.execute("update items set available_until = :t where item_id = :i", {"t": second, "i": ITEMS[0]})
    shop.execute("update items set available_from = :t where item_id = :i", {"t": second, "i": ITEMS[1]})

    def listed(run_key: str, now: datetime) -> set[str]:
        longer = shop.settings.model_copy(update={"publishing": PublishingSettings(k=len(ITEMS))})
        publish(shop.engine, longer, scope="all", run_key=run_key, load=shop.load, now=now)
        return {item for items in shop.lists().values() for item in items} & set(ITEMS[:2])

    assert listed("first", first) == {ITEMS[0]}
    assert listed("second", second) == {ITEMS[1]}


def test_a_reader_sees_no_item_before_its_start_or_after_its_end(shop: Shop) -> None:
    shop.publish()
    best, next_best, *others = shop.lists()[USERS[0]]
    shop.execute("update items set available_until = now() where item_id = :i", {"i": best})
    shop.execute(
        "update items set available_from = now() + interval '1 hour' where item_id = :i", {"i": next_best}
    )
    rows = shop.rows("select * from recommendations where user_id = :u order by rank", u=USERS[0])
    assert [(row["rank"], row["item_id"]) for row in rows] == list(enumerate(others, 3))
    # The time of reading counts, also in a transaction that began before the item ended.
    with shop.engine.begin() as reader:
        reader.execute(sa.text("select now()"))
        shop.execute(
            "update items set available_until = clock_timestamp() where item_id = :i", {"i": others[0]}
        )
        seen = reader.execute(
            sa.text("select item_id from recommendations where user_id = :u"), {"u": USERS[0]}
        )
        assert others[0] not in seen.scalars().all()


def test_a_list_shows_one_of_the_items_that_are_one_thing(shop: Shop) -> None:
    shop.publish()
    best, next_best, *_ = shop.lists()[USERS[0]]
    shop.execute("update items set variant_of = :best where item_id = :i", {"best": best, "i": next_best})
    shop.publish("second", "all")
    lists = shop.lists()
    assert not any({best, next_best} <= set(items) for items in lists.values())
    assert best in lists[USERS[0]]
    assert {len(items) for items in lists.values()} == {K}


def test_scores_that_are_not_numbers_are_never_published(shop: Shop) -> None:
    shop.publish()
    before = shop.lists()
    shop.promote("2")

    class Broken(FakeRecommender):
        def score(self, users: Any, histories: Any, requests: Any = None) -> Any:
            scores = super().score(users, histories, requests)
            scores[-1, 5] = float("nan")
            return scores

    def load(settings: Settings, version: str) -> Servable:
        return Servable(Broken(shop.event_types(), version), "full", None, explain)

    with pytest.raises(RegistryError, match="roll back"):
        publish(shop.engine, shop.settings, run_key="r", load=load)
    assert shop.lists() == before


def test_diversity_keeps_the_rules_and_changes_the_order(shop: Shop) -> None:
    shop.publish()
    plain = shop.lists()
    shop.settings = shop.settings.model_copy(update={"publishing": PublishingSettings(k=K, diversity=0.6)})
    shop.publish("second", "all")
    varied, consumed = shop.lists(), shop.consumed()
    assert varied != plain
    for user_id, items in varied.items():
        assert items[0] == plain[user_id][0]
        assert len(set(items)) == K
        assert not set(items) & (consumed[user_id] | UNAVAILABLE)


def test_a_catalogue_too_large_for_memory_is_refused_before_it_is_read(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.publish()
    before = shop.lists()
    monkeypatch.setattr(FakeRecommender, "serving_bytes", lambda _, items: {"vectors": items << 50})
    monkeypatch.setattr(publish_module, "read_catalogue", lambda _: pytest.fail("the catalogue was read"))
    with pytest.raises(ConfigurationError, match=r"publishing 30 items with version 1 needs .* GiB"):
        shop.publish("second", "all")
    assert shop.lists() == before


def test_what_is_off_a_list_follows_the_event_type_and_the_rest_of_the_item(shop: Shop) -> None:
    user = USERS[7]
    shop.publish("before")
    first, second, third, fourth, fifth, *_ = shop.lists()[user]
    shop.execute("update event_types set hide_days = 0 where event_type = 'view'")
    shop.execute("update event_types set hide_days = 30 where event_type = 'purchase'")
    shop.execute("update items set rest_days = 2 where item_id = :item", {"item": third})
    shop.execute(
        'update items set attributes = \'{"kind": ["tea", "hot"]}\' where item_id = :item', {"item": fourth}
    )
    shop.execute("insert into rest_periods values ('kind', 'tea', 400)")
    shop.react(user, first, event_type="view")
    shop.react(user, second, third, fourth, event_type="purchase")
    shop.react(user, fifth, event_type="dislike")

    def listed(days: float) -> set[str]:
        publish(
            shop.engine, shop.settings, scope="all", run_key=f"after {days} days", load=shop.load,
            now=START + timedelta(days=days),
        )  # fmt: skip
        return {first, second, third, fourth, fifth} & set(
            shop.rows(
                "select array_agg(item_id) as ids from recommendations where user_id = :user", user=user
            )[0]["ids"]
        )

    shop.settings = shop.settings.model_copy(
        update={"publishing": shop.settings.publishing.model_copy(update={"k": len(ITEMS)})}
    )
    assert listed(1) == {first}
    assert listed(3) == {first, third}
    assert listed(31) == {first, second, third}
    assert listed(401) == {first, second, third, fourth}
