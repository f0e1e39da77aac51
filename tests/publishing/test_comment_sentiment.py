"""What the champion reads in the comments on items, in averages that show nobody's comment."""

from datetime import timedelta
from typing import Any

import pytest

from recsys.publishing.comment_sentiment import LEAST_PEOPLE
from recsys.publishing.publish import publish
from recsys.warehouse.analytics import install_analytics
from tests.publishing.shop import ITEMS, START, USERS, Shop


def comment(shop: Shop, item: str, *texts: str, user: int = 1, hours: float = 30) -> None:
    """Write each text as another user, from a number on."""
    shop.execute(
        "insert into feedback (user_id, item_id, event_type, comment, occurred_at)"
        " values (:user, :item, 'comment', :text, :at)",
        *(
            {"user": USERS[user + n], "item": item, "text": text, "at": START + timedelta(hours=hours + n)}
            for n, text in enumerate(texts)
        ),
    )


def sentiment(shop: Shop, run_key: str, scope: Any = "all") -> dict[str, tuple[Any, ...]]:
    """Publish, then read what an analyst sees."""
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


def test_an_item_shows_the_average_of_what_enough_people_wrote(shop: Shop) -> None:
    comment(shop, ITEMS[0], "good", "good", "bad", "so so", "good", "so")
    comment(shop, ITEMS[1], *["good"] * (LEAST_PEOPLE - 1))
    shop.close_window()
    assert sentiment(shop, "a") == {ITEMS[0]: (6, 4 / 6, 2 / 6, "1")}


def test_only_the_latest_comment_of_a_person_counts(shop: Shop) -> None:
    for hours in range(20):
        comment(shop, ITEMS[0], "bad", user=3, hours=hours)
    comment(shop, ITEMS[0], *["good"] * (LEAST_PEOPLE - 2), user=4)
    shop.close_window()
    assert sentiment(shop, "a") == {}
    comment(shop, ITEMS[0], "good", user=20)
    shop.close_window()
    assert sentiment(shop, "b") == {ITEMS[0]: (5, 0.8, 0.6, "1")}


def test_comments_that_may_not_be_read_are_not(shop: Shop) -> None:
    comment(shop, ITEMS[0], *["good"] * LEAST_PEOPLE)
    shop.execute("update users set consent = false where user_id = :user", {"user": USERS[1]})
    shop.close_window()
    comment(shop, ITEMS[0], "good", user=20)  # after the last window: not validated
    assert sentiment(shop, "a") == {}


def test_a_publication_for_everyone_renews_it_and_another_leaves_it(shop: Shop) -> None:
    comment(shop, ITEMS[0], *["good"] * LEAST_PEOPLE)
    shop.close_window()
    first = sentiment(shop, "a")
    assert first == {ITEMS[0]: (5, 1, 1, "1")}
    comment(shop, ITEMS[2], *["bad"] * LEAST_PEOPLE, hours=60)
    shop.execute("delete from feedback where item_id = :item and comment = 'good'", {"item": ITEMS[0]})
    shop.close_window()
    assert sentiment(shop, "b", "affected") == first
    shop.promote("2")
    assert sentiment(shop, "c") == {ITEMS[2]: (5, 0, -1, "2")}
    shop.promote("9")  # has not learned to read
    assert sentiment(shop, "d") == {}
