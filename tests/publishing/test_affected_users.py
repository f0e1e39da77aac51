"""Whose lists a publication renews."""

from collections.abc import Callable

import pytest

from recsys.errors import NothingToDoError
from tests.publishing.shop import ITEMS, USERS, Shop


def test_a_new_title_renews_reasons_in_each_language(shop: Shop) -> None:
    shop.execute("update items set title = '' where item_id = :i", {"i": ITEMS[20]})
    shop.publish()
    german = "Weil du Artikel item 20 gekauft hast"
    shop.execute(
        "update recommendation_lists set reasons = jsonb_build_array(cast(:r as text))", {"r": german}
    )
    shop.execute("update items set title = 'Twenty' where item_id = :i", {"i": ITEMS[20]})
    shop.publish("second")
    assert german not in str(shop.rows("select reasons from recommendation_lists"))


def test_fresh_feedback_changes_the_lists_of_its_users_only(shop: Shop) -> None:
    first = shop.publish()
    shop.react(USERS[2], ITEMS[20], hours=1)
    shop.add_users("newcomer")
    shop.promote("2", kind="micro", parent="1")
    second = shop.publish("second")
    assert (second.scope, second.users, second.model_version) == ("affected", 2, "2")
    changed = {user for user, number in shop.publications().items() if number == second.publication_id}
    assert changed == {USERS[2], "newcomer"}
    assert set(shop.publications().values()) == {first.publication_id, second.publication_id}
    assert shop.versions("item_vectors") == {"2"}


def test_users_with_unvalidated_feedback_are_published_again_after_validation(shop: Shop) -> None:
    shop.react(USERS[2], ITEMS[20], hours=1)
    shop.publish()
    shop.close_window()
    assert shop.publish("second").users == 1
    with pytest.raises(NothingToDoError, match="no user has feedback newer"):
        shop.publish("third")


def test_an_item_that_went_out_of_stock_leaves_all_lists(shop: Shop) -> None:
    shop.publish()
    gone = shop.lists()[USERS[0]][0]
    shop.execute("update items set available = false where item_id = :i", {"i": gone})
    summary = shop.publish("second")
    assert summary.scope == "affected"
    assert not any(gone in items for items in shop.lists().values())


def test_users_whose_list_shows_an_item_that_has_ended_are_published_again(shop: Shop) -> None:
    shop.publish()
    ended = shop.lists()[USERS[0]][0]
    showing = {user for user, items in shop.lists().items() if ended in items}
    shop.execute("update items set available_until = now() where item_id = :i", {"i": ended})
    assert shop.publish("second").users == len(showing)
    assert not any(ended in items for items in shop.lists().values())


def _roll_back(shop: Shop) -> None:
    shop.promote("2", kind="micro", parent="1")
    shop.promote("3")
    shop.publish("third")
    shop.roll_back("2")


@pytest.mark.parametrize(
    ("happens", "scope"),
    [
        (lambda shop: None, "affected"),
        (lambda shop: shop.promote("2", kind="micro", parent="1"), "affected"),
        (lambda shop: shop.promote("2", kind="full", parent="1"), "all"),
        (lambda shop: (shop.promote("2", "micro", "1"), shop.promote("3", "micro", "2")), "all"),
        (_roll_back, "all"),
    ],
    ids=["same champion", "micro-update", "full fine-tune", "a micro-update was never published", "rollback"],
)
def test_auto_publishes_all_users_unless_lists_may_stay(
    shop: Shop, happens: Callable[[Shop], object], scope: str
) -> None:
    shop.publish()
    happens(shop)
    shop.react(USERS[3], ITEMS[4], hours=2)
    assert shop.publish("next").scope == scope


def test_deleted_users_and_users_with_an_erasure_request_have_no_list(shop: Shop) -> None:
    shop.publish()
    shop.execute("delete from users where user_id = :u", {"u": USERS[1]})
    shop.execute("insert into erasure_requests (user_id) values (:u)", {"u": USERS[2]})
    shop.publish("second", "all")
    expected = set(USERS) - {USERS[1], USERS[2]}
    assert shop.lists().keys() == expected
    assert shop.vectors("user_vectors", "user_id").keys() == expected
