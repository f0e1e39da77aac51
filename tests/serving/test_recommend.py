"""`serving.recommend`: what is shown, to whom, in which order, and where it comes from."""

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tests.serving.conftest import Shop

POOL = [f"p-{number:02}" for number in range(30)]
TREND = [f"t-{number}" for number in range(8)]
BEST = [f"b-{number}" for number in range(8)]


@pytest.fixture
def stocked(shop: Shop) -> Shop:
    """Ada has a pool of 30; there are a trending and a popular list."""
    shop.add_items(*POOL, *TREND, *BEST)
    shop.add_user("ada")
    shop.publish("ada", *POOL)
    shop.share("trending", *TREND)
    shop.share("popular", TREND[0], *BEST)
    return shop


def sources(rows: list[dict[str, object]]) -> list[object]:
    return [row["source"] for row in rows]


def test_a_user_gets_the_first_of_the_pool_with_title_reason_and_version(stocked: Shop) -> None:
    rows = stocked.recommend("ada")
    assert [row["item_id"] for row in rows] == POOL[:10]
    assert [row["rank"] for row in rows] == list(range(1, 11))
    assert rows[0] == {
        "rank": 1, "item_id": "p-00", "title": "Title of p-00", "score": 1.0, "reason": "because of p-00",
        "source": "personal", "propensity": 1.0, "model_version": "7", "placement": "home",
        "rule": None,
    }  # fmt: skip
    assert stocked.recommend("ada", k=25)[24]["reason"] == ""


def test_an_item_without_a_title_is_named_by_its_id(stocked: Shop) -> None:
    stocked.execute("update items set title = '' where item_id = 'p-00'")
    assert stocked.recommend("ada", k=1)[0]["title"] == "p-00"


def test_an_unknown_user_and_a_visitor_get_what_is_trending_then_popular_without_repeats(
    stocked: Shop,
) -> None:
    for user, arguments in (("nobody", {}), (None, {}), (None, {"session": "s-1"})):
        rows = stocked.recommend(user, k=12, **arguments)
        assert [row["item_id"] for row in rows] == [*TREND, *BEST[:4]]
        assert sources(rows) == ["trending"] * 8 + ["popular"] * 4
        assert {row["model_version"] for row in rows} == {None}
        assert rows[0]["reason"] == "Popular right now"


def test_a_short_pool_is_filled_up_in_the_documented_order(stocked: Shop) -> None:
    stocked.add_items("s-0", "s-1")
    stocked.add_user("bob", '{"country": "NO"}')
    stocked.share("trending", "s-0", "p-01", "s-1", attribute="country", segment="NO")
    stocked.publish("bob", "p-00", "p-01")
    rows = stocked.recommend("bob", k=14)
    assert sources(rows) == ["personal"] * 2 + ["segment"] * 2 + ["trending"] * 8 + ["popular"] * 2
    assert len({row["item_id"] for row in rows}) == 14
    assert sources(stocked.recommend("carl", k=2, context='{"country": "NO"}')) == ["segment"] * 2
    assert sources(stocked.recommend("carl", k=2, context='{"country": "SE"}')) == ["trending"] * 2


def test_an_item_that_no_list_has_is_the_last_resort(shop: Shop) -> None:
    assert shop.recommend("anybody") == []
    shop.add_items("first", attributes='{"kind": "lamp"}')
    shop.add_items("second", "third", available=False)
    rows = shop.recommend("anybody")
    assert [(row["item_id"], row["source"]) for row in rows] == [("first", "new")]


def test_what_is_not_available_now_is_not_shown(stocked: Shop) -> None:
    now = datetime.now(UTC)
    stocked.execute(
        "update items set available = coalesce(:a, available), available_from = :f, available_until = :t"
        " where item_id = :i",
        {"i": "p-00", "a": False, "f": None, "t": None},
        {"i": "p-01", "a": None, "f": now + timedelta(hours=1), "t": None},
        {"i": "p-02", "a": None, "f": None, "t": now - timedelta(seconds=1)},
        {"i": "p-03", "a": None, "f": now - timedelta(days=2), "t": now + timedelta(days=2)},
    )
    stocked.execute("delete from items where item_id = 'p-04'")
    assert stocked.shown("ada", k=3) == ["p-03", "p-05", "p-06"]
    assert stocked.shown("ada", k=30)[-4:] == TREND[:4]


def test_of_the_variants_of_one_thing_one_is_shown(stocked: Shop) -> None:
    stocked.execute("update items set variant_of = 'p-00' where item_id in ('p-01', 't-0')")
    stocked.execute("update items set variant_of = 'lamps' where item_id in ('p-02', 'p-03', 'b-0')")
    shown = stocked.shown("ada", k=40)
    assert shown[:3] == ["p-00", "p-02", "p-04"]
    assert not {"p-01", "p-03", "t-0", "b-0"} & set(shown)


def test_what_a_user_had_leaves_the_list_at_once(stocked: Shop) -> None:
    stocked.react("ada", "purchase", "p-00", "p-02")
    assert stocked.shown("ada", k=2) == ["p-01", "p-03"]


def test_an_event_that_hides_nothing_or_no_longer_leaves_its_item_on_the_list(stocked: Shop) -> None:
    stocked.execute("update event_types set hide_days = 0 where event_type = 'view'")
    stocked.execute("update event_types set hide_days = 2 where event_type = 'purchase'")
    stocked.execute("update placements set live = false")
    past = datetime.now(UTC) - timedelta(days=3)
    stocked.react("ada", "view", "p-00")
    stocked.react("ada", "purchase", "p-01", occurred_at=past)
    stocked.react("ada", "purchase", "p-02")
    assert stocked.shown("ada", k=3) == ["p-00", "p-01", "p-03"]
    stocked.execute("update items set rest_days = 30 where item_id = 'p-01'")
    stocked.execute("insert into rest_periods (attribute, value, rest_days) values ('kind', 'milk', 0)")
    stocked.execute("""update items set attributes = '{"kind": ["milk"]}' where item_id = 'p-02'""")
    assert stocked.shown("ada", k=3) == ["p-00", "p-02", "p-03"]


def test_fallback_lists_leave_out_what_the_user_had_long_ago(stocked: Shop) -> None:
    stocked.react("ada", "like", "t-0", "b-0", occurred_at=datetime.now(UTC) - timedelta(days=400))
    stocked.publish("ada", "p-00")
    assert stocked.shown("ada", k=4) == ["p-00", "t-1", "t-2", "t-3"]
    assert stocked.shown("ada", k=15)[-1] == "b-7"
    assert not {"t-0", "b-0"} & set(stocked.shown("ada", k=100))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"kind": "lamp"}, ["p-10", "p-20", "p-25"]),
        ({"kind": "chair"}, ["p-20"]),
        ({"kind": ["chair", "table"]}, ["p-15", "p-20"]),
        ({"kind": "lamp", "price": {"max": 20}}, ["p-10"]),
        ({"price": {"min": 30, "max": 40}}, ["p-20"]),
        ({"sold": True}, ["p-25"]),
        ({"kind": []}, []),
        ({"absent": "x"}, []),
        ({'ki"nd) || (true': "x"}, []),
        ({"kind": '" || true || "'}, []),
    ],
)
def test_a_filter_chooses_by_attributes(stocked: Shop, wanted: object, expected: list[str]) -> None:
    attributes = {
        "p-10": {"kind": "lamp", "price": 10},
        "p-15": {"kind": "table"},
        "p-20": {"kind": ["lamp", "chair"], "price": 30.5},
        "p-25": {"kind": "lamp", "price": 90, "sold": True},
    }
    stocked.execute(
        "update items set attributes = cast(:a as jsonb) where item_id = :i",
        *({"i": item_id, "a": json.dumps(values)} for item_id, values in attributes.items()),
    )
    assert stocked.shown("ada", filter=json.dumps(wanted)) == expected


def test_a_filter_that_no_list_can_fill_reads_the_catalogue(stocked: Shop) -> None:
    stocked.add_items("rare", attributes='{"kind": "rare"}')
    stocked.execute("update placements set filter = '{\"kind\": \"rare\"}' where placement = 'email'")
    for arguments in ({"filter": '{"kind": "rare"}'}, {"placement": "email"}):
        rows = stocked.recommend("ada", **arguments)
        assert [(row["item_id"], row["source"]) for row in rows] == [("rare", "new")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"placement": "hom"}, "there is no placement 'hom'"),
        ({"placement": None}, "there is no placement NULL"),
        ({"placement": "x'; drop table items; --"}, "there is no placement"),
        ({"k": 0}, "k is 0"),
        ({"k": -1}, "k is -1"),
        ({"k": 1_000_000}, "k is 1000000"),
        ({"filter": "[1]"}, "filter is a JSON array"),
        ({"filter": '{"a": {"near": 1}}'}, '"near" is not a bound'),
        ({"filter": '{"a": [[1]]}'}, "contains a JSON array"),
    ],
)
def test_a_mistake_is_an_error_with_a_hint(stocked: Shop, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(sa.exc.DBAPIError, match=message) as raised:
        stocked.recommend("ada", **arguments)
    assert raised.value.orig is not None
    assert raised.value.orig.diag.message_hint  # type: ignore[attr-defined]
    assert len(stocked.rows("select * from items")) == 46


@pytest.mark.parametrize("user", ["x" * 10_000, "'; drop table users; --", "%", "\\", "é\u202e", ""])
def test_a_strange_user_id_is_an_unknown_user(stocked: Shop, user: str) -> None:
    assert sources(stocked.recommend(user, k=1)) == ["trending"]
    assert sources(stocked.recommend(None, session=user, k=1)) == ["trending"]
    assert stocked.shown("ada", k=1, exclude=[user], context=json.dumps({user or "x": user})) == ["p-00"]


def test_100_000_exclusions_are_honoured_in_every_source(stocked: Shop) -> None:
    excluded = [f"x-{number}" for number in range(100_000)] + POOL[:28] + TREND
    assert stocked.shown("ada", k=4, exclude=excluded) == ["p-28", "p-29", "b-0", "b-1"]
    assert stocked.shown("ada", k=1, exclude=[*POOL, *TREND, *BEST]) == []
    assert stocked.shown("ada", k=1, exclude=[None, "p-00"]) == ["p-01"]


def test_who_has_watched_nothing_gets_the_fallback_of_because_you_watched(stocked: Shop) -> None:
    for visitor in (None, "nobody"):
        assert sources(stocked.recommend(visitor, placement="because_you_watched", k=1)) == ["trending"]


def test_a_list_ends_where_nothing_more_qualifies(stocked: Shop) -> None:
    assert len(stocked.recommend("ada", k=1000)) == 46


def test_readers_see_the_old_lists_while_a_publication_is_in_progress(stocked: Shop) -> None:
    with stocked.engine.connect() as publisher:
        publisher.exec_driver_sql(
            "update recommendation_lists set pool_item_ids = '{t-0}', pool_scores = '{1}'"
        )
        publisher.exec_driver_sql("delete from shared_lists")
        seen: list[list[str]] = []
        reader = threading.Thread(target=lambda: seen.append(stocked.shown("ada", k=32)))
        reader.start()
        reader.join(30)
        publisher.rollback()
    assert seen == [[*POOL, *TREND[:2]]]


def test_a_drawn_list_keeps_its_propensities_only_where_nothing_has_changed(stocked: Shop) -> None:
    drawn = ["p-03", "p-00", "p-01"]
    stocked.add_user("bob")
    stocked.publish("bob", *POOL[:6], list_=drawn, propensities=[0.25, 0.5, 0.75])
    rows = stocked.recommend("bob", k=7)
    assert [row["item_id"] for row in rows] == [*drawn, "p-02", "p-04", "p-05", "t-0"]
    assert [row["propensity"] for row in rows] == [0.25, 0.5, 0.75, None, None, None, None]
    assert [row["propensity"] for row in stocked.recommend("bob", k=2, exclude=["p-29"])] == [None, None]
    assert [row["propensity"] for row in stocked.recommend("bob", k=2, filter='{"a": "b"}')] == []
    email = stocked.recommend("bob", placement="email")
    assert [(row["item_id"], row["propensity"]) for row in email[:2]] == [("p-00", 1.0), ("p-01", 1.0)]
    stocked.execute("update items set available = false where item_id = 'p-04'")
    assert [row["propensity"] for row in stocked.recommend("bob", k=2)] == [None, None]


def test_the_newest_and_what_is_popular_can_be_placements_of_their_own(stocked: Shop) -> None:
    stocked.execute(
        "insert into placements (placement, length, logic, fallback) values"
        " ('new', 3, 'new', '{}'), ('charts', 3, 'popular', '{personal}')"
    )
    stocked.add_items("latest")
    assert stocked.shown("ada", placement="new")[0] == "latest"
    assert stocked.shown("ada", placement="charts") == ["t-0", "b-0", "b-1"]
    assert sources(stocked.recommend("ada", placement="charts", k=11))[-2:] == ["personal", "personal"]


def test_a_reading_function_changes_nothing(stocked: Shop) -> None:
    rows = stocked.rows("select proname from pg_proc where pronamespace = 'serving'::regnamespace"
                        " and prosecdef and provolatile = 'v'")  # fmt: skip
    assert rows == []
