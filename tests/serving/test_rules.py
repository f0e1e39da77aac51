"""Rules as data: what each kind does to a list, and which of two rules holds."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tests.serving.conftest import Shop

POOL = [f"p-{number:02}" for number in range(30)]
TREND = [f"t-{number}" for number in range(8)]


@pytest.fixture
def stocked(shop: Shop) -> Shop:
    """Ada has a pool of 30, of which every third is a lamp; eight other items trend."""
    shop.add_items(*(item for n, item in enumerate(POOL) if n % 3 == 0), attributes='{"kind": "lamp"}')
    shop.add_items(*(item for n, item in enumerate(POOL) if n % 3), attributes='{"kind": "chair"}')
    shop.add_items(*TREND)
    shop.add_user("ada", '{"country": "NO"}')
    shop.publish("ada", *POOL)
    shop.share("trending", *TREND)
    return shop


def placed_by(shop: Shop, user_id: str | None = "ada", **arguments: object) -> dict[str, str]:
    """The items of a list that a rule placed, each with the rule."""
    rows = shop.recommend(user_id, **arguments)
    assert all(row["source"] == "rule" for row in rows if row["rule"])
    return {row["item_id"]: row["rule"] for row in rows if row["rule"]}


def test_what_a_rule_excludes_is_not_shown_and_the_list_stays_full(stocked: Shop) -> None:
    stocked.rule("no lamps", "exclude", filter={"kind": "lamp"})
    stocked.rule("recalled", "exclude", item_ids=["p-01", "t-0", "gone long ago"])
    shown = stocked.shown("ada", k=30)
    assert shown[:4] == ["p-02", "p-04", "p-05", "p-07"]
    assert shown[19:] == TREND[1:]
    assert {row["propensity"] for row in stocked.recommend("ada")} == {1.0}


def test_what_cannot_be_compared_with_an_exclusion_is_not_excluded(stocked: Shop) -> None:
    stocked.execute("""update items set attributes = '{"price": "ask"}' where item_id = 'p-00'""")
    stocked.execute("""update items set attributes = '{"price": 90}' where item_id = 'p-01'""")
    stocked.rule("dear", "exclude", filter={"price": {"min": 50}})
    assert stocked.shown("ada", k=3) == ["p-00", "p-02", "p-03"]


def test_only_keeps_what_it_is_about_and_two_of_them_what_both_are(stocked: Shop) -> None:
    stocked.rule("lamps", "only", filter={"kind": "lamp"})
    assert stocked.shown("ada", k=3) == ["p-00", "p-03", "p-06"]
    stocked.rule("chosen", "only", item_ids=["p-27", "p-03", "p-02", "p-15"])
    assert stocked.shown("ada") == ["p-03", "p-15", "p-27"]
    stocked.rule("chosen too", "only", item_ids=["p-15"])
    assert stocked.shown("ada") == ["p-15"]
    stocked.rule("and nothing else", "only", item_ids=["p-02"])
    assert stocked.shown("ada") == []


def test_only_items_that_no_list_has_are_shown(stocked: Shop) -> None:
    stocked.add_items("x-1", "x-2", "x-3")
    stocked.react("ada", "purchase", "x-3")
    stocked.rule("window", "only", item_ids=["x-2", "x-3", "x-1", "t-3"])
    assert stocked.shown("ada") == ["t-3", "x-2", "x-1"]
    assert stocked.shown(None, k=2) == ["t-3", "x-2"]


def test_a_pin_shows_its_items_from_its_position_on(stocked: Shop) -> None:
    stocked.add_items("new-1")
    stocked.rule("spring", "pin", item_ids=["new-1", "p-20"], position=3, reason="Chosen by us")
    rows = stocked.recommend("ada", k=5)
    assert [row["item_id"] for row in rows] == ["p-00", "p-01", "new-1", "p-20", "p-02"]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["rule"] for row in rows] == [None, None, "spring", "spring", None]
    assert [row["source"] for row in rows] == ["personal", "personal", "rule", "rule", "personal"]
    assert rows[2]["reason"] == "Chosen by us"
    assert rows[2]["title"] == "Title of new-1"
    assert stocked.shown("ada", k=3) == ["p-00", "p-01", "new-1"]
    assert stocked.shown("nobody", k=4) == ["t-0", "t-1", "new-1", "p-20"]


def test_a_pinned_item_of_the_list_keeps_its_reason_and_score(stocked: Shop) -> None:
    stocked.rule("up", "pin", item_ids=["p-05"], position=1)
    row = stocked.recommend("ada", k=6)[0]
    assert (row["item_id"], row["reason"], row["model_version"]) == ("p-05", "because of p-05", "7")
    assert row["score"] == pytest.approx(0.995)


def test_a_pin_shows_nothing_that_may_not_be_shown(stocked: Shop) -> None:
    stocked.add_items("sold", available=False)
    stocked.add_items("early", available_from=datetime.now(UTC) + timedelta(days=1))
    stocked.add_items("had", "named", "fine")
    stocked.react("ada", "purchase", "had")
    pinned = ["sold", "early", "had", "erased", "named", "fine"]
    stocked.rule("all of it", "pin", item_ids=pinned, position=1)
    shown = stocked.shown("ada", k=8, exclude=["named"])
    assert set(pinned) & set(shown) == {"fine"}
    assert len(shown) == 8
    assert shown[0] == "fine"
    stocked.execute("update items set available = true where item_id = 'sold'")
    assert stocked.shown("ada", k=2) == ["sold", "named"]


def test_a_pin_follows_the_filters_of_call_and_placement(stocked: Shop) -> None:
    stocked.rule("up", "pin", item_ids=["p-20", "p-21"], position=1)
    assert stocked.shown("ada", k=3, filter='{"kind": "lamp"}') == ["p-21", "p-00", "p-03"]


def test_a_pinned_variant_is_shown_instead_of_the_one_that_ranks_better(stocked: Shop) -> None:
    stocked.add_items("p-00-red", variant_of="p-00")
    stocked.rule("red", "pin", item_ids=["p-00-red"], position=2)
    assert stocked.shown("ada", k=3) == ["p-01", "p-00-red", "p-02"]


def test_a_pin_below_the_end_of_a_short_list_is_its_last_item(shop: Shop) -> None:
    shop.add_items("a", "b", "c")
    shop.rule("late", "pin", item_ids=["b"], position=9)
    rows = shop.recommend(None)
    assert [(row["rank"], row["item_id"]) for row in rows] == [(1, "c"), (2, "a"), (3, "b")]


def test_a_boost_divides_places_and_a_bury_multiplies_them(stocked: Shop) -> None:
    stocked.rule("margin", "boost", item_ids=["p-11", "p-29"], factor=4)
    # The twelfth is ranked like the third, and the thirtieth between the seventh and the eighth.
    assert stocked.shown("ada", k=9) == [
        "p-00", "p-01", "p-02", "p-11", "p-03", "p-04", "p-05", "p-06", "p-29",
    ]  # fmt: skip
    assert placed_by(stocked, k=9) == {"p-11": "margin", "p-29": "margin"}
    stocked.rule("slow movers", "bury", item_ids=["p-00", "p-01"], factor=3)
    assert stocked.shown("ada", k=5) == ["p-00", "p-02", "p-11", "p-03", "p-04"]
    assert "slow movers" not in placed_by(stocked).values()
    stocked.rule("but not this", "bury", item_ids=["p-11"], factor=4)
    assert "p-11" not in stocked.shown("ada", k=10)


def test_a_boost_holds_in_lists_of_any_source(stocked: Shop) -> None:
    stocked.rule("up", "boost", item_ids=["t-7"], factor=100)
    assert stocked.shown("nobody", k=2) == ["t-7", "t-0"]


def test_at_most_n_of_what_a_filter_matches(stocked: Shop) -> None:
    stocked.rule("few lamps", "at_most", filter={"kind": "lamp"}, number=2)
    shown = stocked.shown("ada", k=10)
    assert [item for item in shown if int(item[2:]) % 3 == 0] == ["p-00", "p-03"]
    assert shown[:6] == ["p-00", "p-01", "p-02", "p-03", "p-04", "p-05"]
    assert len(shown) == 10


def test_at_most_n_of_each_value_of_an_attribute(shop: Shop) -> None:
    genres = {
        "a": ["crime"],
        "b": ["crime", "drama"],
        "c": ["crime"],
        "d": ["drama"],
        "e": None,
        "f": "drama",
    }
    for item, genre in genres.items():
        shop.add_items(item, attributes=json.dumps({} if genre is None else {"genre": genre}))
    shop.add_user("ada")
    shop.publish("ada", *"abcdef")
    shop.rule("mixed", "at_most", attribute="genre", number=2)
    # b counts for both of its genres; what has no genre is not limited.
    assert shop.shown("ada") == ["a", "b", "d", "e"]


def test_a_limit_looks_for_others_beyond_the_pool(stocked: Shop) -> None:
    stocked.rule("nearly none", "at_most", filter={"kind": ["lamp", "chair"]}, number=1)
    assert stocked.shown("ada", k=9) == ["p-00", *TREND]
    stocked.add_items(*(f"z-{number:03}" for number in range(300)), attributes='{"kind": "chair"}')
    stocked.publish("ada", *(f"z-{number:03}" for number in range(200)))
    assert stocked.shown("ada", k=9) == ["z-000", *TREND]


def test_at_least_n_brings_the_best_that_match_to_the_end_of_the_list(stocked: Shop) -> None:
    stocked.rule("some trend", "at_least", item_ids=["t-5", "t-2"], number=2)
    rows = stocked.recommend("ada", k=5)
    assert [row["item_id"] for row in rows] == ["p-00", "p-01", "p-02", "t-2", "t-5"]
    assert placed_by(stocked, k=5) == {"t-2": "some trend", "t-5": "some trend"}
    stocked.rule("lamps", "at_least", filter={"kind": "lamp"}, number=2)
    assert placed_by(stocked, k=6) == {"t-2": "some trend", "t-5": "some trend"}


def test_at_least_n_finds_in_the_catalogue_what_no_list_has(stocked: Shop) -> None:
    stocked.add_items("own-1", "own-2", "own-3", "own-4", attributes='{"brand": "ours"}')
    stocked.react("ada", "purchase", "own-4")
    stocked.rule("own brand", "at_least", filter={"brand": "ours"}, number=2)
    assert stocked.shown("ada", k=4) == ["p-00", "p-01", "own-3", "own-2"]
    stocked.execute("update items set available = false where item_id = 'own-3'")
    assert stocked.shown("ada", k=4) == ["p-00", "p-01", "own-2", "own-1"]


def test_a_rule_holds_in_its_placements_only(stocked: Shop) -> None:
    stocked.rule("not by mail", "exclude", filter={"kind": "lamp"}, placements=["email", "similar"])
    assert stocked.shown("ada", k=2) == ["p-00", "p-01"]
    assert stocked.shown("ada", k=2, placement="email") == ["p-01", "p-02"]


def test_what_is_excluded_everywhere_is_in_no_other_list_either(stocked: Shop) -> None:
    stocked.vectors(**{f"p_{n:02}": [1.0, n / 30] for n in range(30)})
    stocked.rule("recalled", "exclude", item_ids=["t-0", "p-01"])
    stocked.rule("tables", "exclude", filter={"kind": "chair"})
    stocked.rule("by mail", "exclude", item_ids=["t-1", "p-03"], placements=["email"])
    stocked.rule("norway", "exclude", item_ids=["p-09"], audience='{"country": "NO"}')
    stocked.rule("up", "pin", item_ids=["t-7"], position=1)
    assert [row["item_id"] for row in stocked.rows("select * from serving.trending(k => 2)")] == [
        "t-1",
        "t-2",
    ]
    found = stocked.rows("select * from serving.similar_items('p-00', k => 3)")
    assert [row["item_id"] for row in found] == ["p-03", "p-06", "p-09"]
    asked = ["p-01", "p-09", "t-0", "t-7", "p-03"]
    for user, expected in (("ada", ["p-03", "t-7"]), (None, ["p-09", "t-7", "p-03"])):
        found = stocked.rows("select * from serving.rerank(:u, :ids) order by rank", u=user, ids=asked)
        assert [row["item_id"] for row in found] == expected
    stocked.rule("window", "only", item_ids=["p-06", "t-2"])
    assert [row["item_id"] for row in stocked.rows("select * from serving.trending()")] == ["t-2", "p-06"]
    found = stocked.rows("select * from serving.rerank('ada', '{p-03,t-2,p-06}') order by rank")
    assert [row["item_id"] for row in found] == ["p-06", "t-2"]


def test_an_answer_to_a_request_leaves_out_what_is_excluded_in_its_placement(stocked: Shop) -> None:
    stocked.rule("norway", "exclude", item_ids=["p-00"], audience='{"country": "NO"}')
    stocked.rule("by mail", "exclude", item_ids=["p-01"], placements=["email"])
    stocked.rule("up", "pin", item_ids=["t-7"], position=1)
    ask = "select item_id from serving.answer_request(:u, '{p-00,p-01,p-02}', '{3,2,1}', :p) order by rank"
    for user, placement, expected in (
        ("ada", "home", ["p-01", "p-02"]),
        ("ada", "email", ["p-02"]),
        (None, "home", ["p-00", "p-01", "p-02"]),
    ):
        assert [row["item_id"] for row in stocked.rows(ask, u=user, p=placement)] == expected
    stocked.rule("window", "only", item_ids=["p-02", "t-5"])
    assert [row["item_id"] for row in stocked.rows(ask, u="ada", p="home")] == ["p-02"]


def test_a_rule_holds_for_its_audience_only(stocked: Shop) -> None:
    stocked.add_user("bob", '{"country": "SE"}')
    stocked.rule("norway", "exclude", item_ids=["p-00", "t-0"], audience='{"country": "NO"}')
    assert stocked.shown("ada", k=1) == ["p-01"]
    assert stocked.shown("bob", k=1) == ["t-0"]
    assert stocked.shown(None, k=1) == ["t-0"]
    assert stocked.shown(None, k=1, context='{"country": "NO"}') == ["t-1"]
    assert stocked.shown("ada", k=1, context='{"country": "SE"}') == ["p-00"]


def test_a_draft_an_ended_and_a_future_rule_change_nothing(stocked: Shop) -> None:
    now = datetime.now(UTC)
    stocked.rule("draft", "exclude", item_ids=["p-00"], live=False)
    stocked.rule("ended", "exclude", item_ids=["p-00"], valid_until=now - timedelta(seconds=1))
    stocked.rule("future", "exclude", item_ids=["p-00"])
    stocked.execute("update placement_rules set valid_from = now() + interval '1 hour' where rule = 'future'")
    assert stocked.shown("ada", k=1) == ["p-00"]
    stocked.execute("update placement_rules set valid_from = now() where rule = 'draft'")
    assert stocked.shown("ada", k=1) == ["p-01"]


def test_exclusion_beats_every_other_rule(stocked: Shop) -> None:
    stocked.rule("up", "pin", item_ids=["p-00"], position=1, priority=100)
    stocked.rule("some", "at_least", item_ids=["p-00", "p-01"], number=2, priority=100)
    stocked.rule("more", "boost", item_ids=["p-00"], factor=10, priority=100)
    stocked.rule("blocked", "exclude", item_ids=["p-00"], priority=-100)
    assert stocked.shown("ada", k=3) == ["p-01", "p-02", "p-03"]


def test_of_two_pins_at_a_position_the_stronger_has_it_and_then_the_older(stocked: Shop) -> None:
    stocked.rule("first", "pin", item_ids=["p-10"], position=2)
    stocked.rule("second", "pin", item_ids=["p-11"], position=2)
    assert stocked.shown("ada", k=4) == ["p-00", "p-10", "p-11", "p-01"]
    stocked.rule("third", "pin", item_ids=["p-12"], position=2, priority=1)
    assert stocked.shown("ada", k=4) == ["p-00", "p-12", "p-10", "p-11"]
    assert stocked.shown("ada", k=2) == ["p-00", "p-12"]


def test_an_item_pinned_twice_is_where_the_stronger_rule_wants_it(stocked: Shop) -> None:
    stocked.rule("low", "pin", item_ids=["p-10"], position=4)
    stocked.rule("high", "pin", item_ids=["p-10"], position=2, priority=1)
    assert stocked.shown("ada", k=4) == ["p-00", "p-10", "p-01", "p-02"]


def test_a_limit_yields_to_stronger_pins_and_quotas_and_stops_weaker_ones(stocked: Shop) -> None:
    stocked.rule("one lamp", "at_most", filter={"kind": "lamp"}, number=1)
    stocked.rule("two lamps", "at_least", filter={"kind": "lamp"}, number=2)
    stocked.rule("pinned lamp", "pin", item_ids=["p-27"], position=1)
    assert stocked.shown("ada", k=4) == ["p-00", "p-01", "p-02", "p-04"]
    stocked.execute("update placement_rules set priority = 1 where rule = 'two lamps'")
    assert stocked.shown("ada", k=4) == ["p-00", "p-01", "p-02", "p-03"]
    stocked.execute("update placement_rules set priority = 2 where rule = 'pinned lamp'")
    assert stocked.shown("ada", k=4) == ["p-27", "p-00", "p-01", "p-02"]


def test_quotas_that_ask_for_more_than_the_list_holds_are_filled_by_strength(stocked: Shop) -> None:
    stocked.rule("lamps", "at_least", filter={"kind": "lamp"}, number=3)
    stocked.rule("chairs", "at_least", filter={"kind": "chair"}, number=3, priority=1)
    assert stocked.shown("ada", k=4) == ["p-00", "p-01", "p-02", "p-04"]


def test_a_pool_emptied_by_rules_is_filled_up_and_with_all_excluded_the_list_is_empty(stocked: Shop) -> None:
    stocked.rule("pool", "exclude", filter={"kind": ["lamp", "chair"]})
    assert stocked.shown("ada") == TREND
    stocked.rule("rest", "exclude", item_ids=TREND)
    assert stocked.shown("ada") == []
    stocked.rule("up", "pin", item_ids=["p-00"], position=1)
    assert stocked.shown("ada") == []


def test_exclusions_that_touch_no_candidate_leave_propensities_as_they_were(stocked: Shop) -> None:
    drawn = ["p-03", "p-00", "p-01"]
    stocked.add_user("bob")
    stocked.publish("bob", *POOL, list_=drawn, propensities=[0.25, 0.5, 0.75])
    stocked.rule("recalled", "exclude", item_ids=["t-0", "p-29"])
    stocked.rule("adults", "exclude", filter={"rating": "18"})
    assert [row["propensity"] for row in stocked.recommend("bob", k=3)] == [0.25, 0.5, 0.75]
    stocked.rule("candidate", "exclude", item_ids=["p-11"])
    assert [row["propensity"] for row in stocked.recommend("bob", k=3)] == [None] * 3


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("pin", {"item_ids": ["t-0"], "position": 3}),
        ("boost", {"item_ids": ["p-29"], "factor": 2}),
        ("at_most", {"attribute": "kind", "number": 9}),
        ("at_least", {"item_ids": ["t-0"], "number": 1}),
        ("only", {"item_ids": POOL}),
    ],
)
def test_propensities_of_a_drawn_list_that_rules_shape_are_not_known(
    stocked: Shop, kind: str, columns: dict[str, object]
) -> None:
    stocked.rule("some", kind, **columns)
    assert {row["propensity"] for row in stocked.recommend("ada")} == {1.0}
    stocked.add_user("bob")
    stocked.publish("bob", *POOL, list_=["p-03", "p-00", "p-01"], propensities=[1.0, 0.5, 0.75])
    assert {row["propensity"] for row in stocked.recommend("bob", k=1)} == {None}


def test_reactions_order_the_list_that_rules_shape(stocked: Shop) -> None:
    stocked.vectors(**{f"p_{n:02}": [1.0, n / 30] for n in range(30)})
    stocked.rule("top", "pin", item_ids=["p-07"], position=1)
    before = stocked.shown("ada", k=30)
    stocked.react("ada", "like", "p-29")
    after = stocked.shown("ada", k=30)
    assert (before[0], after[0]) == ("p-07", "p-07")
    assert before != after
    assert "p-29" not in after
    assert "live" in {row["source"] for row in stocked.recommend("ada")}


def test_the_diversity_of_a_placement_limits_each_value(stocked: Shop) -> None:
    stocked.execute("update placements set diversity = '{\"kind\": 2}' where placement = 'home'")
    assert stocked.shown("ada", k=6) == ["p-00", "p-01", "p-02", "p-03", *TREND[:2]]
    assert placed_by(stocked) == {}
    # Every rule is stronger.
    stocked.rule("lamps", "at_least", filter={"kind": "lamp"}, number=4, placements=["home"])
    assert stocked.shown("ada", k=6)[-1] == "p-09"
    assert stocked.shown("ada", k=4, placement="email") == ["p-00", "p-01", "p-02", "p-03"]


@pytest.mark.parametrize(
    "diversity", ["[]", '{"kind": 0}', '{"kind": "2"}', '{"kind": 1.5}', '{"kind": 1e9}']
)
def test_a_diversity_that_is_no_limit_is_refused(stocked: Shop, diversity: str) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="placements_diversity_check"):
        stocked.execute("update placements set diversity = cast(:d as jsonb)", {"d": diversity})
