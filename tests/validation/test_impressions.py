"""Slates that cannot be right are kept from learning, once and for a named reason, and nothing else is."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.errors import WarehouseError
from recsys.settings import Settings, ValidationSettings
from recsys.upkeep.erasure import erase_requested, request_erasure
from recsys.upkeep.impressions import forget_deleted_impressions
from recsys.validation.impressions import (
    JudgedImpressions,
    count_held,
    impression_rules,
    judge_impressions,
    release_impressions,
)
from recsys.validation.measures import Measure, measure_window
from recsys.warehouse.tables import impressions, items, publications
from recsys.warehouse.windows import Window, open_window

NOW = datetime.now(UTC)
LIMITS = ValidationSettings(max_events_per_minute=3, max_comment_length=20)


def show(engine: sa.Engine, slate: str, **columns: Any) -> None:
    row = {"impression_id": slate, "user_id": "ann", "item_ids": ["a", "b"], "shown_at": NOW} | columns
    with engine.begin() as connection:
        connection.execute(impressions.insert(), [row])


def judge(engine: sa.Engine) -> JudgedImpressions:
    return judge_impressions(engine, LIMITS)


def held(engine: sa.Engine) -> dict[str, list[str]]:
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "select impression_id, reasons from quarantined_impressions where status = 'held'"
        )
        return {row.impression_id: row.reasons for row in rows}


@pytest.fixture
def stocked_with_versions(stocked: sa.Engine) -> sa.Engine:
    with stocked.begin() as connection:
        for version in ("7", "8"):
            connection.execute(
                publications.insert(),
                {"run_key": version, "model_version": version, "scope": "all", "users": 1, "items": 1,
                 "through_transaction_id": 1},
            )  # fmt: skip
    return stocked


@pytest.mark.parametrize(
    ("rule", "columns"),
    [
        ("malformed_slate", {"item_ids": []}),
        ("malformed_slate", {"item_ids": ["a", None]}),
        ("malformed_slate", {"item_ids": ["a", "b", "a"]}),
        ("unknown_item", {"item_ids": ["a", "gone"]}),
        ("unknown_model_version", {"model_version": "99"}),
        ("unknown_model_version", {"model_version": "7+99"}),
        ("impossible_propensity", {"propensities": [0.5, 0.0]}),
        ("impossible_propensity", {"propensities": [0.5, None]}),
        ("malformed_time", {"shown_at": datetime(1970, 1, 1, tzinfo=UTC)}),
        ("future_time", {"shown_at": NOW + timedelta(hours=1)}),
        ("query_too_long_or_binary", {"query": "x" * 21}),
        ("query_too_long_or_binary", {"query": "\x01"}),
    ],
)
def test_a_slate_that_cannot_be_right_is_held_for_its_reason(
    stocked_with_versions: sa.Engine, rule: str, columns: dict[str, Any]
) -> None:
    show(stocked_with_versions, "sound", shown_at=NOW - timedelta(hours=2))
    show(stocked_with_versions, "broken", **columns)
    judged = judge(stocked_with_versions)
    assert (judged.arrived, judged.quarantined) == (2, 1)
    assert held(stocked_with_versions) == {"broken": [rule]}


def test_a_catalogue_in_one_slate_is_held(stocked: sa.Engine) -> None:
    with stocked.begin() as connection:
        connection.execute(items.insert(), [{"item_id": f"i{n}"} for n in range(1001)])
    show(stocked, "page", item_ids=[f"i{n}" for n in range(1000)])
    show(stocked, "catalogue", item_ids=[f"i{n}" for n in range(1001)])
    judge(stocked)
    assert held(stocked) == {"catalogue": ["slate_too_long"]}


def test_what_applications_log_rightly_stays(stocked_with_versions: sa.Engine) -> None:
    show(stocked_with_versions, "plain", propensities=[1.0, 0.25], model_version="7", query="garden")
    show(stocked_with_versions, "interleaved", shown_at=NOW - timedelta(hours=1), model_version="7+8")
    show(stocked_with_versions, "a day late", shown_at=NOW - timedelta(days=1))
    show(stocked_with_versions, "of a visitor without a row in users", user_id="session/x")
    show(stocked_with_versions, "same list elsewhere", placement="email")
    assert judge(stocked_with_versions).quarantined == 0


def test_a_slate_that_is_sent_again_under_another_id_counts_once(stocked: sa.Engine) -> None:
    show(stocked, "2")
    judge(stocked)
    show(stocked, "1")
    show(stocked, "3", item_ids=["b", "a"])
    judge(stocked)
    assert held(stocked) == {"1": ["shown_twice"]}


def test_the_slates_of_a_bot_are_held_also_those_judged_before(stocked: sa.Engine) -> None:
    minute = (NOW - timedelta(hours=1)).replace(second=0, microsecond=0)
    for number in range(3):
        show(stocked, f"bot {number}", shown_at=minute + timedelta(seconds=number))
        show(stocked, f"slow {number}", user_id="bob", shown_at=minute + timedelta(minutes=number))
    assert judge(stocked) == judge_of(stocked, arrived=6, quarantined=0)
    show(stocked, "bot 3", shown_at=minute + timedelta(seconds=59))
    show(stocked, "bot next minute", shown_at=minute + timedelta(seconds=60))
    assert judge(stocked) == judge_of(stocked, arrived=2, quarantined=1)
    assert held(stocked) == {f"bot {number}": ["impossible_rate"] for number in range(4)}


def judge_of(engine: sa.Engine, *, arrived: int, quarantined: int) -> JudgedImpressions:
    """Return the last bounds with these counts."""
    with engine.connect() as connection:
        row = connection.exec_driver_sql(
            "select lower_transaction_id, upper_transaction_id from judged_impressions"
            " order by upper_transaction_id desc limit 1"
        ).one()
    return JudgedImpressions(*row, arrived=arrived, quarantined=quarantined)


def test_each_slate_is_judged_once_whenever_its_transaction_commits(stocked: sa.Engine) -> None:
    with stocked.connect() as late:
        late.execute(
            impressions.insert(),
            {"impression_id": "late", "user_id": "ann", "item_ids": ["gone"], "shown_at": NOW},
        )
        show(stocked, "after it", item_ids=["gone"])
        assert judge(stocked).arrived == 0  # neither: ids go up to the oldest open transaction
        late.commit()
    assert judge(stocked).arrived == 2
    assert judge(stocked).arrived == 0
    with stocked.connect() as connection:
        bounds = connection.exec_driver_sql(
            "select lower_transaction_id, upper_transaction_id, arrived, quarantined"
            " from judged_impressions order by upper_transaction_id"
        ).all()
    assert [first.upper_transaction_id for first in bounds[:-1]] == [
        second.lower_transaction_id for second in bounds[1:]
    ]
    assert (sum(row.arrived for row in bounds), sum(row.quarantined for row in bounds)) == (2, 2)


def test_slates_that_come_after_a_restore_are_judged(stocked: sa.Engine) -> None:
    with stocked.begin() as connection:  # as a cluster left it that had counted further
        connection.exec_driver_sql("insert into judged_impressions values (1000000000, 0, 5, 0)")
        connection.exec_driver_sql("select warehouse_rebase_transaction_ids()")
    show(stocked, "new", item_ids=[])
    assert judge(stocked).arrived == 1


def test_a_released_slate_is_never_held_again(stocked: sa.Engine) -> None:
    show(stocked, "both", item_ids=["a", "gone"], query="\x01")
    show(stocked, "unknown", item_ids=["gone"])
    show(stocked, "asked", shown_at=NOW - timedelta(days=1), query="\x01")
    judge(stocked)
    assert count_held(stocked) == {"query_too_long_or_binary": 2, "unknown_item": 2}
    assert release_impressions(stocked, "unknown_item", "tests") == 0
    with stocked.begin() as connection:
        connection.execute(items.insert(), [{"item_id": "gone"}])
    assert release_impressions(stocked, "unknown_item", "tests") == 1
    assert release_impressions(stocked, "query_too_long_or_binary", "tests") == 1
    assert release_impressions(stocked, "query_too_long_or_binary", "tests") == 0
    judge(stocked)
    assert held(stocked).keys() == {"both"}
    with pytest.raises(WarehouseError, match="no rule 'typo' for slates; the rules are future_time"):
        release_impressions(stocked, "typo", "tests")


def test_erasure_and_retention_reach_the_quarantine(stocked: sa.Engine, settings: Settings) -> None:
    show(stocked, "of ann", item_ids=[])
    show(stocked, "of bob", user_id="bob", item_ids=[])
    show(stocked, "old", user_id="bob", shown_at=NOW - timedelta(days=5), item_ids=[])
    judge(stocked)
    request_erasure(stocked, "ann")
    erase_requested(stocked, settings.snapshots)
    assert held(stocked).keys() == {"of bob", "old"}
    with stocked.begin() as connection:
        connection.exec_driver_sql("delete from impressions where impression_id = 'old'")
    forget_deleted_impressions(stocked)
    assert held(stocked).keys() == {"of bob"}


def figures(engine: sa.Engine, window: Window) -> dict[str, Measure]:
    with engine.connect() as connection:
        limits = LIMITS.model_copy(update={"min_rows": 4})
        return {measure.name: measure for measure in measure_window(connection, window, limits)}


def test_a_window_states_the_share_of_valid_slates_and_where_they_were_shown(stocked: sa.Engine) -> None:
    window = open_window(stocked, "nightly", "empty")
    assert figures(stocked, window)["slate_valid_share"].not_applicable == "no slate was logged"
    for number in range(8):
        moment = NOW - timedelta(hours=number)
        show(stocked, str(number), shown_at=moment, placement="home" if number % 2 else None)
    show(stocked, "broken", item_ids=[])
    window = open_window(stocked, "nightly", "full")
    judge(stocked)
    found = figures(stocked, window)
    assert found["slate_valid_share"].value == pytest.approx(8 / 9)
    assert found["slate_valid_share"].bounds.limits("fail") == (None, None)
    assert found["placement_mix"].observed["counts"] == {"": 4, "home": 4}


def test_every_rule_says_what_breaks_it_and_why() -> None:
    assert len(impression_rules()) == 10
    for rule in impression_rules():
        assert rule.description(LIMITS).startswith(f"{rule.name}: ")
        assert ":max" not in rule.description(LIMITS)
