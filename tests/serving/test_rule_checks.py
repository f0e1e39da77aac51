"""Rules that cannot mean what they say are refused, with what is wrong and what to do."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.local.postgres import PostgresServer
from recsys.serving.install import READER, install_serving
from recsys.warehouse.roles import ANALYST, PIPELINE, WRITER
from tests.serving.conftest import Shop

SQL = "x'; drop table items; --"


@pytest.fixture(scope="module")
def checked(
    postgres: PostgresServer, serving_template: str, request: pytest.FixtureRequest
) -> Iterator[Shop]:
    """A shop in which no rule is stored, so that many tests can share it."""
    name = f"shop_{abs(hash(request.node.nodeid))}"
    postgres.create_database(name, template=serving_template)
    shop = Shop(sa.create_engine(postgres.url(name)))
    shop.add_items("a")
    yield shop
    shop.engine.dispose()


@pytest.mark.parametrize(
    ("kind", "columns", "message"),
    [
        ("hide", {"item_ids": ["a"]}, "has the kind 'hide'"),
        (SQL, {"item_ids": ["a"]}, "has the kind"),
        ("exclude", {}, "is about all items"),
        ("exclude", {"filter": {}}, "is about all items"),
        ("exclude", {"filter": {"kind": "lamp"}, "item_ids": ["a"]}, "has both a filter and item_ids"),
        ("exclude", {"item_ids": []}, "has item_ids that are empty or hold NULL"),
        ("exclude", {"item_ids": ["a", None]}, "has item_ids that are empty or hold NULL"),
        ("exclude", {"filter": ["lamp"]}, "filter is a JSON array"),
        ("exclude", {"filter": {"price": {"near": 3}}}, '"near" is not a bound'),
        ("exclude", {"item_ids": ["a"], "audience": "[1]"}, "filter is a JSON array"),
        ("exclude", {"item_ids": ["a"], "placements": []}, "holds in no placement"),
        ("exclude", {"item_ids": ["a"], "placements": ["home", None]}, "names NULL as a placement"),
        ("exclude", {"item_ids": ["a"], "placements": ["home", "hom"]}, "do not exist: 'hom'"),
        ("exclude", {"item_ids": ["a"], "placements": [SQL]}, "do not exist: 'x''; drop"),
        ("exclude", {"item_ids": ["a"], "position": 1}, "of the kind exclude has the position 1"),
        ("exclude", {"item_ids": ["a"], "factor": 2}, "of the kind exclude has the factor 2"),
        ("exclude", {"item_ids": ["a"], "number": 2}, "of the kind exclude has the number 2"),
        ("pin", {"filter": {"kind": "lamp"}, "position": 1}, "pins no items"),
        ("pin", {"item_ids": ["a"]}, "of the kind pin has the position NULL"),
        ("pin", {"item_ids": ["a"], "position": 0}, "has the position 0"),
        ("pin", {"item_ids": ["a"], "position": 10_000}, "has the position 10000"),
        ("boost", {"item_ids": ["a"]}, "has the factor NULL"),
        ("boost", {"item_ids": ["a"], "factor": 0}, "has the factor 0"),
        ("boost", {"item_ids": ["a"], "factor": -3}, "has the factor -3"),
        ("boost", {"item_ids": ["a"], "factor": 1}, "has the factor 1"),
        ("bury", {"item_ids": ["a"], "factor": float("nan")}, "has the factor NaN"),
        ("bury", {"item_ids": ["a"], "factor": float("inf")}, "has the factor Infinity"),
        ("at_most", {"attribute": "kind"}, "has the number NULL"),
        ("at_most", {"attribute": "kind", "number": 0}, "has the number 0"),
        ("at_most", {"number": 2}, "is about all items"),
        ("at_least", {"item_ids": ["a"], "number": 1001}, "has the number 1001"),
        ("at_least", {"item_ids": ["a"], "number": 1, "attribute": "kind"}, 'has the attribute "kind"'),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_a_hint(
    checked: Shop, kind: str, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(sa.exc.DBAPIError) as raised:
        checked.rule("nonsense", kind, **columns)
    assert raised.value.orig is not None
    diagnosis = raised.value.orig.diag  # type: ignore[attr-defined]
    assert message in diagnosis.message_primary
    assert diagnosis.message_hint
    assert checked.rows("select * from placement_rules") == []
    assert len(checked.rows("select * from items")) == 1


@pytest.mark.parametrize("until", ["valid_from", "valid_from - interval '1 second'"])
def test_a_rule_ends_after_it_starts(shop: Shop, until: str) -> None:
    shop.rule("sale", "only", item_ids=["a"])
    with pytest.raises(sa.exc.DBAPIError, match="the rule 'sale' ends at"):
        shop.execute(f"update placement_rules set valid_until = {until}")


@pytest.mark.parametrize("name", ["", "  "])
def test_a_rule_has_a_name(checked: Shop, name: str) -> None:
    with pytest.raises(sa.exc.DBAPIError, match="has no name"):
        checked.rule(name, "exclude", item_ids=["a"])


def test_what_may_still_come_true_is_only_a_warning(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.add_items("a", attributes='{"kind": "lamp"}')
    caplog.set_level("INFO", logger="sqlalchemy.dialects.postgresql")
    with shop.engine.begin() as connection:
        for statement in (
            """(rule, kind, filter) values ('1', 'exclude', '{"kind": "chair"}')""",
            """(rule, kind, filter) values ('2', 'exclude', '{"knid": 1, "a": 2}')""",
            "(rule, kind, attribute, number) values ('3', 'at_most', 'brand', 2)",
            "(rule, kind, item_ids) values ('4', 'exclude', '{a,b,c}')",
        ):
            connection.exec_driver_sql(f"insert into placement_rules {statement}")
        connection.exec_driver_sql("update placement_rules set valid_from = now()")
    warnings = [message for message in caplog.messages if message.startswith("WARNING")]
    assert [line.splitlines()[0].split("the rule ")[1] for line in warnings] == [
        '\'2\' is about attributes that no item has: "a", "knid"',
        "'3' is about attributes that no item has: \"brand\"",
        "'4' names 2 items that do not exist",
    ]


def test_sql_in_the_texts_of_a_rule_stays_text(shop: Shop) -> None:
    shop.add_items("a", "b", attributes=f'{{"kind": "lamp", "{SQL}": "{SQL}"}}')
    shop.rule(SQL, "exclude", filter={SQL: [SQL, '" || true || "']}, audience=f'{{"{SQL}": "{SQL}"}}')
    shop.rule("limit", "at_most", attribute=SQL, number=1)
    shop.rule("up", "pin", item_ids=[SQL, "a"], position=1, reason=SQL)
    rows = shop.recommend(None)
    assert [(row["item_id"], row["reason"]) for row in rows] == [("a", SQL)]
    assert shop.shown(None, context=f'{{"{SQL}": "{SQL}"}}') == []
    assert shop.rows("select * from serving.preview_rule(:rule)", rule=SQL) == []
    assert len(shop.rows("select * from items")) == 2


def test_100_000_excluded_ids_are_honoured(shop: Shop) -> None:
    shop.add_items("a", "b", "c")
    shop.share("popular", "a", "b", "c")
    shop.rule("blocked", "exclude", item_ids=[*(f"x-{n}" for n in range(100_000)), "a"])
    assert shop.shown("ada") == ["b", "c"]
    shop.rule("kept", "only", item_ids=[*(f"x-{n}" for n in range(100_000)), "a", "c"])
    assert shop.shown("ada") == ["c"]


def test_a_thousand_rules_hold_at_once(shop: Shop) -> None:
    shop.add_items(*(f"i-{n:04}" for n in range(1100)), attributes='{"kind": "lamp", "a": 1}')
    shop.share("popular", *(f"i-{n:04}" for n in range(1100)))
    shop.execute(
        "insert into placement_rules (rule, kind, item_ids, factor, position, valid_from)"
        " select kind || n, kind, array['i-' || to_char(n * 3 + shift, 'FM0000')],"
        " case kind when 'boost' then 2 end, case kind when 'pin' then n + 1 end, now()"
        " from generate_series(0, 332) as n,"
        " (values ('exclude', 0), ('boost', 1), ('pin', 2)) as kinds (kind, shift)"
    )
    shop.rule("one more", "at_most", attribute="b", number=1)
    shown = shop.shown("ada", k=400)
    assert shown[:333] == [f"i-{n * 3 + 2:04}" for n in range(333)]
    assert shown[333] == "i-0001"
    assert not [item for item in shown if int(item[2:]) < 999 and int(item[2:]) % 3 == 0]


def test_readers_see_the_rules_before_a_change_until_it_is_committed(shop: Shop) -> None:
    shop.add_items("a", "b")
    shop.rule("blocked", "exclude", item_ids=["a"])
    seen: list[list[str]] = []
    with shop.engine.connect() as owner:
        owner.exec_driver_sql("update placement_rules set item_ids = '{b}'")
        reader = threading.Thread(target=lambda: seen.append(shop.shown(None)))
        reader.start()
        reader.join(30)
        owner.commit()
    assert seen == [["b"]]
    assert shop.shown(None) == ["a"]


def test_of_two_who_write_one_rule_the_second_waits_and_then_fails_or_has_the_last_word(shop: Shop) -> None:
    shop.add_items("a", "b", "c")
    failed: list[str] = []
    with shop.engine.connect() as first:
        first.exec_driver_sql(
            "insert into placement_rules (rule, kind, item_ids, valid_from)"
            " values ('r', 'exclude', '{a}', now())"
        )

        def insert() -> None:
            try:
                shop.rule("r", "exclude", item_ids=["b"])
            except sa.exc.IntegrityError as error:
                failed.append(str(error.orig))

        second = threading.Thread(target=insert)
        second.start()
        first.commit()
        second.join(30)
    assert "placement_rules_pkey" in failed[0]
    assert "a" not in shop.shown(None)
    with shop.engine.connect() as first:
        first.exec_driver_sql("update placement_rules set item_ids = '{b}'")
        second = threading.Thread(target=lambda: shop.execute("update placement_rules set item_ids = '{c}'"))
        second.start()
        first.commit()
        second.join(30)
    assert shop.shown(None) == ["b", "a"]


def test_only_the_owner_writes_rules_and_applications_do_not_even_read_them(shop: Shop) -> None:
    rights = shop.rows(
        "select role, privilege from unnest(cast(:roles as text[])) as role,"
        " unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE}'::text[]) as privilege"
        " where has_table_privilege(role, 'placement_rules', privilege)",
        roles=[READER, WRITER, PIPELINE, ANALYST],
    )
    assert rights == []
    callable_ = shop.rows(
        "select role from unnest(cast(:roles as text[])) as role"
        " where has_function_privilege(role, 'serving.preview_rule(text, integer, jsonb)', 'EXECUTE')",
        roles=[READER, WRITER, PIPELINE, ANALYST],
    )
    assert callable_ == []


def test_rules_stay_and_are_still_checked_when_functions_are_installed_again(shop: Shop) -> None:
    shop.add_items("a", "b")
    shop.rule("blocked", "exclude", item_ids=["a"])
    install_serving(shop.engine)
    assert shop.shown(None) == ["b"]
    with pytest.raises(sa.exc.DBAPIError, match="is about all items"):
        shop.rule("all", "exclude")


def preview(shop: Shop, rule: str, **arguments: Any) -> list[tuple[Any, ...]]:
    named = "".join(f", {name} => :{name}" for name in arguments)
    rows = shop.rows(f"select * from serving.preview_rule(:rule{named})", rule=rule, **arguments)
    return [tuple(row.values()) for row in rows]


def test_a_preview_shows_what_a_draft_would_change(shop: Shop) -> None:
    shop.execute("update placements set length = 2")
    shop.add_items("a", "b", "c", "d")
    for user in ("ada", "bob"):
        shop.add_user(user)
        shop.publish(user, "a", "b", "c")
    shop.publish("bob", "b", "c", "a")
    shop.share("popular", "a", "b", "c", "d")
    shop.rule("no c", "exclude", item_ids=["c"])
    shop.rule("draft", "exclude", item_ids=["a"], placements=["home"], live=False)
    # Ada, Bob and the visitor lose a, which is not where it was for Bob.
    assert preview(shop, "draft") == [
        ("home", "d", "Title of d", 3, 0, 0, 0, None),
        ("home", "a", "Title of a", 0, 3, 0, 0, None),
        ("home", "b", "Title of b", 0, 0, 2, 0, None),
    ]
    assert shop.shown("ada") == ["a", "b"]
    shop.execute("update placement_rules set valid_from = now() where rule = 'draft'")
    assert {row[:4] for row in preview(shop, "draft")} >= {("home", "d", "Title of d", 3)}


def test_a_preview_says_what_is_wrong_with_the_items_of_a_rule(shop: Shop) -> None:
    shop.add_items("fine", "other")
    shop.add_items("sold", available=False)
    shop.add_items("lamp", attributes='{"kind": "lamp"}')
    shop.rule("up", "pin", item_ids=["sold", "erased", "fine"], position=1, live=False)
    assert preview(shop, "up")[:3] == [
        (None, "sold", "Title of sold", None, None, None, None, "is not available now"),
        (None, "erased", None, None, None, None, None, "does not exist"),
        ("because_you_watched", "fine", "Title of fine", 0, 0, 1, 0, None),
    ]
    shop.rule("typo", "exclude", filter={"knid": "lamp"}, live=False)
    assert preview(shop, "typo") == [(None, None, None, None, None, None, None, "no item matches the filter")]


def test_a_preview_of_two_rules_that_contradict_shows_that_the_weaker_changes_nothing(shop: Shop) -> None:
    shop.add_items("a", "b")
    shop.rule("blocked", "exclude", item_ids=["a"])
    shop.rule("up", "pin", item_ids=["a"], position=1, live=False)
    assert preview(shop, "up") == []


def test_a_preview_knows_the_item_at_hand(shop: Shop) -> None:
    shop.add_items("at-hand", "near", "far")
    shop.vectors(at_hand=[1.0, 0.0], near=[0.9, 0.1], far=[0.0, 1.0])
    shop.rule("not beside it", "bury", item_ids=["near"], factor=9, placements=["similar"], live=False)
    found = shop.rows("""select * from serving.preview_rule('not beside it', 5, '{"item_id": "at-hand"}')""")
    assert [(row["item_id"], row["rose"], row["fell"]) for row in found] == [("far", 1, 0), ("near", 0, 1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [("'draft', 0", "people is 0"), ("'none'", "there is no rule 'none'"), ("null", "there is no rule NULL")],
)
def test_a_preview_refuses_what_it_cannot_show(shop: Shop, arguments: str, message: str) -> None:
    shop.rule("draft", "exclude", item_ids=["a"], live=False)
    with pytest.raises(sa.exc.DBAPIError, match=message):
        shop.rows(f"select * from serving.preview_rule({arguments})")


def test_a_preview_of_many_lists_reads_a_sample(shop: Shop) -> None:
    shop.add_items("a", "b")
    shop.add_user("ada")
    shop.publish("ada", "b", "a")
    shop.execute(
        "insert into recommendation_lists (user_id, publication_id, model_version, item_ids, scores,"
        " propensities, reasons, pool_item_ids, pool_scores)"
        " select 'u' || n, (select max(publication_id) from publications), '1', '{a,b}', '{1,1}', '{1,1}',"
        " '[]', '{a,b}', '{1,1}' from generate_series(1, 20000) as n; analyze recommendation_lists"
    )
    shop.rule("draft", "exclude", item_ids=["a"], placements=["home"], live=False)
    lost = {row[1]: row[4] for row in preview(shop, "draft", people=20)}
    assert 15 <= lost["a"] <= 21


def test_a_rule_ends_by_the_clock(shop: Shop) -> None:
    shop.add_items("a", "b")
    shop.rule("sale", "exclude", item_ids=["a"], valid_until=datetime.now(UTC) + timedelta(hours=1))
    assert shop.shown(None) == ["b"]
    shop.execute("update placement_rules set valid_until = now() where rule = 'sale'")
    assert shop.shown(None) == ["b", "a"]


@pytest.mark.parametrize(
    ("statement", "gone"),
    [
        ("update placements set placement = 'start' where placement = 'home'", "home"),
        ("delete from placements where placement = 'email'", "email"),
    ],
)
def test_a_placement_that_rules_name_is_neither_renamed_nor_deleted(
    shop: Shop, statement: str, gone: str
) -> None:
    shop.rule("draft", "exclude", item_ids=["a"], placements=["home", "email"], live=False)
    with pytest.raises(sa.exc.IntegrityError, match=f"'{gone}' is named by rules: 'draft'\n.*valid_until"):
        shop.execute(statement)
    shop.execute("update placements set length = 3")
    shop.execute("update placement_rules set valid_from = now() - interval '2 days', valid_until = now()")
    shop.execute(statement)
    assert gone not in {row["placement"] for row in shop.rows("select placement from placements")}


def test_of_a_rule_and_a_deletion_at_once_one_is_refused(shop: Shop) -> None:
    with shop.engine.begin() as writer:
        writer.exec_driver_sql(
            "insert into placement_rules (rule, kind, item_ids, placements)"
            " values ('draft', 'exclude', '{a}', '{home}')"
        )
        failed: list[str] = []

        def delete() -> None:
            try:
                shop.execute("delete from placements where placement = 'home'")
            except sa.exc.IntegrityError as error:
                failed.append(str(error.orig))

        thread = threading.Thread(target=delete)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()  # waits for the rule
    thread.join(30)
    assert "is named by rules: 'draft'" in failed[0]
