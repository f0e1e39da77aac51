"""Lists about an item, and the order of items that an application has found."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from recsys.serving.shared_lists import refresh_shared_lists
from recsys.settings import ServingSettings
from tests.serving.conftest import Shop

NOW = datetime.now(UTC)


@pytest.fixture
def kitchen(shop: Shop) -> Shop:
    """Six people had bread, then butter within the day, then jam a week later; knives look like forks."""
    shop.add_items("bread", "butter", "jam", "knife", "fork", "spoon", "rare")
    shop.vectors(
        bread=[1, 0, 0], butter=[0.9, 0.1, 0], knife=[0, 1, 0], fork=[0, 1, 0.1], spoon=[0, 0.5, 0.5]
    )
    for user in ("a", "b", "c", "d", "e", "f"):
        shop.add_user(user)
        shop.react(user, "purchase", "bread", occurred_at=NOW - timedelta(days=9))
        shop.react(user, "purchase", "butter", occurred_at=NOW - timedelta(days=9, hours=-3))
        shop.react(user, "purchase", "jam", occurred_at=NOW - timedelta(days=2))
    shop.react("a", "purchase", "rare", occurred_at=NOW - timedelta(days=1))
    refresh_shared_lists(shop.engine, ServingSettings(), at=NOW)
    return shop


def similar(
    shop: Shop, item_id: str | None, kind: str = "similar", **arguments: object
) -> list[tuple[str, str]]:
    named = "".join(f", {name} => cast(:{name} as jsonb)" if name == "filter" else f", {name} => :{name}"
                    for name in arguments)  # fmt: skip
    rows = shop.rows(
        f"select * from serving.similar_items(:item, :kind{named}) order by rank",
        item=item_id, kind=kind, **arguments,
    )  # fmt: skip
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    return [(row["item_id"], row["source"]) for row in rows]


def reranked(shop: Shop, user: str | None, items: list[str], session: str | None = None) -> list[str]:
    rows = shop.rows(
        "select * from serving.rerank(:user, cast(:items as text[]), :session) order by rank",
        user=user, items=items, session=session,
    )  # fmt: skip
    return [row["item_id"] for row in rows]


def test_similar_items_are_nearest_first_then_what_is_popular(kitchen: Shop) -> None:
    found = similar(kitchen, "knife")
    assert found[:2] == [("fork", "similar"), ("spoon", "similar")]
    assert ("jam", "popular") in found
    assert "knife" not in dict(found)


@pytest.fixture
def listed(kitchen: Shop) -> Shop:
    """Knives have a list as published; the newer ladle has a vector and no list."""
    kitchen.execute(
        "insert into item_lists (kind, item_id, item_ids, scores)"
        " values ('similar', 'knife', '{spoon,fork}', '{.9,.8}')"
    )
    kitchen.add_items("ladle")
    kitchen.vectors(ladle=[0, 0.9, 0.1])
    return kitchen


def test_similar_items_are_those_of_the_list_without_a_look_at_vectors(listed: Shop) -> None:
    assert similar(listed, "knife", k=2) == [("spoon", "similar"), ("fork", "similar")]
    listed.execute("truncate item_vectors")
    assert similar(listed, "knife", k=2) == [("spoon", "similar"), ("fork", "similar")]
    rows = listed.recommend("a", placement="similar", context='{"item_id": "knife"}', k=1)
    assert [row["item_id"] for row in rows] == ["spoon"]
    listed.react("f", "view", "knife")
    assert listed.recommend("f", placement="because_you_watched", k=1)[0]["item_id"] == "spoon"


def test_a_list_that_does_not_suffice_goes_on_with_all_vectors(listed: Shop) -> None:
    found = similar(listed, "knife")
    assert found[:3] == [("spoon", "similar"), ("fork", "similar"), ("ladle", "similar")]
    assert len(dict(found)) == len(found)
    listed.execute("""update items set attributes = '{"metal": "tin"}' where item_id in ('ladle', 'fork')""")
    filtered = similar(listed, "knife", k=2, filter='{"metal": "tin"}')
    assert filtered == [("fork", "similar"), ("ladle", "similar")]
    listed.execute("update items set available = false where item_id in ('spoon', 'fork')")
    assert similar(listed, "knife", k=1) == [("ladle", "similar")]
    listed.execute(
        "insert into placement_rules (rule, kind, item_ids, valid_from)"
        " values ('only', 'only', '{ladle,bread}', now())"
    )
    assert similar(listed, "knife")[0] == ("ladle", "similar")


def test_an_item_without_a_list_is_compared_with_all_vectors(listed: Shop) -> None:
    assert similar(listed, "ladle")[:3] == [("fork", "similar"), ("knife", "similar"), ("spoon", "similar")]


def test_a_vector_without_a_direction_is_similar_to_nothing(listed: Shop) -> None:
    listed.vectors(rare=[0, 0, 0])
    assert ("rare", "similar") not in similar(listed, "ladle", k=20)
    assert {source for _, source in similar(listed, "rare")} == {"popular"}


def test_what_is_similar_stays_when_shared_lists_are_renewed(listed: Shop) -> None:
    refresh_shared_lists(listed.engine, ServingSettings(), at=NOW + timedelta(days=2))
    assert listed.rows("select item_ids from item_lists where kind = 'similar'") == [
        {"item_ids": ["spoon", "fork"]}
    ]


def test_items_that_people_had_together_and_next(kitchen: Shop) -> None:
    assert similar(kitchen, "bread", "together")[0] == ("butter", "together")
    assert similar(kitchen, "bread", "next")[0] == ("butter", "next")
    assert similar(kitchen, "butter", "next")[0] == ("jam", "next")
    assert ("jam", "together") not in similar(kitchen, "butter", "together")


def test_a_pair_that_one_person_had_is_not_shown(kitchen: Shop) -> None:
    assert kitchen.rows("select * from item_lists where item_id = 'rare' or 'rare' = any(item_ids)") == []


def test_similar_items_obey_filter_and_availability_and_are_no_variants_of_the_item(kitchen: Shop) -> None:
    kitchen.execute("update items set available = false where item_id = 'fork'")
    assert similar(kitchen, "knife", k=1) == [("spoon", "similar")]
    kitchen.execute(
        """update items set available = true, attributes = '{"metal": "tin"}' where item_id = 'fork'"""
    )
    assert similar(kitchen, "bread", filter='{"metal": "tin"}') == [("fork", "similar")]
    kitchen.execute("update items set variant_of = 'knife' where item_id = 'fork'")
    assert "fork" not in dict(similar(kitchen, "knife"))


def test_an_unknown_item_is_answered_with_what_is_popular(kitchen: Shop) -> None:
    for item_id in ("no such item", "'; drop table items; --", "x" * 10_000, None, "rare"):
        assert {source for _, source in similar(kitchen, item_id)} == {"popular"}


@pytest.mark.parametrize(("kind", "k"), [("liked", 1), (None, 1), ("similar", 0), ("next", 1_000_000)])
def test_a_wrong_kind_or_length_is_an_error(kitchen: Shop, kind: str, k: int) -> None:
    with pytest.raises(sa.exc.DBAPIError, match=r"kind is|k is"):
        similar(kitchen, "bread", kind, k=k)


def test_a_placement_about_an_item_takes_it_from_the_context(kitchen: Shop) -> None:
    rows = kitchen.recommend("a", placement="similar", context='{"item_id": "knife"}', k=2)
    assert [row["item_id"] for row in rows] == ["fork", "spoon"]
    assert rows[0]["reason"] == 'Similar to "Title of knife"'
    assert kitchen.shown("a", placement="similar", k=2) != []
    assert kitchen.shown("a", placement="similar", context='{"item_id": "gone"}', k=2) != []


def test_because_you_watched_is_about_what_the_user_wanted_last(kitchen: Shop) -> None:
    kitchen.react("f", "view", "knife")
    kitchen.react("f", "dislike", "bread")
    rows = kitchen.recommend("f", placement="because_you_watched", k=2)
    assert [(row["item_id"], row["source"]) for row in rows] == [
        ("fork", "because_you_watched"), ("spoon", "because_you_watched"),
    ]  # fmt: skip
    assert rows[0]["reason"] == 'Similar to "Title of knife"'
    assert kitchen.recommend("nobody", placement="because_you_watched", k=1)[0]["source"] == "trending"


def test_buy_again_offers_what_may_be_had_again(kitchen: Shop) -> None:
    kitchen.execute("insert into placements (placement, logic, fallback) values ('again', 'buy_again', '{}')")
    assert "bread" not in kitchen.shown("a", placement="again")
    kitchen.execute("update event_types set hide_days = 5 where event_type = 'purchase'")
    kitchen.react("a", "purchase", "butter", occurred_at=NOW - timedelta(days=8))
    rows = [row for row in kitchen.recommend("a", placement="again") if row["source"] == "buy_again"]
    assert [row["item_id"] for row in rows] == ["butter", "bread"]


def test_rerank_follows_the_pool_then_the_vectors_then_the_given_order(kitchen: Shop) -> None:
    kitchen.add_items("x", "y")
    kitchen.publish("a", "jam", "bread", "butter")
    kitchen.execute(
        "insert into user_vectors (user_id, model_version, vector) values ('a', '7', '[0, 0, 1]')"
    )
    asked = ["x", "knife", "spoon", "y", "butter", "jam", "jam", "no such item"]
    assert reranked(kitchen, "a", asked) == ["jam", "butter", "spoon", "knife", "x", "y"]
    kitchen.execute("update items set available = false where item_id = 'jam'")
    assert reranked(kitchen, "a", asked)[0] == "butter"


def test_rerank_knows_a_visitor_by_their_session_and_leaves_a_strangers_order(kitchen: Shop) -> None:
    asked = ["bread", "spoon", "fork", "x' or true"]
    assert reranked(kitchen, "stranger", asked) == asked[:3]
    assert reranked(kitchen, None, asked) == asked[:3]
    kitchen.react(None, "click", "knife", session_id="s")
    assert reranked(kitchen, None, asked, "s") == ["fork", "spoon", "bread"]
    assert reranked(kitchen, "a", []) == []


def test_rerank_refuses_more_than_a_thousand_items(kitchen: Shop) -> None:
    with pytest.raises(sa.exc.DBAPIError, match="item_ids has 1001 items"):
        reranked(kitchen, "a", ["x"] * 1001)
