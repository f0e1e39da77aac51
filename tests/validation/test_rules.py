from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.errors import ConfigurationError
from recsys.settings import Settings
from recsys.validation.quarantine import quarantine_window
from recsys.validation.rules import parse_rule, row_rules
from recsys.warehouse.tables import impressions, quarantine
from recsys.warehouse.windows import Window
from tests.validation.conftest import NOON, add_feedback, sound_rows

NextWindow = Callable[..., Window]


def judge(engine: sa.Engine, window: Window, settings: Settings) -> dict[int, list[str]]:
    """Apply all rules to a window; return the reasons of each row in quarantine."""
    with engine.begin() as connection:
        quarantine_window(connection, window, row_rules(), settings.validation)
        return dict(connection.execute(sa.select(quarantine.c.feedback_id, quarantine.c.reasons)).all())


def test_every_rule_has_what_and_why() -> None:
    assert {rule.name for rule in row_rules()} == {
        "comment_too_long_or_binary",
        "contradictory",
        "duplicate_content",
        "duplicate_event_id",
        "future_time",
        "impossible_rate",
        "item_never_shown",
        "malformed_time",
        "pushed_by_newcomers",
        "unknown_event_type",
        "unknown_item",
        "unknown_user",
        "value_denies_event",
        "value_out_of_range",
    }
    assert all(rule.what and rule.why for rule in row_rules())


HEADER = "-- What: w.\n-- Why: y.\n-- Reason: {name}\n-- Scan: {scan}\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("SELECT 1", "must begin with the lines"),
        (HEADER.format(name="other", scan="own") + "SELECT 1", "must begin with the lines"),
        (HEADER.format(name="new", scan="shared") + "SELECT 1", "says `-- Scan: shared`, so it must read"),
    ],
)
def test_a_malformed_rule_file_is_rejected(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        parse_rule("new", text)


def test_a_new_rule_is_one_file(stocked: sa.Engine, next_window: NextWindow, settings: Settings) -> None:
    shared = parse_rule(
        "too_dear",
        HEADER.format(name="too_dear", scan="shared")
        + "SELECT batch.feedback_id, 'too_dear' AS reason\nFROM {batch} AS batch\n"
        + "WHERE batch.value > 3 -- a comment\n    AND batch.item_id ~ '^[a-c]{1}$'",
    )
    own = parse_rule(
        "not_ann",
        HEADER.format(name="not_ann", scan="own")
        + "SELECT batch.feedback_id, 'not_ann' AS reason FROM {batch} AS batch\n"
        + "JOIN users ON users.user_id = batch.user_id WHERE users.user_id <> 'ann'",
    )
    _, dear, both = add_feedback(
        stocked,
        {},
        {"event_type": "view", "value": 4.0},
        {"user_id": "bob", "value": 5.0, "event_type": "view"},
    )
    window = next_window()
    with stocked.begin() as connection:
        quarantine_window(connection, window, [shared, own], settings.validation)
        found = dict(connection.execute(sa.select(quarantine.c.feedback_id, quarantine.c.reasons)).all())
    assert found == {dear: ["too_dear"], both: ["not_ann", "too_dear"]}


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"event_type": "rating", "value": 0.5},
        {"event_type": "rating", "value": 5.0},
        {"event_type": "view", "value": 7.0},
        {"event_type": "view", "value": 0.0},
        {"event_type": "dwell", "value": 0.0},
        {"event_type": "like", "value": 1.0},
        {"event_type": "dislike", "value": -1.0},
        {"event_type": "purchase", "value": 0.25},
        {"event_type": "comment", "comment": "很好 👍\n" + "x" * 9_000},
        {"impression_id": "never logged"},
        {"occurred_at": datetime(1990, 1, 1, tzinfo=UTC)},
    ],
)
def test_a_valid_row_stays(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, row: dict[str, Any]
) -> None:
    add_feedback(stocked, row)
    assert judge(stocked, next_window(), settings) == {}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"user_id": "nobody"}, "unknown_user"),
        ({"item_id": "nothing"}, "unknown_item"),
        ({"event_type": "poke"}, "unknown_event_type"),
        ({"event_type": "rating", "value": 5.01}, "value_out_of_range"),
        ({"event_type": "rating", "value": 0.0}, "value_out_of_range"),
        ({"event_type": "rating", "value": None}, "value_out_of_range"),
        ({"event_type": "rating", "value": float("nan")}, "value_out_of_range"),
        ({"event_type": "view", "value": float("inf")}, "value_out_of_range"),
        ({"event_type": "view", "value": float("nan")}, "value_out_of_range"),
        ({"event_type": "like", "value": 0.0}, "value_denies_event"),
        ({"event_type": "like", "value": -1.0}, "value_denies_event"),
        ({"event_type": "purchase", "value": -6.0}, "value_denies_event"),
        ({"event_type": "dislike", "value": 0.0}, "value_denies_event"),
        ({"event_type": "like", "value": float("-inf")}, "value_out_of_range"),
        ({"occurred_at": None}, "malformed_time"),
        ({"occurred_at": sa.text("'infinity'::timestamptz")}, "malformed_time"),
        ({"occurred_at": sa.text("'-infinity'::timestamptz")}, "malformed_time"),
        ({"occurred_at": datetime(1989, 12, 31, 23, 59, tzinfo=UTC)}, "malformed_time"),
        ({"occurred_at": sa.text("'4713-11-24 00:00Z BC'::timestamptz")}, "malformed_time"),
        ({"occurred_at": sa.text("'294276-12-31 23:59:59.999999Z'::timestamptz")}, "future_time"),
        ({"occurred_at": sa.text("clock_timestamp() + interval '11 minutes'")}, "future_time"),
        ({"event_type": "comment", "comment": "x" * 10_001}, "comment_too_long_or_binary"),
        ({"event_type": "comment", "comment": "PK\x03\x04"}, "comment_too_long_or_binary"),
    ],
)
def test_a_row_that_breaks_a_rule_is_quarantined_with_the_reason(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, row: dict[str, Any], reason: str
) -> None:
    (broken,) = add_feedback(stocked, row)
    assert judge(stocked, next_window(), settings) == {broken: [reason]}


def test_a_type_with_a_range_says_itself_what_its_values_mean(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings
) -> None:
    with stocked.begin() as connection:
        connection.execute(
            sa.text("UPDATE event_types SET min_value = -100, max_value = 100 WHERE event_type = 'purchase'")
        )
    add_feedback(stocked, {"event_type": "purchase", "value": -6.0})
    assert judge(stocked, next_window(), settings) == {}


def test_a_row_is_quarantined_once_with_all_its_reasons(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings
) -> None:
    (broken,) = add_feedback(
        stocked, {"user_id": "nobody", "item_id": "nothing", "event_type": "rating", "value": 50.0}
    )
    assert judge(stocked, next_window(), settings) == {
        broken: ["unknown_item", "unknown_user", "value_out_of_range"]
    }


def test_of_equal_rows_the_earliest_stays(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings
) -> None:
    same = {"event_type": "rating", "value": 4.0}
    _, second, _ = add_feedback(stocked, same, same, {**same, "value": 3.0})
    assert judge(stocked, next_window(), settings) == {second: ["duplicate_content"]}
    (late,) = add_feedback(stocked, same)
    assert judge(stocked, next_window(), settings).keys() == {second, late}


def test_a_second_comment_at_the_same_time_is_not_a_duplicate(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings
) -> None:
    add_feedback(
        stocked, {"event_type": "comment", "comment": "one"}, {"event_type": "comment", "comment": "two"}
    )
    assert judge(stocked, next_window(), settings) == {}


def test_an_event_id_with_another_time_is_a_duplicate_also_in_a_later_window(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings
) -> None:
    rows = [{"event_id": "e", **row} for row in sound_rows(3)]
    _, second = add_feedback(stocked, *rows[:2])
    assert judge(stocked, next_window(), settings) == {second: ["duplicate_event_id"]}
    (third,) = add_feedback(stocked, rows[2])
    assert judge(stocked, next_window(), settings)[third] == ["duplicate_event_id"]


def test_rows_without_a_time_do_not_share_a_time(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings
) -> None:
    timeless = [{"event_id": name, "occurred_at": None} for name in ("e", "f")]
    repeated = [{"event_id": name, **row} for name, row in zip(("e", "f"), sound_rows(2), strict=True)]
    first, second, third, fourth = add_feedback(stocked, *timeless, *repeated)
    assert judge(stocked, next_window(), settings) == {
        first: ["malformed_time"],
        second: ["malformed_time"],
        third: ["duplicate_event_id"],
        fourth: ["duplicate_event_id"],
    }


def test_which_duplicate_stays_does_not_depend_on_the_order_of_consumers(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings
) -> None:
    # The slow writer's row has the smaller feedback id, but its transaction began later.
    with stocked.connect() as other, other.begin():
        other.execute(sa.text("SELECT pg_current_xact_id()"))
        (early,) = add_feedback(stocked, {"event_id": "x"})
        (late,) = other.execute(
            sa.text(
                "INSERT INTO feedback (event_id, user_id, item_id, event_type, occurred_at) "
                "VALUES ('y', 'ann', 'a', 'like', :time) RETURNING feedback_id"
            ),
            {"time": NOON},
        ).one()
    assert early < late
    assert judge(stocked, next_window(), settings) == {early: ["duplicate_content"]}


def test_a_like_and_a_dislike_at_the_same_time_are_both_quarantined(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings
) -> None:
    like, dislike, _ = add_feedback(
        stocked, {}, {"event_type": "dislike"}, {"event_type": "dislike", "item_id": "b"}
    )
    assert judge(stocked, next_window(), settings) == {like: ["contradictory"], dislike: ["contradictory"]}


def test_a_change_of_mind_is_not_a_contradiction(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings
) -> None:
    later = NOON + timedelta(seconds=1)
    add_feedback(stocked, {}, {"event_type": "dislike", "occurred_at": later}, {"event_type": "view"})
    assert judge(stocked, next_window(), settings) == {}


def test_a_minute_with_too_many_events_of_one_user_is_quarantined(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings
) -> None:
    strict = settings.model_copy(
        update={"validation": settings.validation.model_copy(update={"max_events_per_minute": 3})}
    )
    second = [NOON + timedelta(seconds=number) for number in range(4)]
    fast = add_feedback(stocked, *({"occurred_at": time} for time in second))
    add_feedback(stocked, {"occurred_at": NOON + timedelta(minutes=2)})
    add_feedback(stocked, *({"user_id": "bob", "occurred_at": time} for time in second[:3]))
    assert judge(stocked, next_window(), strict) == {row: ["impossible_rate"] for row in fast}


@pytest.mark.parametrize("first", [2, 3, 5])
def test_a_burst_that_spans_two_windows_is_quarantined(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, first: int
) -> None:
    strict = settings.model_copy(
        update={"validation": settings.validation.model_copy(update={"max_events_per_minute": 3})}
    )
    burst = [{"occurred_at": NOON + timedelta(seconds=number)} for number in range(first + 2)]
    early = add_feedback(stocked, *burst[:first])
    assert judge(stocked, next_window(), strict).keys() == (set(early) if first > 3 else set())
    late = add_feedback(stocked, *burst[first:])
    bystander = add_feedback(stocked, {"user_id": "bob"}, {"occurred_at": NOON + timedelta(minutes=1)})
    judged = judge(stocked, next_window(), strict)
    assert set(late) <= judged.keys()
    assert not judged.keys() & set(bystander)


@pytest.mark.parametrize("rule", ["duplicate_content", "duplicate_event_id", "contradictory"])
def test_released_rows_are_compared_with_but_not_judged(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings, rule: str
) -> None:
    change = {
        "duplicate_content": {},
        "duplicate_event_id": {"event_id": "e", "occurred_at": NOON + timedelta(hours=1)},
        "contradictory": {"event_type": "dislike"},
    }[rule]
    released, judged = add_feedback(
        stocked, {"event_id": "e", "released_from": 1}, {"event_id": "f", **change}
    )
    assert judge(stocked, next_window(), settings) == {judged: [rule]}
    assert released not in judge(stocked, next_window(), settings)


def test_feedback_on_an_item_its_impression_did_not_show_is_quarantined(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings
) -> None:
    with stocked.begin() as connection:
        shown = {"impression_id": "i", "user_id": "ann", "item_ids": ["a", "b"], "shown_at": NOON}
        connection.execute(impressions.insert().values(shown))
    _, not_shown, not_hers = add_feedback(
        stocked,
        {"impression_id": "i"},
        {"impression_id": "i", "item_id": "c"},
        {"impression_id": "i", "user_id": "bob"},
    )
    assert judge(stocked, next_window(), settings) == {
        not_shown: ["item_never_shown"],
        not_hers: ["item_never_shown"],
    }


def test_rows_outside_the_window_are_not_judged(
    stocked: sa.Engine, next_window: NextWindow, settings: Settings
) -> None:
    window = next_window()
    add_feedback(stocked, {"user_id": "nobody"})
    assert judge(stocked, window, settings) == {}
    assert len(judge(stocked, next_window(), settings)) == 1
