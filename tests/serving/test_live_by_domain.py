"""What a shop, a newsroom and a music service see of live interest, with the event types of their recipes."""

from datetime import UTC, datetime, timedelta

from recsys.warehouse.statements import read_statement
from tests.serving.conftest import Shop


def stock(shop: Shop, recipe: str, first: list[str], second: list[str]) -> None:
    """Apply a recipe, and publish items of two kinds to Ada, all of the first kind before the second."""
    shop.execute(read_statement(f"recipes/{recipe}"))
    shop.add_items(*first, *second)
    shop.vectors(
        **{item.replace("-", "_"): [1.0, n / 100] for n, item in enumerate(first)},
        **{item.replace("-", "_"): [-1.0, n / 100] for n, item in enumerate(second)},
    )
    shop.add_user("ada")
    shop.publish("ada", *first, *second)
    shop.share("trending", *first, *second)


def test_in_a_shop_what_was_viewed_stays_what_was_bought_rests_and_a_return_lowers(shop: Shop) -> None:
    chairs, lamps = [f"chair-{n}" for n in range(12)], [f"lamp-{n}" for n in range(6)]
    stock(shop, "shop", chairs, lamps)
    shop.execute("update items set rest_days = 365 where item_id = 'lamp-2'")
    shop.react("ada", "view", *lamps[:2])
    assert {"lamp-2", "lamp-3", "lamp-4", "lamp-5"} <= set(shop.shown("ada", k=10))
    assert {"lamp-0", "lamp-1"} <= set(shop.shown("ada", k=18))
    shop.react("ada", "purchase", "lamp-2", "lamp-3", value=20)
    assert "lamp-2" not in shop.shown("ada", k=18)
    assert "lamp-3" in shop.shown("ada", k=18)
    shop.add_user("bob")
    shop.publish("bob", *chairs, *lamps)
    shop.react("bob", "purchase", *chairs[:2], value=-20)
    assert set(lamps) <= set(shop.shown("bob", k=12))


def test_in_a_newsroom_a_visitor_reads_on_and_nothing_that_has_ended_is_shown(shop: Shop) -> None:
    politics, sport = [f"politics-{n}" for n in range(12)], [f"sport-{n}" for n in range(8)]
    stock(shop, "newsroom", politics, sport)
    past = datetime.now(UTC) - timedelta(minutes=1)
    shop.execute("update items set available_until = :past where item_id = 'sport-7'", {"past": past})
    shop.react(None, "view", *sport[:3], session_id="s-1")
    rows = shop.recommend(None, session="s-1", k=5)
    assert [row["source"] for row in rows[:4]] == ["live"] * 4
    assert {row["item_id"] for row in rows[:4]} == {"sport-3", "sport-4", "sport-5", "sport-6"}
    assert len(shop.shown(None, session="s-1", k=20)) == 16  # neither what was read nor what has ended


def test_in_a_music_service_a_track_rests_an_hour_and_a_skip_lowers(shop: Shop) -> None:
    rock, jazz = [f"rock-{n}" for n in range(12)], [f"jazz-{n}" for n in range(6)]
    stock(shop, "music", rock, jazz)
    shop.react("ada", "listen", "jazz-0", occurred_at=datetime.now(UTC) - timedelta(hours=2))
    shop.react("ada", "listen", "jazz-1")
    shown = shop.shown("ada", k=18)
    assert {"jazz-2", "jazz-3", "jazz-4", "jazz-5"} <= set(shown[:6])
    assert "jazz-0" in shown
    assert "jazz-1" not in shown
    shop.react("ada", "skip", "jazz-2")
    shop.react("ada", "skip", "jazz-3")
    assert not set(jazz) & set(shop.shown("ada", k=10))
