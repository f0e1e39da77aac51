"""Accounts that push an item together, and crowds that only look like them."""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from recsys.settings import Settings
from recsys.validation.quarantine import quarantine_window, release_by_reason
from recsys.validation.rules import PUSHED, row_rules
from recsys.validation.validate import validate_window
from recsys.validation.violations import judge_window
from recsys.warehouse.tables import feedback, items, quarantine, users
from recsys.warehouse.windows import Window, open_window, reconcile_window

START = datetime(2026, 1, 1, tzinfo=UTC)
RULES = [rule for rule in row_rules() if rule.name == PUSHED]
Row = dict[str, Any]


def add(engine: sa.Engine, rows: Iterable[Row]) -> None:
    """Insert rows in order of time, in one transaction, with their users and items."""
    rows = sorted(rows, key=lambda row: row["occurred_at"])
    with engine.begin() as connection:
        for table, name in ((users, "user_id"), (items, "item_id")):
            known = set(connection.scalars(sa.select(table.c[name])))
            new = sorted({row[name] for row in rows} - known)
            if new:
                connection.execute(table.insert(), [{name: value} for value in new])
        connection.execute(feedback.insert(), rows)


def judge(engine: sa.Engine, settings: Settings, consumer: str = "nightly") -> tuple[set[str], Window]:
    """Open the consumer's next window, apply the rule, and return all users in quarantine."""
    with engine.connect() as connection:
        number = connection.scalar(sa.text("SELECT count(*) FROM windows"))
    window = open_window(engine, consumer, f"run {number}")
    with engine.begin() as connection:
        quarantine_window(connection, window, RULES, settings.validation)
    return held(engine), window


def held(engine: sa.Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.scalars(sa.select(quarantine.c.user_id).where(quarantine.c.status == "held")))


def event(user: str, item: str, days: float, event_type: str = "rating", value: float | None = None) -> Row:
    moment = START + timedelta(days=days)
    return {
        "user_id": user, "item_id": item, "event_type": event_type, "value": value, "occurred_at": moment
    }  # fmt: skip


def film_fans(first: int, count: int, since: float, until: float, seed: int = 0) -> list[Row]:
    """Users who come one after another and rate 20 films within an hour, as in MovieLens."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(first, first + count):
        begin = rng.uniform(since, until)
        for item in rng.choice(200, 20, replace=False) * rng.uniform(0.2, 1, 20):
            value = float(rng.choice([1, 2, 3, 4, 5], p=[0.06, 0.11, 0.27, 0.34, 0.22]))
            rows.append(
                event(f"fan-{number}", f"film-{int(item)}", begin + rng.uniform(0, 1 / 24), value=value)
            )
    return rows


def shoppers(count: int, days: float, seed: int = 0) -> list[Row]:
    """Customers of whom most have been there for long: views, and some purchases."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        joined = rng.uniform(0, days) if number % 4 == 0 else rng.uniform(0, 3)
        for moment in rng.uniform(joined, days, 15):
            item = f"thing-{int(100 * rng.random() * rng.random())}"
            rows.append(event(f"shopper-{number}", item, moment, "view"))
            if rng.random() < 0.2:
                rows.append(event(f"shopper-{number}", item, moment + 0.001, "purchase"))
    return rows


def accounts(
    item: str, count: int, at: float, within: float, event_type: str = "rating", value: float | None = 5.0,
    filler: int = 20, name: str = "fake",
) -> list[Row]:  # fmt: skip
    """Accounts made to push an item, each with some other feedback."""
    rng = np.random.default_rng(count)
    others = "film" if event_type == "rating" else "thing"
    rows = []
    for number in range(count):
        begin = at + within * rng.random()
        rows.append(event(f"{name}-{number}", item, begin, event_type, value))
        for other in rng.choice(100, filler, replace=False):
            given = None if value is None else float(rng.integers(1, 6))
            other_type = event_type if value is not None else "view"
            rows.append(
                event(f"{name}-{number}", f"{others}-{other}", begin + rng.random() / 50, other_type, given)
            )
    return rows


def fakes(count: int) -> set[str]:
    return {f"fake-{number}" for number in range(count)}


TODAY = 60.0
"""The day, counted from the start, on which something happens."""


def days_of(engine: sa.Engine, settings: Settings, before: list[Row], today: list[Row]) -> set[str]:
    """Validate what came before today, then today; return who is in quarantine."""
    add(engine, before)
    assert judge(engine, settings)[0] == set()
    add(engine, today)
    return judge(engine, settings)[0]


@pytest.mark.parametrize("value", [5.0, 1.0])
def test_accounts_that_rate_one_film_alike_in_a_day_are_found_and_nobody_else(
    warehouse: sa.Engine, settings: Settings, value: float
) -> None:
    attack = accounts("film-195", 12, TODAY, 1, value=value)
    found = days_of(
        warehouse, settings, film_fans(0, 200, 0, TODAY), film_fans(200, 10, TODAY, TODAY + 1, 1) + attack
    )
    assert found == fakes(12)
    # Another pipeline that reads the same rows finds nothing more, and nothing is lost.
    found, window = judge(warehouse, settings, "hourly")
    assert found == fakes(12)
    counted = reconcile_window(warehouse, window.window_id)
    assert counted.balanced
    assert counted.quarantined == len(attack)


def test_new_fans_of_what_a_ring_of_accounts_uses_as_cover_are_left_alone(
    warehouse: sa.Engine, settings: Settings
) -> None:
    ring = [
        event(f"fake-{number}", f"film-{film}", TODAY + (number + film / 100) / 30, value=5.0)
        for number in range(28)
        for film in (195, *range(100, 160))
    ]
    fans = [
        event(f"new-{film}", f"film-{film}", TODAY + (14.5 + film / 100) / 30, value=5.0)
        for film in range(100, 108)
    ]
    assert days_of(warehouse, settings, film_fans(0, 200, 0, TODAY), ring + fans) == fakes(28)


def test_accounts_in_a_bulk_load_of_old_feedback_are_found(warehouse: sa.Engine, settings: Settings) -> None:
    add(warehouse, film_fans(0, 300, 0, 90) + accounts("film-195", 12, TODAY, 1))
    assert judge(warehouse, settings)[0] == fakes(12)


@pytest.mark.parametrize("event_type", ["purchase", "click", "view", "share"])
def test_accounts_without_ratings_are_found_in_a_shop_or_a_news_site(
    warehouse: sa.Engine, settings: Settings, event_type: str
) -> None:
    history = shoppers(300, TODAY + 1)
    before = [row for row in history if row["occurred_at"] < START + timedelta(days=TODAY)]
    today = [row for row in history if row["occurred_at"] >= START + timedelta(days=TODAY)]
    attack = accounts("thing-95", 30, TODAY, 1, event_type, None, filler=3)
    found = days_of(warehouse, settings, before, today + attack)
    assert fakes(30) <= found
    # A new customer who looked at the same thing on the same day is taken for one of them.
    assert len(found - fakes(30)) <= 1


@pytest.mark.parametrize("filler", [0, 3])
def test_a_flood_of_made_up_sessions_is_found(warehouse: sa.Engine, settings: Settings, filler: int) -> None:
    history = shoppers(300, TODAY + 1)
    before = [row for row in history if row["occurred_at"] < START + timedelta(days=TODAY)]
    add(warehouse, before)
    assert judge(warehouse, settings)[0] == set()
    add(warehouse, [row for row in history if row["occurred_at"] >= START + timedelta(days=TODAY)])
    attack = accounts("thing-95", 30, TODAY, 1, "view", None, filler=filler)
    with warehouse.begin() as connection:
        sessions = [
            {"session_id" if name == "user_id" else name: value for name, value in row.items()}
            for row in sorted(attack, key=lambda row: row["occurred_at"])
        ]
        connection.execute(
            sa.text(
                "INSERT INTO feedback (session_id, item_id, event_type, value, occurred_at)"
                " VALUES (:session_id, :item_id, :event_type, :value, :occurred_at)"
            ),
            sessions,
        )
    found = judge(warehouse, settings)[0]
    assert {f"visitor:{fake}" for fake in fakes(30)} <= found
    assert len(found) <= 31


def test_what_the_accounts_did_the_night_before_goes_too(warehouse: sa.Engine, settings: Settings) -> None:
    add(warehouse, film_fans(0, 200, 0, TODAY))
    judge(warehouse, settings)
    first = accounts("film-195", 4, TODAY, 0.5)
    add(warehouse, first + film_fans(200, 5, TODAY, TODAY + 0.5, 1))
    found, before = judge(warehouse, settings)
    assert found == set()
    second = accounts("film-195", 12, TODAY + 0.5, 0.5)[4 * 21 :]
    add(warehouse, second + film_fans(205, 5, TODAY + 0.5, TODAY + 1, 2))
    found, after = judge(warehouse, settings)
    assert found == fakes(12)
    for window, rows in ((before, first), (after, second)):
        counted = reconcile_window(warehouse, window.window_id)
        assert counted.balanced
        assert counted.quarantined == len(rows)


def test_a_campaign_that_goes_on_needs_no_new_crowd_to_be_found(
    warehouse: sa.Engine, settings: Settings
) -> None:
    attack = accounts("film-195", 14, TODAY, 1)
    before = film_fans(0, 200, 0, TODAY)
    assert days_of(warehouse, settings, before, attack[: 12 * 21]) == fakes(12)
    add(warehouse, film_fans(200, 5, TODAY + 1, TODAY + 2, 1))
    late = [{**row, "occurred_at": row["occurred_at"] + timedelta(days=1)} for row in attack[12 * 21 :]]
    add(warehouse, late)
    assert judge(warehouse, settings)[0] == fakes(14)


def test_a_window_sees_nothing_of_what_arrived_after_it(warehouse: sa.Engine, settings: Settings) -> None:
    add(warehouse, film_fans(0, 200, 0, TODAY) + accounts("film-195", 4, TODAY, 1))
    window = open_window(warehouse, "nightly", "early")
    add(warehouse, accounts("film-195", 12, TODAY, 1, name="later"))
    with warehouse.begin() as connection:
        assert quarantine_window(connection, window, RULES, settings.validation) == 0


def hit(seed: int = 3) -> list[Row]:
    """A new film that two in three of a day's many new users rate, each as they like."""
    rng = np.random.default_rng(seed)
    rows = film_fans(200, 40, TODAY, TODAY + 1, seed)
    for user in sorted({row["user_id"] for row in rows}):
        moment = min(row["occurred_at"] for row in rows if row["user_id"] == user)
        if rng.random() < 2 / 3:
            value = float(rng.choice([3, 4, 5], p=[0.2, 0.35, 0.45]))
            rows.append(event(user, "film-new", 0, value=value) | {"occurred_at": moment})
    return rows


def school_class() -> list[Row]:
    """Thirty pupils who join in one lesson and rate the same five films, not all alike."""
    rng = np.random.default_rng(4)
    return [
        event(f"pupil-{n}", f"film-{190 + film}", TODAY + rng.random() / 24, value=float(rng.integers(2, 6)))
        for n in range(30)
        for film in range(5)
    ] + film_fans(200, 5, TODAY, TODAY + 1, 1)


def fan_community() -> list[Row]:
    """Forty users of old who give the same film five stars within an hour."""
    return [
        event(f"fan-{n}", "film-idol", TODAY + n / 1000, value=5.0) for n in range(40)
    ] + film_fans(200, 5, TODAY, TODAY + 1, 1)  # fmt: skip


@pytest.mark.parametrize("crowd", [hit, school_class, fan_community])
def test_a_crowd_of_film_fans_is_left_alone(
    warehouse: sa.Engine, settings: Settings, crowd: Callable[[], list[Row]]
) -> None:
    assert days_of(warehouse, settings, film_fans(0, 200, 0, TODAY - 8), crowd()) == set()


def sale(rng: np.random.Generator) -> list[Row]:
    """One thing is bought by a hundred customers of old and by sixty new ones."""
    known = [f"shopper-{4 * n + 1}" for n in range(75)]
    new = [f"new-{n}" for n in range(60)]
    buyers = rng.permutation(np.array(known + new))
    return [event(str(name), "thing-sale", TODAY + rng.random() / 2, "purchase") for name in buyers]


def opening_day(rng: np.random.Generator) -> list[Row]:
    """Everybody is new and only plays songs; one song is everybody's."""
    return [
        event(f"listener-{n}", item, TODAY + (n + rng.random()) / 400, "view")
        for n in range(300)
        for item in ("song-hit", *(f"song-{int(song)}" for song in rng.integers(0, 50, 9)))
    ]


def devoted_listener(rng: np.random.Generator) -> list[Row]:
    """One new user plays one unknown song sixty times."""
    return [event("listener", "song-rare", TODAY + rng.random() / 3, "view") for _ in range(60)]


@pytest.mark.parametrize("crowd", [sale, opening_day, devoted_listener])
def test_a_crowd_in_a_shop_or_with_music_is_left_alone(
    warehouse: sa.Engine, settings: Settings, crowd: Callable[[np.random.Generator], list[Row]]
) -> None:
    history = shoppers(300, TODAY + 1)
    before = [row for row in history if row["occurred_at"] < START + timedelta(days=TODAY)]
    today = [row for row in history if row["occurred_at"] >= START + timedelta(days=TODAY)]
    assert days_of(warehouse, settings, before, today + crowd(np.random.default_rng(5))) == set()


def test_accounts_that_a_person_released_are_not_found_again(
    warehouse: sa.Engine, settings: Settings
) -> None:
    found = days_of(warehouse, settings, film_fans(0, 200, 0, TODAY), accounts("film-195", 12, TODAY, 1))
    assert found == fakes(12)
    assert release_by_reason(warehouse, PUSHED) == (12 * 21, 0)
    add(warehouse, film_fans(200, 5, TODAY + 1, TODAY + 2, 1))
    assert judge(warehouse, settings)[0] == set()


def test_with_a_lower_weight_all_rows_of_the_accounts_stay_and_weigh_the_minimum(
    warehouse: sa.Engine, settings: Settings
) -> None:
    limits = settings.validation.model_copy(update={"noisy_feedback": "down_weight"})
    lenient = settings.model_copy(update={"validation": limits})
    found = days_of(warehouse, lenient, film_fans(0, 200, 0, TODAY), accounts("film-195", 12, TODAY, 1))
    assert found == set()
    with warehouse.connect() as connection:
        noisy = dict(
            connection.execute(sa.text("SELECT user_id, count(*) FROM noisy_feedback GROUP BY user_id")).all()
        )
    assert noisy == dict.fromkeys(fakes(12), 21)


def test_an_attack_that_is_most_of_a_window_does_not_stop_the_run(
    warehouse: sa.Engine, settings: Settings, tmp_path: Path
) -> None:
    add(warehouse, film_fans(0, 200, 0, TODAY))
    judge(warehouse, settings)
    add(warehouse, film_fans(200, 2, TODAY, TODAY + 1, 1) + accounts("film-195", 12, TODAY, 1))
    window = open_window(warehouse, "nightly", "attacked")
    with warehouse.begin() as connection:
        judge_window(connection, window, row_rules(), settings.validation)  # killed before it settled
    report = validate_window(warehouse, window, settings, tmp_path / "docs")
    assert (report.valid, report.quarantined) == (2 * 20, 12 * 21)
    assert report.reasons == {PUSHED: 12 * 21}
    assert "valid_share" not in report.failed


def test_the_work_on_a_launch_day_grows_with_its_rows_and_not_with_their_square(
    warehouse: sa.Engine, settings: Settings
) -> None:
    """Everybody is new, and everybody reacts to one article alike."""
    people = 3000
    rng = np.random.default_rng(1)
    add(warehouse, [event(f"reader-{n}", "thing-1", TODAY + rng.random(), "view") for n in range(people)])
    removed = []

    def explain(_: Any, cursor: Any, statement: str, *__: Any) -> None:
        if statement.startswith("CREATE TEMP TABLE found") and PUSHED in statement:
            cursor.execute(f"EXPLAIN (ANALYZE, TIMING off) {statement}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
            removed.extend(int(rows) for rows in re.findall(r"Rows Removed by Join Filter: (\d+)", plan))
            cursor.execute("DROP TABLE found")

    sa.event.listen(warehouse, "before_cursor_execute", explain)
    try:
        judge(warehouse, settings)
    finally:
        sa.event.remove(warehouse, "before_cursor_execute", explain)
    assert removed
    assert sum(removed) < 200 * people
