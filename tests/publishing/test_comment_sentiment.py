"""Average predicted sentiment of comments, which reveals nobody's comment."""

from datetime import timedelta
from typing import Any

import pytest

from recsys.publishing.comment_sentiment import MIN_PEOPLE
from recsys.publishing.publish import publish
from recsys.warehouse.analytics import install_analytics
from tests.publishing.shop import ITEMS, START, USERS, Shop


def comment(shop: Shop, item: str, *texts: str, user: int = 1, hours: float = 30) -> None:
    """Write each text as a different user, starting with user number `user`."""
    shop.execute(
        "insert into feedback (user_id, item_id, event_type, comment, occurred_at)"
        " values (:user, :item, 'comment', :text, :at)",
        *(
            {"user": USERS[user + n], "item": item, "text": text, "at": START + timedelta(hours=hours + n)}
            for n, text in enumerate(texts)
        ),
    )


def sentiment(shop: Shop, run_key: str, scope: Any = "all") -> dict[str, tuple[Any, ...]]:
    """Publish and return what an analyst sees, by item."""
    publish(shop.engine, shop.settings, scope=scope, run_key=run_key, load=shop.load)
    install_analytics(shop.engine)
    rows = shop.rows("select * from analytics.predicted_comment_sentiment")
    return {
        row["item_id"]: (
            row["comments"],
            pytest.approx(row["average_value"], abs=1e-6),
            pytest.approx(row["average_sentiment"], abs=1e-6),
            row["model_version"],
        )
        for row in rows
    }


def test_an_item_has_an_average_if_enough_people_commented(shop: Shop) -> None:
    comment(shop, ITEMS[0], "good", "good", "bad", "so so", "good", "so")
    comment(shop, ITEMS[1], *["good"] * (MIN_PEOPLE - 1))
    shop.close_window()
    assert sentiment(shop, "a") == {ITEMS[0]: (6, 4 / 6, 2 / 6, "1")}


def test_comments_that_are_not_understood_are_not_counted(shop: Shop) -> None:
    comment(shop, ITEMS[0], *["good"] * MIN_PEOPLE, "👎👎", "太差了")
    comment(shop, ITEMS[1], *["good"] * (MIN_PEOPLE - 1), "👍", "👍")
    shop.close_window()
    assert sentiment(shop, "a") == {ITEMS[0]: (MIN_PEOPLE, 1, 1, "1")}


def test_only_the_latest_comment_of_each_person_counts(shop: Shop) -> None:
    for hours in range(20):
        comment(shop, ITEMS[0], "bad", user=3, hours=hours)
    comment(shop, ITEMS[0], *["good"] * (MIN_PEOPLE - 2), user=4)
    shop.close_window()
    assert sentiment(shop, "a") == {}
    comment(shop, ITEMS[0], "good", user=20)
    shop.close_window()
    assert sentiment(shop, "b") == {ITEMS[0]: (5, 0.8, 0.6, "1")}


def test_unvalidated_comments_and_those_without_consent_are_not_read(shop: Shop) -> None:
    comment(shop, ITEMS[0], *["good"] * MIN_PEOPLE)
    shop.execute("update users set consent = false where user_id = :user", {"user": USERS[1]})
    shop.close_window()
    comment(shop, ITEMS[0], "good", user=20)  # after the last window: not validated
    assert sentiment(shop, "a") == {}


def test_a_publication_for_all_users_renews_averages_and_another_keeps_them(shop: Shop) -> None:
    comment(shop, ITEMS[0], *["good"] * MIN_PEOPLE)
    shop.close_window()
    first = sentiment(shop, "a")
    assert first == {ITEMS[0]: (5, 1, 1, "1")}
    comment(shop, ITEMS[2], *["bad"] * MIN_PEOPLE, hours=60)
    shop.execute("delete from feedback where item_id = :item and comment = 'good'", {"item": ITEMS[0]})
    shop.close_window()
    assert sentiment(shop, "b", "affected") == first
    shop.promote("2")
    assert sentiment(shop, "c") == {ITEMS[2]: (5, 0, -1, "2")}
    shop.promote("9")  # has not learned to read
    assert sentiment(shop, "d") == {}


def test_no_comment_is_read_when_it_is_turned_off(shop: Shop) -> None:
    comment(shop, ITEMS[0], *["good"] * MIN_PEOPLE)
    shop.close_window()
    publishing = shop.settings.publishing.model_copy(update={"comments_read": 0})
    shop.settings = shop.settings.model_copy(update={"publishing": publishing})
    assert sentiment(shop, "a") == {}
