"""`recsys recommend`."""

import pytest
from typer.testing import CliRunner

from recsys.commands.main import app
from recsys.errors import ConfigurationError, NothingToDoError, WarehouseError
from recsys.publishing.publish import publish
from recsys.publishing.read import published_recommendations, requested_recommendations
from tests.publishing.shop import USERS, Shop


@pytest.fixture
def published(shop: Shop, warehouse_url: str, monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop.execute("update items set title = '[bold]三体' where item_id = 'item 11'")
    publish(shop.engine, shop.settings, run_key="r", load=shop.load)
    monkeypatch.setenv("RECSYS_WAREHOUSE_URL", warehouse_url)
    monkeypatch.setenv("COLUMNS", "160")
    return shop


def test_the_command_shows_titles_scores_and_reasons(published: Shop) -> None:
    result = CliRunner().invoke(app, ["recommend", USERS[1], "--k", "3"])
    assert result.exit_code == 0
    rows = published.rows("select * from recommendations where user_id = :u order by rank", u=USERS[1])
    for row in rows[:3]:
        assert row["item_id"].title() in result.output or "[bold]三体" in result.output
        assert f"{row['score']:.3f}" in result.output
    assert rows[3]["item_id"] not in result.output
    assert "version 1" in result.output


def test_markup_in_titles_is_shown_verbatim(published: Shop) -> None:
    [someone, *_] = [user for user, items in published.lists().items() if "item 11" in items]
    assert "[bold]三体" in CliRunner().invoke(app, ["recommend", someone, "--k", "20"]).output


def test_an_unknown_user_is_an_error(published: Shop) -> None:
    with pytest.raises(WarehouseError, match="user 'nobody' is not in this warehouse"):
        CliRunner().invoke(app, ["recommend", "nobody"], catch_exceptions=False)
    with pytest.raises(WarehouseError, match="user 'nobody' is not in this warehouse"):
        requested_recommendations(published.engine, published.settings, "nobody", "x", 3, published.load)


def test_a_user_without_a_list_is_an_error_that_says_what_to_do(shop: Shop) -> None:
    with pytest.raises(WarehouseError, match="trigger publish_recommendations"):
        published_recommendations(shop.engine, USERS[1], 10)


def test_a_user_who_has_had_every_item_is_told_so_and_not_to_publish(shop: Shop) -> None:
    shop.execute(
        "update items set available = item_id = any(:ids)", {"ids": sorted(shop.consumed()[USERS[0]])}
    )
    publish(shop.engine, shop.settings, run_key="r", load=shop.load)
    assert published_recommendations(shop.engine, USERS[0], 10).recommendations == []


def test_a_withdrawn_item_is_no_longer_shown_and_the_others_keep_their_ranks(published: Shop) -> None:
    before = published_recommendations(published.engine, USERS[1], 3).recommendations
    published.execute("update items set available = false where item_id = :id", {"id": before[1].item_id})
    after = published_recommendations(published.engine, USERS[1], 2).recommendations
    assert after == [before[0], before[2]]
    assert CliRunner().invoke(app, ["recommend", USERS[1]]).exit_code == 0


def test_the_command_says_when_nothing_is_left(published: Shop) -> None:
    published.execute("update items set available = false")
    result = CliRunner().invoke(app, ["recommend", USERS[1]])
    assert result.exit_code == 0
    assert "no available item is left that the user has not had" in " ".join(result.output.split())


def test_a_request_ranks_matching_items_first(shop: Shop) -> None:
    wanted = next(item for item in ("item 15", "item 16") if item not in shop.consumed()[USERS[1]])
    found = requested_recommendations(shop.engine, shop.settings, USERS[1], wanted, 4, shop.load)
    assert found.recommendations[0].item_id == wanted
    assert [row.rank for row in found.recommendations] == [1, 2, 3, 4]
    assert shop.lists() == {}


def test_a_request_does_not_wait_for_a_publication(shop: Shop) -> None:
    from recsys.publishing.staging import publishing_session

    with publishing_session(shop.engine):
        found = requested_recommendations(shop.engine, shop.settings, USERS[1], "item", 1, shop.load)
    assert len(found.recommendations) == 1


def test_a_request_without_a_champion_says_so(empty_shop: Shop) -> None:
    with pytest.raises(NothingToDoError, match="no champion"):
        requested_recommendations(empty_shop.engine, empty_shop.settings, "u", "x", 3, empty_shop.load)


def test_a_session_shows_the_list_of_its_user_or_ranks_for_its_visitor(
    published: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.execute("insert into users (user_id, user_key, kind) values ('visitor:s1', 'k', 'visitor')")
    monkeypatch.setattr(
        "recsys.publishing.read.requested_recommendations.__defaults__", (published.load,), raising=True
    )
    visiting = CliRunner().invoke(app, ["recommend", "--session", "s1"], catch_exceptions=False)
    assert "visitor:s1: version 1, ranked now" in visiting.output
    published.execute(f"select join_session('s1', '{USERS[1]}')")
    joined = CliRunner().invoke(app, ["recommend", "--session", "s1"], catch_exceptions=False)
    assert joined.output == CliRunner().invoke(app, ["recommend", USERS[1]]).output


@pytest.mark.parametrize("arguments", [[], ["ada", "--session", "s1"]])
def test_either_a_user_or_a_session_is_named(published: Shop, arguments: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="either USER or --session"):
        CliRunner().invoke(app, ["recommend", *arguments], catch_exceptions=False)
