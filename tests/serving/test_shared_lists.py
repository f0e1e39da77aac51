"""What is trending and popular, for all and by segment."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from recsys.serving.shared_lists import refresh_fast_trends, refresh_shared_lists
from recsys.settings import ServingSettings
from tests.serving.conftest import Shop

NOW = datetime.now(UTC)
HOUR_AGO = NOW - timedelta(hours=1)
BY_COUNTRY = ServingSettings(trending_days=4, segment_attribute="country")


def lists(shop: Shop, kind: str, segment: str = "") -> list[str]:
    found = shop.rows(
        "select item_ids from shared_lists where kind = :kind and segment = :segment",
        kind=kind,
        segment=segment,
    )
    return found[0]["item_ids"] if found else []


def refresh(shop: Shop, settings: ServingSettings = BY_COUNTRY, at: datetime = NOW) -> list[str]:
    return refresh_shared_lists(shop.engine, settings, at=at)


@pytest.fixture
def market(shop: Shop) -> Shop:
    """Forty people: an old favourite, a new one, and one that only Norwegians like."""
    shop.add_items("old", "new", "norse", "lone")
    for number in range(40):
        shop.add_user(f"u{number}", f'{{"country": "{"NO" if number < 8 else "SE"}"}}')
    for number in range(30):
        shop.react(f"u{number}", "like", "old", occurred_at=NOW - timedelta(days=100))
    for number in range(20):
        shop.react(f"u{number}", "like", "new", occurred_at=NOW - timedelta(hours=2))
    for number in range(8):
        shop.react(f"u{number}", "like", "norse", occurred_at=NOW - timedelta(hours=1))
    shop.react("u0", "purchase", "lone", occurred_at=NOW - timedelta(hours=1))
    return shop


def test_lately_and_of_all_time_differ(market: Shop) -> None:
    assert refresh(market) == ["trending", "popular"]
    assert lists(market, "popular") == ["old", "new", "norse", "lone"]
    assert lists(market, "trending") == ["new", "norse", "lone"]


def test_trends_fade_as_soon_as_the_published_model_found(market: Shop) -> None:
    """In a newsroom eight readers of the last hour outweigh twenty of the hour before."""
    market.publish("u0", "old")
    market.execute(
        "insert into model_versions (model_version, kind, base_transaction_id, trained_transaction_id,"
        " live_trending_half_life_days) values ('7', 'full', 0, 0, 0.02)"
    )
    refresh(market)
    assert lists(market, "trending") == ["norse", "new", "lone"]
    assert lists(market, "trending", "SE") == ["new"]


def test_only_trends_that_fade_within_a_day_are_renewed_between_publications(market: Shop) -> None:
    settings, later = ServingSettings(), NOW + timedelta(minutes=10)
    refresh(market)
    market.publish("u0", "old")
    market.execute(
        "insert into model_versions (model_version, kind, base_transaction_id, trained_transaction_id,"
        " live_trending_half_life_days) values ('7', 'full', 0, 0, 1.5), ('8', 'full', 0, 0, 1)"
    )
    for number in range(30):
        market.react(f"u{number}", "like", "old", occurred_at=NOW + timedelta(minutes=5))
    assert not refresh_fast_trends(market.engine, settings, at=later)
    assert lists(market, "trending") == ["new", "norse", "lone"]
    market.execute("update publications set model_version = '8'")
    assert refresh_fast_trends(market.engine, settings, at=later)
    assert lists(market, "trending")[0] == "old"


def test_a_half_life_that_is_longer_than_the_setting_says_changes_nothing(market: Shop) -> None:
    market.publish("u0", "old")
    market.execute(
        "insert into model_versions (model_version, kind, base_transaction_id, trained_transaction_id,"
        " live_trending_half_life_days) values ('7', 'full', 0, 0, 90)"
    )
    refresh(market)
    assert lists(market, "trending") == ["new", "norse", "lone"]


@pytest.mark.parametrize(("half_life_days", "first"), [("null", "old"), ("1", "new")])
def test_only_a_half_life_that_was_found_counts_beside_the_setting(
    market: Shop, half_life_days: str, first: str
) -> None:
    """With a half-life of 500 days, thirty of a hundred days ago are more than twenty of today."""
    market.publish("u0", "old")
    market.execute(
        "insert into model_versions (model_version, kind, base_transaction_id, trained_transaction_id,"
        f" live_trending_half_life_days) values ('7', 'full', 0, 0, {half_life_days})"
    )
    refresh(market, ServingSettings(trending_days=2_000))
    assert lists(market, "trending")[0] == first


def test_what_is_a_hundred_half_lives_old_trends_no_more(market: Shop) -> None:
    """Its weight would be too small for Postgres to store."""
    market.publish("u0", "old")
    market.execute(
        "insert into model_versions (model_version, kind, base_transaction_id, trained_transaction_id,"
        " live_trending_half_life_days) values ('7', 'full', 0, 0, 0.01)"
    )
    for number in range(30):
        market.react(f"u{number}", "like", "old", occurred_at=NOW - timedelta(hours=24.9))
    refresh(market)
    assert lists(market, "trending") == ["norse", "new", "lone", "old"]
    for number in range(30):
        market.react(f"u{number}", "like", "norse", occurred_at=NOW)
    refresh(market)
    assert lists(market, "trending") == ["norse", "new", "lone"]


def test_a_segment_has_what_five_of_its_people_wanted(market: Shop) -> None:
    refresh(market)
    assert lists(market, "trending", "NO") == ["norse", "new"]
    assert lists(market, "trending", "SE") == ["new"]
    assert market.recommend("u39", k=1)[0]["source"] == "segment"
    assert [row["item_id"] for row in market.rows("select * from serving.trending('NO', 9)")] == [
        "norse", "new", "lone", "old",
    ]  # fmt: skip


def test_an_attribute_of_ten_thousand_values_has_lists_for_the_most_common_ones(
    market: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("recsys.serving.shared_lists.MOST_SEGMENTS", 2)
    long = "x" * 10_000
    market.execute(
        "insert into users (user_id, attributes)"
        " select 'p' || number, jsonb_build_object('country', 'place ' || number % 10000)"
        " from generate_series(0, 29999) as number"
    )
    market.execute(
        "insert into users (user_id, attributes)"
        " select left(place, 2) || number, jsonb_build_object('country', place)"
        f" from unnest(array['FI', 'IS', '{long}']) as place, generate_series(1, 9) as number"
    )
    market.execute(
        "insert into feedback (user_id, item_id, event_type)"
        " select user_id, 'norse', 'like' from users where user_id !~ '^u'"
    )
    refresh(market, at=datetime.now(UTC))
    found = market.rows("select segment from shared_lists where kind = 'trending' order by 1")
    assert [row["segment"] for row in found] == ["", "FI", "SE"]
    assert "has very many values; the 2 that most people share have lists" in caplog.text
    assert market.recommend("p7", k=1)  # from the list of all


def test_without_the_setting_there_are_no_segments(market: Shop) -> None:
    refresh(market)
    refresh(market, ServingSettings(), NOW)
    assert market.rows("select * from shared_lists where kind = 'trending' and attribute <> ''") == []


def test_a_person_counts_once_and_dislikes_and_returns_do_not(shop: Shop) -> None:
    shop.add_items("pushed", "liked", "disliked", "returned")
    shop.execute("update event_types set value_is_amount = true where event_type = 'purchase'")
    for user in ("a", "b"):
        shop.add_user(user)
        shop.react(user, "like", "liked", occurred_at=HOUR_AGO)
        shop.react(user, "dislike", "disliked", occurred_at=HOUR_AGO)
        shop.react(user, "rating", "disliked", value=1, occurred_at=HOUR_AGO)
        shop.react(user, "purchase", "returned", value=-1, occurred_at=HOUR_AGO)
    shop.react("a", "like", *["pushed"] * 100, occurred_at=HOUR_AGO)
    refresh(shop)
    assert lists(shop, "popular") == lists(shop, "trending") == ["liked", "pushed"]


def test_who_may_not_be_trained_on_does_not_count(shop: Shop) -> None:
    shop.add_items("secret")
    shop.add_user("shy", consent=False)
    shop.react("shy", "like", "secret", occurred_at=HOUR_AGO)
    refresh(shop)
    assert shop.rows("select * from shared_lists") == []
    shop.execute("update users set consent = true")
    refresh(shop)
    assert lists(shop, "trending") == ["secret"]


def test_a_log_that_ended_long_ago_has_trends_and_a_future_event_does_not_count(shop: Shop) -> None:
    shop.add_items("a", "b", "future")
    shop.add_user("u")
    shop.react("u", "like", "a", occurred_at=NOW - timedelta(days=3000))
    shop.react("u", "like", "b", occurred_at=NOW - timedelta(days=3001))
    shop.react("u", "like", "future", occurred_at=NOW + timedelta(days=300))
    refresh(shop)
    assert lists(shop, "trending") == ["a", "b"]


def test_withdrawn_and_unknown_items_are_not_listed(market: Shop) -> None:
    market.execute("update items set available = false where item_id = 'new'")
    market.react("u1", "like", "not in the catalogue")
    refresh(market)
    assert lists(market, "trending") == ["norse", "lone"]


def test_what_is_popular_is_counted_once_a_day_and_what_is_trending_each_time(market: Shop) -> None:
    refresh(market)
    market.react("u30", "like", "lone")
    assert refresh(market) == ["trending"]
    assert refresh(market, at=NOW + timedelta(hours=21)) == ["trending", "popular"]


def test_two_refreshes_at_once_leave_one_set_of_lists(market: Shop) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: refresh(market), range(4)))
    assert len(market.rows("select * from shared_lists where kind = 'trending' and attribute = ''")) == 1


def test_an_empty_warehouse_has_no_lists(shop: Shop) -> None:
    refresh(shop)
    assert shop.rows("select * from shared_lists") == []
    assert shop.rows("select * from serving.trending()") == []
