import logging

import pytest
import sqlalchemy as sa

from recsys.evaluation.ranking.user_attributes import read_user_attributes
from recsys.publishing.histories import read_catalogue
from recsys.snapshot.item_attributes import read_attributes

DEEP = '{"a": ' * 3000 + "1" + "}" * 3000
LONG = '{"n": 1' + "0" * 5000 + "}"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('{"genre": "drama"}', {"genre": "drama"}),
        ('["drama"]', {"": ["drama"]}),
        ("5", {"": 5}),
        ("null", {}),
        ('{"a": ' + "[" * 99 + "]" * 99 + "}", None),
        ('{"a": ' + "[" * 100 + "]" * 100 + "}", {}),
        ('{"a": "' + "[" * 500 + '"}', {"a": "[" * 500}),
        (DEEP, {}),
        (LONG, {}),
    ],
)
def test_attributes_of_any_json_are_read(text: str, read: dict[str, object] | None) -> None:
    (found,) = read_attributes([text])
    assert found["a"] if read is None else found == read


def test_attributes_that_one_application_got_wrong_do_not_stop_publishing_or_evaluation(
    warehouse: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with warehouse.begin() as connection:
        for number, text in enumerate(["[]", "5", "null", '"x"', DEEP, LONG, '{"genre": "drama"}']):
            for table, key in (("items", "item_id"), ("users", "user_id")):
                connection.execute(
                    sa.text(f"INSERT INTO {table} ({key}, attributes) VALUES (:id, CAST(:text AS jsonb))"),
                    {"id": f"{number}", "text": text},
                )
        connection.execute(sa.text("UPDATE users SET user_key = user_id"))
    with caplog.at_level(logging.WARNING), warehouse.connect() as connection:
        catalogue = read_catalogue(connection)
    assert [bool(attributes) for attributes in catalogue.attributes] == [
        True,
        True,
        False,
        True,
        False,
        False,
        True,
    ]
    assert "the attributes of 2 items or users are left out" in caplog.text
    assert read_user_attributes(warehouse, ["genre"])["6"] == {"genre": "drama"}
