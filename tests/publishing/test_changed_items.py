"""Items that are withdrawn, corrected or added between two publications: the next one follows."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.errors import NothingToDoError
from recsys.publishing import prepare
from recsys.publishing import publish as publish_module
from recsys.publishing.publish import PublishSummary, publish
from recsys.snapshot.catalogue import Catalogue
from tests.publishing.shop import ITEMS, USERS, K, Shop


def run(shop: Shop, key: str = "first") -> PublishSummary:
    return publish(shop.engine, shop.settings, run_key=key, load=shop.load)


def correct(shop: Shop, item_id: str, **columns: Any) -> None:
    assignments = ", ".join(f"{name} = :{name}" for name in columns)
    shop.execute(f"update items set {assignments} where item_id = :id", {"id": item_id} | columns)


def published(shop: Shop) -> set[str]:
    return {row["item_id"] for row in shop.rows("select item_id from item_vectors")}


def reasons(shop: Shop) -> list[str]:
    return [row["reason"] for row in shop.rows("select reason from recommendations")]


@pytest.fixture
def shown(shop: Shop) -> str:
    """Publish once and return an item that is on some of the lists."""
    run(shop, "before")
    counts = Counter(item for items in shop.lists().values() for item in items)
    return min(counts, key=lambda item: counts[item])


def test_a_withdrawn_item_loses_its_vector_even_if_no_list_shows_it(shop: Shop) -> None:
    run(shop)
    shown = {item for items in shop.lists().values() for item in items}
    hidden = next(item for item in ITEMS if item in published(shop) - shown)
    correct(shop, hidden, available=False)
    summary = run(shop, "hour")
    assert (summary.scope, summary.users) == ("affected", 0)
    assert hidden not in published(shop)
    correct(shop, hidden, available=True)
    run(shop, "next hour")
    assert hidden in published(shop)


def test_a_new_item_has_a_vector_after_the_next_publication(shop: Shop) -> None:
    run(shop)
    shop.add_items("milk oolong")
    assert run(shop, "hour").users == 0
    assert "milk oolong" in published(shop)


@pytest.mark.parametrize("columns", [{"description": "Roasted."}, {"attributes": '{"kind": "tea"}'}])
def test_a_changed_text_is_published_for_no_users(shop: Shop, columns: dict[str, str]) -> None:
    run(shop)
    correct(shop, ITEMS[4], **columns)
    assert run(shop, "hour").users == 0
    with pytest.raises(NothingToDoError, match="no item has changed"):
        run(shop, "next hour")


@pytest.mark.parametrize("title", ["Milk oolong", 'Tea "for two" \\ 50% off', "Tè verde\t→", "a_c%d"])
def test_no_reason_names_an_old_title_after_the_next_publication(shop: Shop, shown: str, title: str) -> None:
    item = shown
    correct(shop, item, title=title)
    first = publish(shop.engine, shop.settings, run_key="first", load=shop.load, scope="all")
    naming = {row["user_id"] for row in shop.rows("select * from recommendations where item_id = :i", i=item)}
    assert 0 < len(naming) < len(USERS)
    correct(shop, item, title="Milk oolong (corrected)")
    summary = run(shop, "hour")
    assert (summary.scope, summary.users) == ("affected", len(naming))
    assert not any(f'"{title}"' in reason for reason in reasons(shop))
    assert any("Milk oolong (corrected)" in reason for reason in reasons(shop))
    kept = shop.rows(
        "select user_id from recommendation_lists where publication_id = :p", p=first.publication_id
    )
    assert {row["user_id"] for row in kept} == set(USERS) - naming


def test_a_title_that_is_corrected_while_users_are_scored_is_published_next_time(
    shop: Shop, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = publish_module.read_catalogue

    def corrected_meanwhile(connection: sa.Connection) -> Catalogue:
        catalogue = original(connection)
        correct(shop, shown, title="Corrected meanwhile")
        return catalogue

    with monkeypatch.context() as patch:
        patch.setattr(publish_module, "read_catalogue", corrected_meanwhile)
        shop.react(USERS[2], ITEMS[20], hours=1)
        run(shop, "hour")
    assert any(f'"{shown.title()}"' in reason for reason in reasons(shop))
    run(shop, "next hour")
    assert not any(f'"{shown.title()}"' in reason for reason in reasons(shop))


def test_a_publication_that_is_killed_leaves_the_change_to_the_next_one(
    shop: Shop, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    correct(shop, shown, title="Corrected")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publish_module, "swap", killed)
        with pytest.raises(KeyboardInterrupt):
            run(shop, "killed")
    run(shop, "hour")
    assert any('"Corrected"' in reason for reason in reasons(shop))


def test_when_a_whole_catalogue_is_renamed_every_list_is_published_anew(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "_MOST_CHANGED_TITLES", 10)
    run(shop)
    shop.execute("update items set title = 'New ' || title")
    assert run(shop, "hour").scope == "all"
    assert all('"New ' in reason for reason in reasons(shop))


def test_a_list_is_stored_with_its_titles_and_until_when_its_candidates_are_available(shop: Shop) -> None:
    correct(shop, ITEMS[8], title="")
    run(shop)
    titles = {row["item_id"]: row["title"] or row["item_id"] for row in shop.rows("select * from items")}
    lists = shop.rows("select * from recommendation_lists")
    for row in lists:
        assert row["titles"] == [titles[item_id] for item_id in row["item_ids"]]
        assert row["available_until"] is None
    candidate = lists[0]["pool_item_ids"][4 * K - 1]
    end = datetime(2126, 5, 1, 12, 30, tzinfo=UTC)
    correct(shop, candidate, available_until=end)
    publish(shop.engine, shop.settings, run_key="all", load=shop.load, scope="all")
    for row in shop.rows("select * from recommendation_lists"):
        expected = end if candidate in row["pool_item_ids"][: 4 * K] else None
        assert row["available_until"] == expected


def test_changes_of_items_are_forgotten_when_everybody_has_lists_that_know_them(shop: Shop) -> None:
    run(shop)
    correct(shop, ITEMS[4], title="Milk oolong")
    run(shop, "hour")
    assert len(shop.rows("select * from item_changes")) == 1
    shop.close_window()
    publish(shop.engine, shop.settings, run_key="all", load=shop.load, scope="all")
    assert shop.rows("select * from item_changes") == []
