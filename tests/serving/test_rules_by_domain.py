"""What a shop, a newsroom, a video and a music service ask of rules."""

import json

from tests.serving.conftest import Shop


def stock(shop: Shop, attribute: str, **values: object) -> None:
    """Add items, each with a value of an attribute, and publish them to Ada in this order."""
    for item, value in values.items():
        shop.add_items(item, attributes=json.dumps({attribute: value}))
    shop.add_user("ada")
    shop.publish("ada", *values)


def test_a_shop_sells_what_earns_more_and_not_what_is_out_of_stock(shop: Shop) -> None:
    stock(shop, "margin", desk=5, lamp=40, chair=10, sofa=45, table=30, rug=8)
    shop.rule("margin", "boost", filter={"margin": {"min": 30}}, factor=3)
    shop.rule("campaign", "pin", item_ids=["sofa", "rug"], position=1, placements=["home"])
    assert shop.shown("ada", k=4) == ["sofa", "rug", "lamp", "desk"]
    shop.execute("update items set available = false where item_id in ('sofa', 'lamp')")
    assert shop.shown("ada", k=4) == ["rug", "desk", "table", "chair"]
    shop.react("ada", "purchase", "rug")
    assert shop.shown("ada", k=3) == ["desk", "table", "chair"]
    assert shop.shown("ada", k=2, placement="email") == ["desk", "table"]


def test_a_newsroom_mixes_its_sections_and_pins_breaking_news(shop: Shop) -> None:
    stock(shop, "section", s1="sport", s2="sport", s3="sport", p1="politics", s4="sport", c1="culture")
    shop.execute("update placements set diversity = '{\"section\": 2}' where placement = 'home'")
    assert shop.shown("ada", k=4) == ["s1", "s2", "p1", "c1"]
    shop.add_items("s9", attributes='{"section": "sport"}')
    shop.rule("breaking", "pin", item_ids=["s9"], position=1, reason="Breaking news")
    rows = shop.recommend("ada", k=4)
    assert [row["item_id"] for row in rows] == ["s9", "s1", "p1", "c1"]
    assert (rows[0]["reason"], rows[0]["rule"]) == ("Breaking news", "breaking")
    assert shop.shown(None, k=1) == ["s9"]
    shop.execute("update placement_rules set valid_until = now()")
    assert shop.shown("ada", k=2) == ["s1", "s2"]


def test_a_video_service_blocks_titles_and_keeps_children_to_what_is_for_them(shop: Shop) -> None:
    stock(shop, "age", horror=18, cartoon=0, thriller=16, comedy=12, nature=0)
    shop.add_user("kim", '{"profile": "child"}')
    shop.publish("kim", "horror", "thriller", "nature", "cartoon")
    shop.rule("licence ended", "exclude", item_ids=["comedy"])
    shop.rule("children", "only", filter={"age": {"max": 6}}, audience='{"profile": "child"}')
    assert shop.shown("ada") == ["horror", "cartoon", "thriller", "nature"]
    assert shop.shown("kim") == ["nature", "cartoon"]
    assert shop.shown("ada", context='{"profile": "child"}') == ["cartoon", "nature"]
    found = shop.rows("select * from serving.trending(k => 9)")
    assert "comedy" not in {row["item_id"] for row in found}


def test_a_music_service_plays_one_track_an_artist_and_some_that_are_new(shop: Shop) -> None:
    stock(shop, "artist", a1="Abba", a2="Abba", b1="Bowie", ab=["Abba", "Bowie"], c1="Can", c2="Can")
    shop.execute("update placements set diversity = '{\"artist\": 1}'")
    assert shop.shown("ada", k=5) == ["a1", "b1", "c1"]
    shop.add_items("n1", "n2", attributes='{"artist": "New", "year": 2026}')
    shop.rule("new music", "at_least", filter={"year": {"min": 2026}}, number=1)
    rows = shop.recommend("ada", k=3)
    assert [row["item_id"] for row in rows][:2] == ["a1", "b1"]
    assert (rows[2]["rule"], rows[2]["item_id"]) == ("new music", "n2")
