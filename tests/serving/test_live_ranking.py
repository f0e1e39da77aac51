"""How reactions order a pool: by what people had together where it is known, else by vectors."""

from typing import Any

import pytest

from tests.serving.conftest import Shop

POOL = [f"item-{n}" for n in range(30)]


@pytest.fixture
def stocked(shop: Shop) -> Shop:
    """`seen` goes with item-25 and less with item-20; by its vector it is nearest to item-29."""
    shop.add_items("seen", "beside", *POOL)
    shop.vectors(seen=[0.0, 1.0], **{f"item_{n}": [1.0, n / 100] for n in range(30)})
    together(shop, "seen", "item-25", "item-20", "beside")
    return shop


def together(shop: Shop, item_id: str, *others: str) -> None:
    shop.execute(
        "insert into item_lists values ('together', :i, :others, :scores)",
        {"i": item_id, "others": list(others), "scores": [0.3 / (1 + n) for n in range(len(others))]},
    )


def order(
    shop: Shop, reacted: list[str], weights: list[float], had: list[str] | None = None
) -> dict[str, Any]:
    [row] = shop.rows(
        "select array_agg(item_id) as ids, array_agg(score) as scores, array_agg(interest > 0) as raised"
        " from serving.live_ranking(:pool, :scores, :reacted, cast(:weights as real[]),"
        " cast(:had as text[]))",
        pool=POOL, scores=[float(30 - n) for n in range(30)], reacted=reacted, weights=weights, had=had,
    )  # fmt: skip
    return row


def test_what_people_had_together_comes_before_what_has_a_similar_vector(stocked: Shop) -> None:
    ids = order(stocked, ["seen"], [1.0])["ids"]
    assert ids.index("item-25") < 3
    assert ids.index("item-25") < ids.index("item-20") < 20
    assert ids.index("item-29") == 29


def test_an_item_without_neighbours_speaks_by_its_vector(stocked: Shop) -> None:
    stocked.execute("truncate item_lists")
    ids = order(stocked, ["seen"], [1.0])["ids"]
    assert ids.index("item-29") < ids.index("item-25") < 20


def test_a_dislike_lowers_what_goes_with_its_item(stocked: Shop) -> None:
    together(stocked, "item-0", "item-1")
    ids = order(stocked, ["item-0"], [-1.0])["ids"]
    assert ids.index("item-1") > 10


def test_items_from_outside_the_pool_come_in_only_where_it_is_known_what_the_user_had(stocked: Shop) -> None:
    assert sorted(order(stocked, ["seen"], [1.0])["ids"]) == sorted(POOL)
    row = order(stocked, ["seen"], [1.0], had=[])
    assert sorted(row["ids"]) == sorted([*POOL, "beside"])
    assert row["raised"][row["ids"].index("beside")]
    assert len(row["scores"]) == len(row["raised"]) == 31
    assert "beside" not in order(stocked, ["seen"], [1.0], had=["beside"])["ids"]


def test_a_dislike_brings_nothing_in(stocked: Shop) -> None:
    assert sorted(order(stocked, ["seen"], [-1.0], had=[])["ids"]) == sorted(POOL)


def test_what_somebody_reacted_to_is_not_raised_by_another_reaction(stocked: Shop) -> None:
    together(stocked, "item-3", "item-25", "seen")
    ids = order(stocked, ["item-3", "seen"], [1.0, 1.0], had=[])["ids"]
    assert "seen" not in ids
    assert ids.index("item-3") >= 3


def test_a_reaction_that_weighs_less_than_a_hundredth_of_another_says_nothing(stocked: Shop) -> None:
    together(stocked, "item-0", "item-10")
    alone = order(stocked, ["item-0"], [1.0])["ids"]
    assert order(stocked, ["item-0", "seen"], [1.0, 0.009])["ids"] == alone
    assert order(stocked, ["item-0", "seen"], [1.0, 0.1])["ids"] != alone


@pytest.mark.parametrize(
    "call",
    [
        "live_ranking('{a}', '{1}', '{b}', '{1}', '{}')",
        "fresh_events('ada', 0, 50)",
        "judged('{a}', '{view}', '{1}', '{now}')",
    ],
)
def test_its_query_is_part_of_the_callers(shop: Shop, call: str) -> None:
    plan = [row["QUERY PLAN"] for row in shop.rows(f"explain select * from serving.{call} limit 3")]
    assert not [line for line in plan if f"Function Scan on {call.split('(')[0]}" in line]
    assert len(plan) > 5


@pytest.fixture
def reacting(stocked: Shop) -> Shop:
    """Ada has a pool of 30 and has seen `seen` since."""
    stocked.add_user("ada")
    stocked.publish("ada", *POOL)
    stocked.react("ada", "view", "seen")
    return stocked


def test_a_list_of_the_first_candidates_is_that_of_all(reacting: Shop) -> None:
    rows = reacting.recommend("ada")
    assert {row["source"] for row in rows} == {"live", "personal"}
    # Where a rule holds, all candidates are looked at.
    reacting.rule("of something else", "exclude", item_ids=["unheard of"])
    assert reacting.recommend("ada") == rows


def test_a_list_is_full_where_the_first_candidates_cannot_be_shown(reacting: Shop) -> None:
    first = reacting.shown("ada", k=20)
    reacting.execute("update items set available = false where item_id = any (:ids)", {"ids": first})
    rows = reacting.recommend("ada", k=10)
    assert len(rows) == 10
    assert {row["source"] for row in rows} == {"personal"}
    assert not {row["item_id"] for row in rows} & set(first)


def test_a_recent_reaction_counts_more_than_an_earlier_one(shop: Shop) -> None:
    shop.add_user("ada")
    shop.add_items("a", "b", "beside-a", "beside-b", *POOL)
    together(shop, "a", "beside-a")
    together(shop, "b", "beside-b")
    shop.publish("ada", *POOL, "beside-b", "beside-a")
    shop.react("ada", "view", "a")
    shop.react("ada", "view", "b")
    shown = shop.shown("ada", k=20)
    assert shown.index("beside-b") < shown.index("beside-a")


def test_an_item_from_outside_the_pool_is_shown_and_one_that_the_user_had_is_not(shop: Shop) -> None:
    shop.add_user("ada")
    shop.add_items("seen", "beside", "had", *POOL)
    shop.react("ada", "purchase", "had")
    together(shop, "seen", "had", "beside")
    shop.publish("ada", *POOL)
    shop.react("ada", "view", "seen")
    rows = shop.recommend("ada", k=10)
    assert "had" not in [row["item_id"] for row in rows]
    [beside] = [row for row in rows if row["item_id"] == "beside"]
    assert (beside["source"], beside["reason"]) == ("live", "Similar to what you just chose")


def fit(shop: Shop, strength: float, decay: float, trending: float) -> None:
    """Store the weights of the version that `Shop.publish` publishes."""
    shop.execute("delete from model_versions")
    shop.execute(
        "insert into model_versions (model_version, kind, base_transaction_id, trained_transaction_id,"
        " live_strength, live_decay, live_trending) values ('7', 'full', 0, 0, :s, :d, :t)",
        {"s": strength, "d": decay, "t": trending},
    )


def test_the_weights_are_those_of_the_published_model(stocked: Shop) -> None:
    assert stocked.rows("select * from serving.fitted_weights()") == [
        {"strength": 3.0, "decay": 0.7, "trending": 0.0}
    ]
    usual = order(stocked, ["seen"], [1.0])["ids"].index("item-25")
    stocked.add_user("ada")
    stocked.publish("ada", *POOL)
    fit(stocked, 0.5, 0.25, 2)
    assert stocked.rows("select * from serving.fitted_weights()") == [
        {"strength": 0.5, "decay": 0.25, "trending": 2.0}
    ]
    assert order(stocked, ["seen"], [1.0])["ids"].index("item-25") > usual
    stocked.react("ada", "view", "seen")
    stocked.react("ada", "view", "item-3")
    [found] = stocked.rows("select weights from serving.reactions_since('ada', 0, '-infinity', 50)")
    assert found["weights"][1] / found["weights"][0] == pytest.approx(0.25)


def test_what_is_trending_comes_in_with_a_reaction_and_says_so(stocked: Shop) -> None:
    stocked.add_items("news", "old news", "more news")
    stocked.share("trending", "news", "old news", "item-12", "more news")
    stocked.add_user("ada")
    stocked.react("ada", "view", "old news")
    stocked.publish("ada", *POOL)
    fit(stocked, 3, 0.7, 2)
    assert stocked.shown("ada") == POOL[:10]
    stocked.react("ada", "view", "unheard of")
    rows = stocked.recommend("ada", k=12)
    shown = [row["item_id"] for row in rows]
    assert shown[0] == "news"
    assert {"item-12", "more news"} < set(shown)
    assert "old news" not in shown
    found = {row["item_id"]: row for row in rows}
    for item in ("news", "more news"):
        assert (found[item]["source"], found[item]["reason"]) == ("trending", "Popular right now")
    assert (found["item-12"]["source"], found["item-0"]["source"]) == ("trending", "personal")
    stocked.execute("update placements set live = false")
    assert stocked.shown("ada") == POOL[:10]


@pytest.fixture
def newsroom(stocked: Shop) -> Shop:
    """Ada has a list, and the published model lets what is trending in before she reacts."""
    stocked.add_items("news", "old news", "more news")
    stocked.share("trending", "news", "old news", "item-12", "more news")
    stocked.add_user("ada")
    stocked.react("ada", "view", "old news")
    stocked.publish("ada", *POOL)
    fit(stocked, 3, 0.7, 0)
    stocked.execute("delete from model_versions")
    stocked.execute(
        "insert into model_versions (model_version, kind, base_transaction_id, trained_transaction_id,"
        " live_trending_before_reaction) values ('7', 'full', 0, 0, 2)"
    )
    return stocked


def test_in_a_newsroom_what_is_trending_comes_in_before_a_reaction(newsroom: Shop) -> None:
    rows = newsroom.recommend("ada", k=12)
    shown = [row["item_id"] for row in rows]
    assert shown[0] == "news"
    assert {"item-12", "more news"} < set(shown)
    assert "old news" not in shown
    assert shown.index("item-0") < shown.index("item-1") < shown.index("item-2")
    found = {row["item_id"]: row for row in rows}
    assert (found["news"]["source"], found["news"]["reason"]) == ("trending", "Popular right now")
    assert (found["item-0"]["source"], found["item-0"]["reason"]) == ("personal", "because of item-0")
    assert {row["propensity"] for row in rows} == {1.0}
    # Her reaction counts instead: with one, this model lets nothing come in.
    newsroom.react("ada", "view", "seen")
    assert "news" not in newsroom.shown("ada", k=12)


@pytest.mark.parametrize(
    "statement",
    [
        "update placements set live = false",
        "update users set consent = false where user_id = 'ada'",
        "update recommendation_lists set propensities = array_fill(0.5::real, array[cardinality(item_ids)])",
        "update recommendation_lists set model_version = '7+8'",
        "update model_versions set live_trending_before_reaction = 0",
        "update model_versions set live_trending_before_reaction = null",
        "insert into publications (run_key, model_version, scope, users, items, through_transaction_id)"
        " values ('rolled back', '6', 'all', 1, 1, 0)",
    ],
)
def test_lists_stay_as_published_where_nothing_may_come_in(newsroom: Shop, statement: str) -> None:
    with newsroom.engine.begin() as connection:
        connection.exec_driver_sql("alter table model_versions disable trigger user")
        connection.exec_driver_sql(statement)
        connection.exec_driver_sql("alter table model_versions enable trigger user")
    assert newsroom.shown("ada") == POOL[:10]


def test_without_a_weight_nothing_that_is_trending_comes_in(stocked: Shop) -> None:
    stocked.add_items("news")
    stocked.share("trending", "news")
    stocked.add_user("ada")
    stocked.publish("ada", *POOL)
    stocked.react("ada", "view", "seen")
    assert "news" not in stocked.shown("ada", k=20)
