"""Reasons in the language of the user, the session or the page."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from recsys.warehouse.languages import packaged_texts
from tests.serving.conftest import Shop

ITEMS = [f"p-{number:02}" for number in range(6)]
TITLE = """O'Hara's "{title}" <b>&amp; {did}</b>"""


@pytest.fixture
def spoken(shop: Shop) -> Shop:
    """A list in English and one in German, and what is trending."""
    shop.add_items(*ITEMS, "hot")
    shop.add_user("ada")
    shop.add_user("uwe", '{"language": "de-AT"}')
    for user, language in (("ada", "en"), ("uwe", "de")):
        shop.publish(user, *ITEMS[:4], length=3)
        shop.execute(f"update recommendation_lists set language = '{language}' where user_id = '{user}'")
    shop.share("trending", "hot")
    return shop


def reasons(
    shop: Shop, user: str | None, k: int, language: Any = None, context: dict[str, Any] | None = None
) -> list[str]:
    context = (context or {}) | ({} if language is None else {"language": language})
    return [row["reason"] for row in shop.recommend(user, k=k, context=json.dumps(context))]


def test_shared_reasons_are_in_the_language_of_the_user(spoken: Shop) -> None:
    assert reasons(spoken, "uwe", k=5)[4] == packaged_texts("de")["trending"] == "Gerade beliebt"
    assert reasons(spoken, "ada", k=5)[4] == "Popular right now"


@pytest.mark.parametrize(
    ("asked", "text"), [("de-CH", "Gerade beliebt"), ("zh-Hans-CN", "近期热门"), ("fr", "Popular right now")]
)
def test_a_visitor_reads_the_language_of_the_context(spoken: Shop, asked: str, text: str) -> None:
    assert reasons(spoken, None, k=1, language=asked) == [text]


def test_a_list_keeps_its_reasons_in_its_own_language_only(spoken: Shop) -> None:
    own = [f"because of {item}" for item in ITEMS[:3]]
    for k in (3, 4):  # as published, and chosen from the pool
        assert reasons(spoken, "ada", k=k)[:3] == own
        assert reasons(spoken, "ada", k=k, language="en-GB")[:3] == own
        assert reasons(spoken, "ada", k=k, language="de")[:3] == ["Für dich ausgewählt"] * 3
        assert reasons(spoken, "uwe", k=k, language="de")[:3] == own
        assert reasons(spoken, "uwe", k=k, language="zh")[:3] == ["为您推荐"] * 3


@pytest.mark.parametrize("asked", [None, 5, True, ["de"], {"a": 1}, "", "de'; --"])
def test_a_language_that_is_none_reads_the_default(spoken: Shop, asked: Any) -> None:
    assert reasons(spoken, None, k=1, language=asked) == ["Popular right now"]


def test_a_title_with_quotes_braces_and_markup_stands_as_it_is(spoken: Shop) -> None:
    spoken.execute("update items set title = :t where item_id = 'p-00'", {"t": TITLE})
    spoken.execute("update placements set logic = 'similar' where placement = 'home'")
    spoken.execute(
        "insert into item_vectors (item_id, model_version, vector) select item_id, '1', '[1,0]' from items"
    )
    found = reasons(spoken, None, k=1, language="de", context={"item_id": "p-00"})
    assert found == [f"Ähnlich wie „{TITLE}“"]


def test_lists_without_a_user_name_their_language(http_shop: Shop, http: TestClient) -> None:
    http_shop.add_items("hot", "warm")
    http_shop.share("trending", "hot", "warm")
    http_shop.share("popular", "warm")
    http_shop.vectors(hot=[1, 0], warm=[1, 0])

    def reason(path: str, **parameters: str) -> str:
        return str(http.get(path, params=parameters).json()["items"][0]["reason"])

    assert reason("/trending", language="zh") == "近期热门"
    assert reason("/trending") == "Popular right now"
    assert reason("/items/hot/similar", language="de") == "Ähnlich wie „Title of hot“"
    assert reason("/items/hot/similar") == 'Similar to "Title of hot"'
    assert reason("/recommendations", context='{"language": "de"}') == "Gerade beliebt"
