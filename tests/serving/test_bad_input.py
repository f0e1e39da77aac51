"""What strangers send, in each argument of each reading function: an answer, or an error with a hint."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from tests.serving.conftest import Shop

SQL = [
    "'; drop table items; --",
    "' or true --",
    "$$; drop table items; $$",
    "x' union select * from users --",
]
ARGUMENTS: dict[str, Any] = {
    "item_ids": ["p-0", "p-1"],
    "scores": [2.0, 1.0],
    "user_id": "ada",
    "item_id": "p-0",
}
"""What a call needs, or is about somebody who is known."""


@pytest.fixture
def stocked(shop: Shop) -> Shop:
    shop.add_items("p-0", "p-1", "p-2", "t-0", "b-0")
    shop.add_user("ada")
    shop.publish("ada", "p-0", "p-1", "p-2")
    shop.share("trending", "t-0")
    shop.share("popular", "b-0")
    return shop


def arguments_of(shop: Shop) -> Iterator[tuple[str, str, str, list[str]]]:
    """Yield function, argument, type, and the names of all arguments, for what readers may call."""
    for row in shop.rows(
        "select proname, proargnames[1 : pronargs] as names,"
        " array(select format_type(type, null) from unnest(proargtypes) as type) as types"
        " from pg_proc where pronamespace = 'serving'::regnamespace and prosecdef order by proname"
    ):
        for name, kind in zip(row["names"], row["types"], strict=True):
            yield row["proname"], name, kind, row["names"]


def answer(shop: Shop, function: str, names: list[str], argument: str, kind: str, value: Any) -> Any:
    """Return the rows, or the hint of the error."""
    given = {name: ARGUMENTS[name] for name in names if name in ARGUMENTS} | {argument: value}
    types = {"item_ids": "text[]", "scores": "real[]"} | {argument: kind}
    called = ", ".join(f"{name} => cast(:{name} as {types.get(name, 'text')})" for name in given)
    try:
        return shop.rows(f"select * from serving.{function}({called})", **given)
    except sa.exc.DBAPIError as error:
        return error.orig.diag.message_hint  # type: ignore[union-attr]


def test_sql_in_every_text_is_a_text(stocked: Shop) -> None:
    tried = set()
    for function, argument, kind, names in arguments_of(stocked):
        for text in SQL:
            if kind in ("text", "text[]"):
                value = text if kind == "text" else [text]
                assert answer(stocked, function, names, argument, kind, value) is not None, (
                    function,
                    argument,
                )
            elif kind == "jsonb":
                for json in ('{"%s": "x"}', '{"x": "%s"}', '{"item_id": "%s"}'):
                    assert answer(stocked, function, names, argument, kind, json % text) is not None
            else:
                continue
            tried.add((function, argument))
    assert len(tried) >= 18
    assert len(stocked.rows("select from items")) == 5


def test_null_in_any_argument_is_answered_or_refused_with_a_hint(stocked: Shop) -> None:
    for function, argument, kind, names in arguments_of(stocked):
        assert answer(stocked, function, names, argument, kind, None) is not None, (function, argument)


@pytest.mark.parametrize(
    "json", ["null", "[]", "5", '"x"', '[{"item_id": "p-0"}]', '{"item_id": {"a": 1}}', '{"item_id": null}']
)
def test_a_context_and_a_filter_of_another_form_are_answered_or_refused_with_a_hint(
    stocked: Shop, json: str
) -> None:
    for function, argument, kind, names in arguments_of(stocked):
        if kind == "jsonb":
            assert answer(stocked, function, names, argument, kind, json) is not None, (function, argument)


def test_an_item_that_was_deleted_a_moment_ago_is_in_no_answer(stocked: Shop) -> None:
    stocked.vectors(p_0=[1, 0], p_1=[1, 0.1], p_2=[1, 0.2], t_0=[0, 1], b_0=[1, 1])
    stocked.execute("delete from items where item_id in ('p-1', 't-0')")
    gone = {"p-1", "t-0"}
    for call in (
        "recommend('ada')",
        "recommend('nobody')",
        "trending()",
        "similar_items('p-0')",
        "similar_items('p-1')",
        "rerank('ada', '{p-0,p-1,t-0}')",
        "answer_request('ada', '{p-1,p-2}', '{2,1}')",
        "recommend('ada', 'similar', context => '{\"item_id\": \"p-1\"}')",
    ):
        found = {row["item_id"] for row in stocked.rows(f"select item_id from serving.{call}")}
        assert found, call
        assert not found & gone, call


def test_before_the_first_champion_every_function_answers(shop: Shop) -> None:
    shop.add_items("first", "second", "third")
    shop.add_user("ada")
    shop.react("ada", "click", "first", "second")
    shop.react(None, "click", "first", "second", "gone", session_id="s-1")
    for call in (
        "recommend('ada')",
        "recommend(null, session => 's-1')",
        "recommend('ada', 'similar', context => '{\"item_id\": \"first\"}')",
        "recommend('ada', 'because_you_watched')",
        "recommend('ada', 'email')",
        "rerank('ada', '{second,first}')",
    ):
        assert shop.rows(f"select * from serving.{call}"), call
    for call in ("similar_items('first')", "trending()", "trending('NO')"):
        assert shop.rows(f"select * from serving.{call}") == []  # nobody wanted anything yet
