import json

import pyarrow as pa
import pytest
import sqlalchemy as sa

from tests.warehouse.ingest.loading import CSV, HEADER, TIME, Load, parquet, rejects, rows


def test_new_users_are_registered_with_the_consent_that_is_stated(load: Load, warehouse: sa.Engine) -> None:
    with warehouse.begin() as connection:
        connection.execute(sa.text("INSERT INTO users (user_id, consent) VALUES ('known', true)"))
    content = HEADER + f"a,known,i,view,,,{TIME}\nb,new,i,view,,,{TIME}\nc,new,j,view,,,{TIME}\n"
    summary = load(content, consent=False)
    assert (summary.new_users, summary.consent) == (1, False)
    assert dict(tuple(row) for row in rows(warehouse, "SELECT user_id, consent FROM users")) == {
        "known": True,
        "new": False,
    }


def test_new_users_can_be_left_to_the_application(load: Load, warehouse: sa.Engine) -> None:
    assert load(CSV, new_users="leave").inserted == 1
    assert rows(warehouse, "SELECT * FROM users") == []


def test_months_of_the_file_get_partitions_unless_they_are_absurd(load: Load, warehouse: sa.Engine) -> None:
    load(
        HEADER
        + "a,u,i,view,,,1997-09-20T00:00:00Z\n"
        + "b,u,i,view,,,0700-01-01T00:00:00Z\n"
        + "c,u,i,view,,,2199-01-01T00:00:00Z\n"
    )
    places = rows(warehouse, "SELECT tableoid::regclass::text AS place FROM feedback ORDER BY feedback_id")
    assert [row.place for row in places] == [
        "partitions.feedback_1997_09",
        "partitions.feedback_default",
        "partitions.feedback_default",
    ]


def test_a_load_does_not_wait_for_a_reader_to_make_a_partition(
    load: Load, warehouse: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.warehouse.partitions._LOCK_TIMEOUT", "100ms")
    with warehouse.connect() as reader:
        reader.execute(sa.text("SELECT count(*) FROM feedback"))
        assert load(HEADER + "a,u,i,view,,,1997-09-20T00:00:00Z\n").inserted == 1


def test_items_are_inserted_and_changed_and_the_last_line_counts(load: Load, warehouse: sa.Engine) -> None:
    header = "item_id,title,description,attributes,available\n"
    first = header + '1,Old,d,"{""a"": [1, ""é""]}",\n2,Two,,,no\n1,New,,,\n'
    summary = load(first, "items.csv", "items")
    assert (summary.read, summary.inserted, summary.updated, summary.duplicates) == (3, 2, 0, 1)
    again = load(
        '{"item_id": "1", "description": "more"}\n{"item_id": "2", "available": false}\n', "i.jsonl", "items"
    )
    assert (again.inserted, again.updated, again.duplicates) == (0, 1, 1)
    found = rows(warehouse, "SELECT * FROM items ORDER BY item_id")
    assert [(row.title, row.description, row.available) for row in found] == [
        ("New", "more", True),
        ("Two", "", False),
    ]


def test_a_rest_below_zero_days_is_rejected_and_says_why(load: Load, warehouse: sa.Engine) -> None:
    summary = load("item_id,rest_days\nmilk,3.5\nfridge,-1\nbread,0\n", "items.csv", "items")
    assert rejects(summary) == [(3, "rest_days is below 0: give a number of days, 0 or more")]
    load("item_id,title\nmilk,Milk\n", "items.csv", "items")  # what a file does not give stays
    found = rows(warehouse, "SELECT item_id, rest_days FROM items ORDER BY item_id")
    assert [(row.item_id, row.rest_days) for row in found] == [("bread", 0.0), ("milk", 3.5)]


def test_an_end_that_is_not_after_the_start_is_rejected_and_says_why(
    load: Load, warehouse: sa.Engine
) -> None:
    header = "item_id,available_from,available_until\n"
    summary = load(
        header
        + "a,2026-01-01T00:00:00Z,2026-02-01T00:00:00Z\nb,2026-02-01T00:00:00Z,2026-01-01T00:00:00Z\n"
        + "c,,1767225600\nd,soon,\ne,2026-01-01T00:00:00Z,2026-01-01T00:00:00Z\n",
        "items.csv",
        "items",
    )
    reasons = dict(rejects(summary))
    assert reasons.keys() == {3, 5, 6}
    assert reasons[3] == reasons[6] == "available_until is not after available_from"
    assert "'soon' is not a time" in reasons[5]
    # The start that the warehouse has counts too; the other rows of the file are loaded.
    again = load(
        '{"item_id": "a", "available_until": "2025-06-01T00:00:00Z"}\n{"item_id": "c", "title": "C"}\n',
        "i.jsonl",
        "items",
    )
    assert (again.updated, [line for line, _ in rejects(again)]) == (1, [1])
    assert "items_available_until_is_after_available_from" in dict(rejects(again))[1]
    found = rows(warehouse, "SELECT * FROM items ORDER BY item_id")
    assert [(row.item_id, row.title, str(row.available_until)) for row in found] == [
        ("a", "", "2026-02-01 00:00:00+00:00"),
        ("c", "C", "2026-01-01 00:00:00+00:00"),
    ]


def test_attributes_of_items_are_objects_in_every_format(load: Load, warehouse: sa.Engine) -> None:
    attributes = {"genres": ["动作", "Drama"], "year": 1999}
    load(json.dumps({"item_id": "a", "attributes": attributes}), "i.jsonl", "items")
    load(parquet(pa.Table.from_pylist([{"item_id": "b", "attributes": attributes}])), "i.parquet", "items")
    quoted = json.dumps(attributes).replace('"', '""')
    load(f'item_id,attributes\nc,"{quoted}"\n', "i.csv", "items")
    assert [row.attributes for row in rows(warehouse, "SELECT attributes FROM items")] == [attributes] * 3
    bad = "".join(
        f'{{"item_id": "d", "attributes": {wrong}}}\n' for wrong in ("[1]", '{"x": NaN}', '{"x": "\\u0000"}')
    )
    assert [line for line, _ in rejects(load(bad, "i.jsonl", "items"))] == [1, 2, 3]


def test_users_are_inserted_and_their_consent_changes(load: Load, warehouse: sa.Engine) -> None:
    load("user_id,consent\na,true\nb,no\nc,\n", "users.csv", "users")
    assert load("user_id,consent\na,false\nx,maybe\n", "users.csv", "users").updated == 1
    assert [row.consent for row in rows(warehouse, "SELECT consent FROM users ORDER BY user_id")] == [
        False,
        False,
        True,
    ]


def test_impressions_are_loaded_with_their_slates(load: Load, warehouse: sa.Engine) -> None:
    slate = {
        "impression_id": "m",
        "user_id": "u",
        "item_ids": ['a"b', "c,d", "好"],
        "propensities": [0.5, 0.25, 1],
        "shown_at": TIME,
        "query": "a book about programming",
    }
    bad = slate | {"impression_id": "n", "item_ids": []}
    summary = load(f"{json.dumps(slate)}\n{json.dumps(bad)}\n", "m.jsonl", "impressions")
    assert (summary.inserted, summary.rejected) == (1, 1)
    (row,) = rows(warehouse, "SELECT * FROM impressions")
    assert row.item_ids == ['a"b', "c,d", "好"]
    assert row.propensities == [0.5, 0.25, 1]
    assert row.rules is None


@pytest.mark.parametrize(
    ("rules", "stored", "reason"),
    [
        (['summer, "sale"', None, "a\\b"], ['summer, "sale"', None, "a\\b"], None),
        ([None, None, None], [None, None, None], None),
        (None, None, None),
        (["one"], None, "rules has 1 entries, but item_ids has 3"),
        ([1, None, None], None, "is not a JSON list of names and null"),
        (["a\0", None, None], None, "NUL"),
        ({"a": "b"}, None, "is not a JSON list of names and null"),
    ],
)
def test_the_rules_that_placed_items_are_loaded_one_for_each_item(
    load: Load, warehouse: sa.Engine, rules: object, stored: object, reason: str | None
) -> None:
    slate = {
        "impression_id": "m",
        "user_id": "u",
        "item_ids": ["a", "b", "c"],
        "shown_at": TIME,
        "rules": rules,
    }
    summary = load(json.dumps(slate) + "\n", "m.jsonl", "impressions")
    assert summary.rejected == (reason is not None)
    if reason is None:
        (row,) = rows(warehouse, "SELECT * FROM impressions")
        assert row.rules == stored
    else:
        assert summary.reject_file is not None
        assert reason in summary.reject_file.read_text(encoding="utf-8")
