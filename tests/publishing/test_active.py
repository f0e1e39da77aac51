"""Users who have reacted get new pools within minutes, and nothing else changes."""

import multiprocessing
from typing import Any

import pytest

from recsys.errors import NothingToDoError
from recsys.publishing import active, servable
from recsys.publishing.publish import publish
from recsys.publishing.staging import publishing_session
from recsys.settings import Settings
from tests.publishing.shop import ITEMS, USERS, Shop, refresh, refresh_and_die_before_the_swap


@pytest.fixture
def published(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """Version 1 is published for everybody."""
    monkeypatch.setattr(active, "load_servable", shop.load)
    publish(shop.engine, shop.settings, run_key="night", load=shop.load)
    return shop


def state(shop: Shop, table: str, *, without: tuple[str, ...] = ()) -> list[Any]:
    key = "item_id" if "item" in table else "user_id"
    return [
        row for row in shop.rows(f"select * from {table} order by {key}") if row.get("user_id") not in without
    ]


def test_who_reacted_gets_a_new_pool_and_everything_else_stays(published: Shop) -> None:
    tables = ("recommendation_lists", "user_vectors", "item_vectors", "published_items")
    kept = {table: state(published, table, without=(USERS[3],)) for table in tables}
    before = published.lists()[USERS[3]]
    published.react(USERS[3], before[0], hours=1)
    published.add_items("an item that only another publication takes up")
    published.execute(
        "update items set available = false where item_id = :i", {"i": published.lists()[USERS[1]][0]}
    )
    published.add_users("a user without a list")
    summary = refresh(published)
    assert (summary.users, summary.items, summary.model_version) == (1, 0, "1")
    after = published.lists()[USERS[3]]
    assert before[0] not in after
    assert after != before[1:]
    assert {table: state(published, table, without=(USERS[3],)) for table in tables} == kept


def test_the_next_publication_for_affected_users_still_finds_the_others(published: Shop) -> None:
    withdrawn = published.lists()[USERS[1]][0]
    published.react(USERS[3], ITEMS[0], hours=1)
    published.execute("update items set available = false where item_id = :i", {"i": withdrawn})
    published.add_users("a user without a list")
    refresh(published)
    publish(published.engine, published.settings, run_key="hour", load=published.load)
    assert withdrawn not in published.lists()[USERS[1]]
    assert "a user without a list" in published.lists()


def test_a_row_that_breaks_a_rule_is_quarantined_and_not_read(published: Shop) -> None:
    published.react(USERS[3], ITEMS[0], "no such item", hours=1)
    refresh(published)
    assert [row["reasons"] for row in published.rows("select reasons from quarantine")] == [["unknown_item"]]
    [window] = published.rows("select * from windows where consumer = 'refresh_active_users'")
    assert window["arrived"] == 2


def test_nobody_reacted_and_no_model_is_loaded(published: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any) -> Any:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(active, "load_servable", load)
    published.add_users("a user without a list")
    with pytest.raises(NothingToDoError, match="nobody has reacted"):
        refresh(published)
    assert published.rows("select from windows where consumer = 'refresh_active_users'") == []


def test_two_refreshes_read_each_reaction_once(published: Shop) -> None:
    published.react(USERS[3], ITEMS[0], hours=1)
    assert refresh(published).users == 1
    with pytest.raises(NothingToDoError):
        refresh(published, "refresh/2")
    published.react(USERS[4], ITEMS[0], hours=1)
    assert refresh(published, "refresh/3").users == 1
    windows = published.rows(
        "select lower_transaction_id as lower, upper_transaction_id as upper from windows"
        " where consumer = 'refresh_active_users' order by window_id"
    )
    assert windows[0]["upper"] == windows[1]["lower"]


def test_a_new_champion_is_left_to_the_publication_for_everybody(published: Shop) -> None:
    published.promote("2")
    published.react(USERS[3], ITEMS[0], hours=1)
    with pytest.raises(NothingToDoError, match="publish_recommendations"):
        refresh(published)
    assert {row["model_version"] for row in published.rows("select * from user_vectors")} == {"1"}


def test_a_champion_that_changes_while_users_are_scored_leaves_the_old_lists(
    published: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(settings: Settings, version: str) -> servable.Servable:
        found = published.load(settings, version)
        published.promote("2")
        return found

    monkeypatch.setattr(active, "load_servable", load)
    before = published.lists()
    published.react(USERS[3], before[USERS[3]][0], hours=1)
    with pytest.raises(NothingToDoError, match="replaced"):
        refresh(published)
    assert published.lists() == before


def test_it_does_not_wait_for_another_publication(published: Shop) -> None:
    published.react(USERS[3], ITEMS[0], hours=1)
    with publishing_session(published.engine), pytest.raises(NothingToDoError, match="another publication"):
        refresh(published)
    assert refresh(published, "refresh/2").users == 1


def test_without_champion_there_is_nothing_to_do(empty_shop: Shop) -> None:
    with pytest.raises(NothingToDoError, match="no champion"):
        refresh(empty_shop)


def test_killed_before_the_swap_nothing_changes_and_the_next_run_makes_up_for_it(published: Shop) -> None:
    before = published.lists()
    published.react(USERS[3], before[USERS[3]][0], hours=1)
    process = multiprocessing.get_context("spawn").Process(
        target=refresh_and_die_before_the_swap, args=(published.settings, published.kinds)
    )
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert published.lists() == before
    # Its window is validated and counts as read; the users are still found.
    assert refresh(published, "refresh/2").users == 1
    assert before[USERS[3]][0] not in published.lists()[USERS[3]]


def test_the_model_reads_the_new_reaction(published: Shop) -> None:
    published.react(USERS[3], ITEMS[5], hours=1)
    refresh(published)
    [user] = published.rows("select vector::text from user_vectors where user_id = :u", u=USERS[3])
    [item] = published.rows("select vector::text from item_vectors where item_id = :i", i=ITEMS[5])
    assert user["vector"] == item["vector"]


def test_a_reaction_that_commits_while_users_are_scored_is_read_next_time(
    published: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(settings: Settings, version: str) -> servable.Servable:
        published.react(USERS[4], ITEMS[0], hours=1)
        published.close_window()
        return published.load(settings, version)

    monkeypatch.setattr(active, "load_servable", load)
    published.react(USERS[3], ITEMS[0], hours=1)
    assert refresh(published).users == 1
    monkeypatch.setattr(active, "load_servable", published.load)
    assert refresh(published, "refresh/2").users == 1
