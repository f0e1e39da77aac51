"""Which visitors get published lists."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from recsys.publishing.publish import PublishSummary, publish
from recsys.publishing.read import has_list, requested_recommendations
from recsys.settings import VisitorListSettings
from tests.publishing.shop import START, Shop

NOW = START + timedelta(days=1)
VISITORS = VisitorListSettings(days=3, min_events=2)


@pytest.fixture
def visited(shop: Shop) -> Shop:
    """Three sessions: `two` and `one` have as many recent events, `old` has two from last month."""
    publishing = shop.settings.publishing.model_copy(update={"visitors": VISITORS})
    shop.settings = shop.settings.model_copy(update={"publishing": publishing})
    for session, events, days in (("two", 2, 0), ("one", 1, 0), ("old", 2, 30)):
        visit(shop, session, events, days)
    return shop


def visit(shop: Shop, session: str, events: int, days: float = 0) -> None:
    shop.execute(
        "insert into users (user_id, user_key, kind)"
        " values ('visitor:' || :session, md5(:session), 'visitor') on conflict do nothing",
        {"session": session},
    )
    shop.execute(
        "insert into feedback (session_id, item_id, event_type, occurred_at)"
        " values (:session, :item, 'like', :at)",
        *(
            {"session": session, "item": f"item {n:02}", "at": START - timedelta(days=days, seconds=n)}
            for n in range(events)
        ),
    )
    shop.close_window()


def run(shop: Shop, key: str, everyone: bool = False) -> PublishSummary:
    return publish(
        shop.engine,
        shop.settings,
        scope="all" if everyone else "affected",
        run_key=key,
        load=shop.load,
        now=NOW,
    )


def visitors_with_lists(shop: Shop) -> list[str]:
    rows = shop.rows("select user_id from recommendation_lists where user_id like 'visitor:%' order by 1")
    return [row["user_id"].removeprefix("visitor:") for row in rows]


def test_only_visitors_with_some_recent_events_get_lists(visited: Shop) -> None:
    run(visited, "all", everyone=True)
    assert visitors_with_lists(visited) == ["two"]


def test_a_visitor_gets_a_list_with_the_event_that_makes_enough(visited: Shop) -> None:
    run(visited, "all", everyone=True)
    visit(visited, "one", 1)
    visit(visited, "old", 1)
    visit(visited, "new", 1)
    assert run(visited, "hour").users == 1
    assert visitors_with_lists(visited) == ["one", "two"]


def test_visitors_without_lists_are_not_looked_at_every_hour(visited: Shop) -> None:
    run(visited, "all", everyone=True)
    visit(visited, "two", 1)
    assert run(visited, "hour").users == 1


def test_the_list_of_a_silent_visitor_ends(visited: Shop) -> None:
    run(visited, "all", everyone=True)
    visited.execute(
        "update feedback set occurred_at = occurred_at - interval '4 days' where session_id = 'two'"
    )
    run(visited, "night", everyone=True)
    assert visitors_with_lists(visited) == []


def test_a_login_renews_the_users_list_and_ends_the_visitors(visited: Shop) -> None:
    run(visited, "all", everyone=True)
    before = visited.rows("select item_ids from recommendation_lists where user_id = 'user 10'")
    visited.execute("select join_session('two', 'user 10')")
    assert visitors_with_lists(visited) == []
    assert run(visited, "hour").users == 1
    [after] = visited.rows("select item_ids from recommendation_lists where user_id = 'user 10'")
    assert not {"item 00", "item 01"} & set(after["item_ids"])
    assert [after] != before
    run(visited, "night", everyone=True)
    assert visitors_with_lists(visited) == []


def test_a_visitor_who_logs_in_while_lists_are_scored_gets_none(
    visited: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recsys.publishing import publish as publish_module

    swap = publish_module.swap

    def log_in_first(*arguments: object) -> sa.Row[object] | None:
        visited.execute("select join_session('two', 'user 10')")
        return swap(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(publish_module, "swap", log_in_first)
    run(visited, "all", everyone=True)
    assert visitors_with_lists(visited) == []
    assert visited.rows("select from user_vectors where user_id = 'visitor:two'") == []


def test_a_visitor_without_a_list_is_ranked_for_on_request(visited: Shop) -> None:
    run(visited, "all", everyone=True)
    assert not has_list(visited.engine, "visitor:one")
    found = requested_recommendations(
        visited.engine, visited.settings, "visitor:one", "", 3, load=visited.load
    )
    assert len(found.recommendations) == 3
    assert "item 00" not in [row.item_id for row in found.recommendations]
