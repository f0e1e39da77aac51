"""Recipes: what events mean in a shop, a newsroom, a video and a music service."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from recsys.commands.main import app
from recsys.errors import ConfigurationError
from recsys.publishing.histories import read_event_types
from recsys.settings import Settings
from recsys.snapshot.sequences import Sequences
from recsys.snapshot.targets import find_targets, hidden_items
from recsys.warehouse.recipes import apply_recipe, recipe_names

HOUR = 3_600_000_000
DAY = 24 * HOUR


def rows(engine: sa.Engine) -> dict[str, sa.RowMapping]:
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT * FROM event_types").mappings().all()
    return {row["event_type"]: row for row in found}


def run(engine: sa.Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)


@pytest.mark.parametrize("name", ["music", "newsroom", "shop", "video"])
@pytest.mark.parametrize("filled", [False, True])
def test_a_recipe_leaves_other_types_alone_and_changes_nothing_the_second_time(
    warehouse: sa.Engine, name: str, filled: bool
) -> None:
    if filled:
        run(
            warehouse,
            "INSERT INTO event_types VALUES ('wave', true, .7, 1);"
            "UPDATE event_types SET min_value = 1, max_value = 10 WHERE event_type = 'rating';"
            "INSERT INTO feedback (user_id, item_id, event_type, value) VALUES"
            " ('ann', 'a', 'rating', 9), ('ann', 'a', 'purchase', 3), ('ann', 'a', 'wave', NULL)",
        )
    else:
        run(warehouse, "DELETE FROM event_types")
    before = rows(warehouse)
    apply_recipe(warehouse, name)
    once = rows(warehouse)
    apply_recipe(warehouse, name)
    assert rows(warehouse) == once
    changed = {event_type for event_type in once if once[event_type] != before.get(event_type)}
    assert {row["role"] for row in once.values()} == {"outcome", "step", "dislike"}
    assert "wave" not in changed
    if filled:
        assert once["wave"] == before["wave"]
        assert (once["rating"]["min_value"], once["rating"]["max_value"]) == (1, 10)


@pytest.mark.parametrize(
    ("name", "events", "weights", "hidden"),
    [
        # A view hides nothing, two purchases are two targets, and a review of what was bought is none.
        ("shop", [("view", 0), ("purchase", 2), ("purchase", 48), ("rating", 50)], [0.3, 1, 1, 0], False),
        ("shop", [("view", 0), ("dislike", 1)], [0.3, 0], True),
        # A bookmark is credited to the view that opened the article.
        ("newsroom", [("view", 0), ("bookmark", 1), ("follow", 2)], [1, 0, 0], True),
        ("video", [("view", 0), ("dwell", 1)], [0.3, 0], False),
        ("video", [("view", 0), ("finish", 2), ("rating", 3)], [0.3, 1, 0], True),
        # A second listen within the hour is no target of its own.
        ("music", [("listen", 0), ("listen", 0.5), ("listen", 30)], [1, 0, 1], False),
        ("music", [("listen", 0), ("skip", 2)], [1, 0], True),
    ],
)
def test_a_recipe_decides_what_is_a_target_and_what_may_be_had_again(
    warehouse: sa.Engine, name: str, events: list[tuple[str, float]], weights: list[float], hidden: bool
) -> None:
    apply_recipe(warehouse, name)
    with warehouse.connect() as connection:
        meaning = read_event_types(connection)
    past = Sequences.build(
        user_keys=["ann"],
        user_index=[0] * len(events),
        item_index=[0] * len(events),
        event_type=meaning.lookup([event for event, _ in events]),
        value=[5.0] * len(events),
        occurred_at=[round(hour * HOUR) for _, hour in events],
        feedback_id=range(len(events)),
        event_types=meaning,
    )
    assert find_targets(past).weight.tolist() == pytest.approx(weights)
    soon = past.occurred_at[-1] + 2 * HOUR
    assert (hidden_items(past.asked(soon))[1].tolist() != []) == hidden


def test_a_purchase_that_was_rated_like_stars_becomes_an_amount(warehouse: sa.Engine) -> None:
    run(
        warehouse,
        "UPDATE event_types SET polarity = 0, min_value = 0, max_value = 9, negative_to = 1,"
        " positive_from = 2 WHERE event_type = 'purchase'",
    )
    apply_recipe(warehouse, "shop")
    purchase = rows(warehouse)["purchase"]
    scale = ("polarity", "min_value", "max_value", "negative_to", "positive_from")
    assert [purchase[name] for name in scale] == [1, None, None, None, None]


def test_a_skipped_track_comes_back_after_a_week(warehouse: sa.Engine) -> None:
    apply_recipe(warehouse, "music")
    assert rows(warehouse)["skip"]["hide_days"] == 7


def test_two_people_may_apply_a_recipe_at_once(warehouse: sa.Engine) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: apply_recipe(warehouse, "shop"), range(8)))
    assert rows(warehouse)["purchase"]["value_is_amount"]


def test_a_recipe_is_applied_by_migrate(
    warehouse: sa.Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_WAREHOUSE_URL", settings.require_warehouse_url())
    result = CliRunner().invoke(app, ["migrate", "--recipe", "newsroom"])
    assert result.exit_code == 0, result.output
    assert "the recipe newsroom" in result.output
    assert rows(warehouse)["bookmark"]["role"] == "outcome"
    wrong = CliRunner().invoke(app, ["migrate", "--recipe", "news"])
    assert str(wrong.exception) == (
        "there is no recipe 'news'; the recipes are music, newsroom, shop, video (docs/events.md)"
    )
    old = CliRunner().invoke(app, ["migrate", "--recipe", "shop", "--revision", "0014"])
    assert isinstance(old.exception, ConfigurationError)
    assert not rows(warehouse)["purchase"]["value_is_amount"]


def test_there_are_four_recipes() -> None:
    assert recipe_names() == ["music", "newsroom", "shop", "video"]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM event_types WHERE event_type = 'view'",
        "UPDATE event_types SET event_type = 'look' WHERE event_type = 'view'",
    ],
)
def test_an_event_type_stays_while_there_is_feedback_of_it(warehouse: sa.Engine, statement: str) -> None:
    run(warehouse, "INSERT INTO feedback (user_id, item_id, event_type) VALUES ('ann', 'a', 'view')")
    with pytest.raises(sa.exc.IntegrityError, match='event type "view" cannot be removed or renamed'):
        run(warehouse, statement)
    run(warehouse, "UPDATE event_types SET weight = 0, hide_days = 0 WHERE event_type = 'view'")
    run(warehouse, "INSERT INTO retired.feedback SELECT * FROM feedback; DELETE FROM feedback")
    with pytest.raises(sa.exc.IntegrityError, match="there is feedback of it"):
        run(warehouse, statement)
    run(warehouse, "DELETE FROM retired.feedback")
    run(warehouse, statement)
    assert "view" not in rows(warehouse)
