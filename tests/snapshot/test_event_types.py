import json

import numpy as np
import pytest
import sqlalchemy as sa

from recsys.errors import ConfigurationError
from recsys.publishing.histories import read_event_types
from recsys.snapshot.event_types import EventTypes
from recsys.warehouse.recipes import apply_recipe, recipe_names

NONE = float("nan")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("like", NONE, 1),
        ("dislike", NONE, -1),
        ("view", NONE, 0),
        ("rating", 2.0, -1),
        ("rating", 2.5, 0),
        ("rating", 4.0, 1),
        ("dwell", 3.0, -1),
        ("dwell", 29.9, 0),
        ("dwell", 30.0, 1),
    ],
)
def test_sentiment_follows_polarity_and_then_the_value(
    event_types: EventTypes, name: str, value: float, expected: int
) -> None:
    assert event_types.sentiment([event_types.index[name]], [value]).tolist() == [expected]


@pytest.mark.parametrize("recipe", [None, *recipe_names()])
def test_sql_and_python_agree_on_what_is_negative(warehouse: sa.Engine, recipe: str | None) -> None:
    if recipe:
        apply_recipe(warehouse, recipe)
    with warehouse.connect() as connection:
        event_types = read_event_types(connection)
        rows = connection.exec_driver_sql(
            """
            SELECT event_type, coalesce(value, 'NaN'), feedback_sentiment(event_types, value)
            FROM event_types
            CROSS JOIN unnest('{NULL,NaN,-Infinity,-20,0,0.5,2,2.5,3,4,29.9,30,Infinity}'::float[]) AS value
            """
        ).all()
    names, values, sentiments = zip(*rows, strict=True)
    assert event_types.sentiment(event_types.lookup(names), values).tolist() == list(sentiments)
    assert set(sentiments) == {-1, 0, 1}


def test_values_are_scaled_within_the_range_of_their_type(event_types: EventTypes) -> None:
    kinds = [event_types.index[name] for name in ("rating", "rating", "dwell", "like")]
    scaled = event_types.scale(kinds, [0.5, 5.0, 43200.0, NONE])
    np.testing.assert_allclose(scaled, [0, 1, 0.5, NONE])


def test_negative_feedback_is_never_a_next_item_target(event_types: EventTypes) -> None:
    kinds = [event_types.index["rating"]] * 2
    sentiment = event_types.sentiment(kinds, [1.0, 5.0])
    assert event_types.target_weight(kinds, sentiment, row_weight=[1.0, 0.5]).tolist() == [0.0, 0.5]


def test_event_types_round_trip_through_arrow_and_json(event_types: EventTypes) -> None:
    assert EventTypes.from_arrow(event_types.to_arrow()).to_records() == event_types.to_records()
    again = EventTypes.from_records(json.loads(json.dumps(event_types.to_records())))
    assert again.to_records() == event_types.to_records()


def test_lookup_returns_minus_one_for_an_unknown_name(event_types: EventTypes) -> None:
    assert event_types.lookup(["like", "poke"]).tolist() == [event_types.index["like"], -1]


def test_an_empty_table_of_event_types_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="event_types is empty"):
        EventTypes.from_records([])
