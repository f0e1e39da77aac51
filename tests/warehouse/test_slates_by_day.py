"""Counts of slates and of feedback: a refresh gives what counting everything gives, whatever happened."""

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.settings import Settings
from recsys.upkeep.erasure import erase_requested, request_erasure
from recsys.warehouse.analytics import install_analytics, refresh_analytics
from recsys.warehouse.feedback_counts import update_feedback_counts
from recsys.warehouse.partitions import drop_old_impressions, ensure_months
from recsys.warehouse.slates_by_day import update_slates_by_day
from recsys.warehouse.statements import sql_path
from recsys.warehouse.windows import open_window
from tests.warehouse.all_feedback import DEFINITIONS

NOW = datetime.now(UTC).replace(microsecond=0)
_MONTH = 12 * NOW.year + NOW.month - 1
MONTHS = [datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in range(_MONTH, _MONTH - 5, -1)]
USERS = [f"u{number}" for number in range(8)]
ITEMS = [f"i{number}" for number in range(6)]
SLATE = (
    "INSERT INTO impressions"
    " (impression_id, user_id, session_id, item_ids, propensities, rules, model_version, shown_at)"
    " VALUES (:id, :user, :session, :items, :propensities, :rules, :version,"
    " CAST(:at AS timestamptz)) ON CONFLICT DO NOTHING"
)
REACTION = (
    "INSERT INTO feedback"
    " (user_id, session_id, item_id, event_type, value, impression_id, occurred_at, received_at)"
    " VALUES (:user, :session, :item, :type, :value, :slate, CAST(:at AS timestamptz),"
    " CAST(:arrived AS timestamptz))"
)
HELD = (
    "INSERT INTO quarantined_impressions (impression_id, shown_at, transaction_id, reasons)"
    " SELECT impression_id, shown_at, transaction_id, '{shown_twice}' FROM impressions"
    " WHERE impression_id LIKE :which ON CONFLICT DO NOTHING"
)


def write(engine: sa.Engine, statement: str, **values: object) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(statement), values)


def slate(number: int, at: str = "now", user: str = "u0", **values: object) -> dict[str, object]:
    usual = {"session": None, "propensities": [1.0, 0.5], "rules": None, "version": "1"}
    return {"id": f"s{number}", "user": user, "items": ["i0", "i1"], "at": at} | usual | values


def reaction(number: int, at: str = "now", user: str = "u0", **values: object) -> dict[str, object]:
    usual = {"session": None, "item": "i0", "type": "click", "value": None, "arrived": "now"}
    return {"slate": f"s{number}", "user": user, "at": at} | usual | values


def update(engine: sa.Engine, *, anew: bool = False) -> list[tuple[str, str]]:
    with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
        update_feedback_counts(connection, anew=anew)
        return update_slates_by_day(connection, anew=anew)


def counts(connection: sa.Connection) -> list[tuple[object, ...]]:
    rows = connection.exec_driver_sql(
        "SELECT day::text, model_version, position, rule, slates, shown, reactions, clicks, conversions,"
        " clicked_slates, converted_slates, propensities, round(sum_of_propensities::numeric, 9), people,"
        " reacting_people, clicking_people, converting_people, logged_people FROM slates_by_day"
    )
    return sorted((tuple(row) for row in rows), key=repr)


def counts_of_feedback(connection: sa.Connection) -> list[tuple[object, ...]]:
    statements = (
        "SELECT user_id, events, explicit_events, items, active_days, weeks::text FROM feedback_by_user",
        "SELECT item_id, month, events, people, ratings, sum_of_ratings, rating_people, last_event_at::text"
        " FROM feedback_by_item",
        # The range of transactions stays as wide as it was when rows of the day go.
        "SELECT arrival_day, events, late_events, waiting_events, people, late_people, waiting_people,"
        " dated_people, read_people, served_people FROM feedback_lag_by_day",
    )
    found = [sorted(connection.exec_driver_sql(statement), key=repr) for statement in statements]
    return [tuple(row) for rows in found for row in rows]


def check(engine: sa.Engine, *done: object) -> None:
    """Compare the counts with those of a count of everything, which is then undone."""
    with engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        found = counts(connection)
        update_slates_by_day(connection, anew=True)
        assert found == counts(connection), done
        connection.rollback()
        update_feedback_counts(connection)
        for view, definition in DEFINITIONS.items():
            query = sql_path("analytics", f"{view}.sql").read_text().partition(" as\n")[2].partition(";")[0]
            assert rows_of(connection, query) == rows_of(connection, definition), (view, done)
        found = counts_of_feedback(connection)
        update_feedback_counts(connection, anew=True)
        assert found == counts_of_feedback(connection), done
        connection.rollback()


def rows_of(connection: sa.Connection, query: str) -> list[str]:
    def written(value: object) -> str:
        return f"{value:.9g}" if isinstance(value, float) else str(value)

    rows = connection.execution_options(no_parameters=True).exec_driver_sql(query)
    return sorted(" ".join(map(written, row)) for row in rows)


class History:
    """What may happen to slates and feedback, in any order."""

    def __init__(self, engine: sa.Engine, settings: Settings, chance: random.Random) -> None:
        self.engine, self.settings, self.chance = engine, settings, chance
        self.slates: list[tuple[str, dict[str, Any], datetime]] = []
        self.open: list[sa.Connection] = []
        self.retired: list[datetime] = []
        self.promoted: list[str] = []

    def somebody(self) -> dict[str, str | None]:
        if self.chance.random() < 0.3:
            return {"user": None, "session": f"session{self.chance.randint(0, 3)}"}
        return {"user": self.chance.choice(USERS), "session": None}

    def made(self) -> list[tuple[str, dict[str, Any]]]:
        """Slates, some of which come again a long time later."""
        made = []
        for _ in range(4):
            length = self.chance.randint(1, 4)
            at = NOW - timedelta(hours=self.chance.randint(0, 2900))
            who = self.somebody()
            # The same slate would wait for a transaction that is open for long.
            again = self.slates and not self.open and self.chance.random() < 0.1
            number = self.chance.choice(self.slates)[0] if again else f"s{len(self.slates)}"
            self.slates.append((number, who, at))
            infinite = self.chance.choice(["infinity", "-infinity"])
            row = slate(0) | who
            row |= {
                "id": number,
                "at": infinite if self.chance.random() < 0.05 else at.isoformat(),
                "items": [self.chance.choice([*ITEMS, None]) for _ in range(length)],
                "propensities": self.chance.choice([None, [0.25] * length]),
                "rules": self.chance.choice([None, [self.chance.choice(["r", "t", None])] * length]),
                "version": self.chance.choice(["1", "2", None]),
            }
            made.append((SLATE, row))
        return made

    def reacted(self) -> list[tuple[str, dict[str, Any]]]:
        made = []
        for _ in range(8):
            number, who, at = self.chance.choice(self.slates)
            row = reaction(0) | (who if self.chance.random() < 0.8 else self.somebody())
            row |= {
                "slate": number,
                "item": self.chance.choice(ITEMS),
                "type": self.chance.choice(["click", "purchase", "view", "like", "wave", "rating"]),
                "at": (at + timedelta(hours=self.chance.randint(-2, 900))).isoformat(),
                "arrived": (NOW - timedelta(days=self.chance.randint(0, 2))).isoformat(),
            }
            if row["type"] == "rating":
                row["value"] = self.chance.choice([None, 0.1, 0.7, 4.0])
            if self.chance.random() < 0.03:
                row["at"] = self.chance.choice(["infinity", "-infinity", None])
            made.append((REACTION, row))
        return made

    def show(self) -> None:
        with self.engine.begin() as connection:
            for statement, row in self.made():
                connection.execute(sa.text(statement), row)

    def react(self) -> None:
        with self.engine.begin() as connection:
            for statement, row in self.reacted() if self.slates else []:
                connection.execute(sa.text(statement), row)

    def write_for_long(self) -> None:
        """Leave a transaction open, or end those that are open."""
        for connection in self.open:
            connection.commit()
            connection.close()
        if self.open:
            self.open = []
            return
        connection = self.engine.connect()
        self.open.append(connection)
        for statement, row in self.made() + self.reacted():
            connection.execute(sa.text(statement), row)

    def settle(self) -> None:
        for connection in self.open:
            connection.commit()
            connection.close()
        self.open = []

    def quarantine(self) -> None:
        write(self.engine, "DELETE FROM feedback WHERE feedback_id % 7 = :n", n=self.chance.randint(0, 6))

    def hold(self) -> None:
        """Put some slates into quarantine, and release others."""
        write(self.engine, "UPDATE quarantined_impressions SET status = 'released'")
        write(self.engine, HELD, which=f"%{self.chance.randint(0, 9)}")

    def correct(self) -> None:
        number = self.chance.randint(0, 9)
        write(self.engine, "UPDATE impressions SET shown_at = shown_at - interval '26 hours'"
              " WHERE isfinite(shown_at) AND impression_id LIKE :n", n=f"%{number}")  # fmt: skip

    def name_other_slates(self) -> None:
        number, other = self.chance.randint(0, 4), self.chance.choice(self.slates)[0]
        write(
            self.engine,
            "UPDATE feedback SET impression_id = :other, user_id = slates.user_id,"
            " item_id = coalesce(slates.item_ids[1], 'i0') FROM impressions AS slates"
            " WHERE feedback_id % 5 = :n AND slates.impression_id = :other",
            n=number,
            other=other,
        )

    def log_in(self) -> None:
        self.settle()
        session, user = f"session{self.chance.randint(0, 3)}", self.chance.choice(USERS)
        write(
            self.engine,
            "SELECT join_session(:session, :user)"
            " WHERE NOT EXISTS"
            " (SELECT FROM users WHERE user_id = visitor_id(:session) AND joined_to IS NOT NULL)",
            session=session,
            user=user,
        )

    def erase(self) -> None:
        self.settle()
        user = self.chance.choice(USERS)
        request_erasure(self.engine, user)
        erase_requested(self.engine, self.settings.snapshots)
        write(self.engine, "INSERT INTO users (user_id) VALUES (:user)", user=user)

    def redefine(self) -> None:
        write(
            self.engine,
            "UPDATE event_types SET role = CASE role WHEN 'step' THEN 'outcome' ELSE 'step' END, polarity = 1"
            " WHERE event_type = 'view'",
        )

    def drop(self) -> None:
        self.settle()
        drop_old_impressions(self.engine, 2)

    def retire(self) -> None:
        """Retire a month of feedback, or bring one back."""
        self.settle()
        if self.retired:
            write(
                self.engine, "SELECT restore_feedback_month(CAST(:month AS date))", month=self.retired.pop()
            )
            return
        open_window(self.engine, "nightly", f"{self.chance.random()}")
        write(
            self.engine,
            "INSERT INTO validation_results (window_id, expectation, success, severity, observed, expected)"
            " SELECT window_id, 'valid_share', true, 'critical', '1', '1' FROM windows"
            " ON CONFLICT DO NOTHING",
        )
        month = MONTHS[2]
        with self.engine.begin() as connection:
            statement = sa.text("SELECT retire_feedback_month(CAST(:month AS date))")
            if connection.scalar(statement, {"month": month}) is None:
                self.retired.append(month)

    def promote(self) -> None:
        """Promote the model of a new window, and publish those of some earlier ones."""
        run, number = f"{self.chance.random()}", len(self.promoted) + 1
        open_window(self.engine, "hourly", run)
        write(
            self.engine,
            "INSERT INTO promotion_ledger (run_key, action, model_version, previous_champion,"
            " champion_sequence, reason, explanation, actor)"
            " VALUES (:run, 'promote', :version, :previous, :number, 'because', 'It is so.', 'tests')",
            run=run,
            version=f"m{number}",
            previous=self.promoted[-1] if self.promoted else None,
            number=number,
        )
        self.promoted.append(f"m{number}")
        write(
            self.engine,
            "INSERT INTO publications"
            " (run_key, model_version, scope, users, items, through_transaction_id)"
            " VALUES (:run, :version, 'all', 1, 1, 0)",
            run=run,
            version=self.chance.choice(self.promoted),
        )

    def rarely(self) -> list[Callable[[], None]]:
        return [
            self.write_for_long, self.quarantine, self.hold, self.correct, self.name_other_slates,
            self.log_in, self.erase, self.redefine, self.drop, self.retire, self.promote, self.promote,
        ]  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
def test_a_refresh_after_anything_equals_a_count_of_everything(
    warehouse: sa.Engine, settings: Settings, seed: int
) -> None:
    chance = random.Random(seed)
    history = History(warehouse, settings, chance)
    for table in ("feedback", "impressions"):
        ensure_months(warehouse, MONTHS, table=table)
    write(warehouse, "INSERT INTO users (user_id) SELECT unnest(CAST(:users AS text[]))", users=USERS)
    write(
        warehouse, "INSERT INTO items (item_id) SELECT unnest(CAST(:items AS text[]))", items=[*ITEMS, "new"]
    )
    done, in_part = [], 0
    events = 2 * history.rarely()
    chance.shuffle(events)
    try:
        for event in events:
            for often in (history.show, history.show, history.react, history.react, history.react):
                often()
            update(warehouse)
            event()
            in_part += update(warehouse) != [("-infinity", "infinity")]
            done.append(event.__name__)
            check(warehouse, *done)
    finally:
        history.settle()
    update(warehouse)
    check(warehouse, *done)
    assert in_part > 8


@pytest.fixture
def shop(warehouse: sa.Engine) -> sa.Engine:
    """Six people saw a slate the day before yesterday, and one of them another one today."""
    write(warehouse, "INSERT INTO users (user_id) SELECT unnest(CAST(:users AS text[]))", users=USERS)
    for number, user in enumerate(USERS[:6]):
        write(warehouse, SLATE, **slate(number, (NOW - timedelta(days=2)).isoformat(), user))
    write(warehouse, SLATE, **slate(6))
    install_analytics(warehouse)
    return warehouse


def total(engine: sa.Engine, column: str = "slates") -> int | None:
    with engine.connect() as connection:
        found: int | None = connection.exec_driver_sql(
            f"SELECT {column} FROM analytics.click_through_by_model"
        ).scalar_one()
        return found


def day(days: int) -> str:
    return f"{NOW - timedelta(days=days):%Y-%m-%d}"


def test_a_refresh_counts_the_days_that_changed_and_no_others(shop: sa.Engine) -> None:
    assert update(shop) == []
    write(shop, SLATE, **slate(7))
    assert update(shop) == [(day(0), day(0))]
    write(shop, REACTION, **reaction(3, user="u3"))
    write(shop, REACTION, **reaction(4, user="somebody else"))
    assert update(shop) == [(day(2), day(2))]
    write(shop, "DELETE FROM feedback")
    assert update(shop) == [(day(2), day(2))]
    assert update(shop) == []


def test_what_is_sent_back_is_no_conversion(shop: sa.Engine) -> None:
    write(shop, "UPDATE event_types SET value_is_amount = true WHERE event_type = 'purchase'")
    for number, value in enumerate([1, 1, 1, 1, 1, -1]):
        sent = reaction(number, user=USERS[number], type="purchase", value=value)
        write(shop, REACTION, **sent)
    refresh_analytics(shop)
    assert (total(shop, "reactions"), total(shop, "conversions")) == (6, 5)


def test_a_slate_in_quarantine_is_counted_when_it_is_released(shop: sa.Engine) -> None:
    def counted() -> tuple[int | None, int | None]:
        refresh_analytics(shop)
        with shop.connect() as connection:
            by_slate = "SELECT sum(slates) FROM analytics.click_through_by_slate"
            return total(shop), connection.exec_driver_sql(by_slate).scalar_one()

    assert counted() == (7, 7)
    write(shop, HELD, which="s6")
    assert counted() == (6, 6)
    write(shop, "UPDATE quarantined_impressions SET status = 'released'")
    assert counted() == (7, 7)


def test_a_slate_that_commits_after_the_refresh_is_counted_by_the_next(shop: sa.Engine) -> None:
    with shop.begin() as slow:
        slow.execute(sa.text(SLATE), slate(8, (NOW - timedelta(days=9)).isoformat()))
        write(shop, SLATE, **slate(9))
        refresh_analytics(shop)
        assert total(shop) == 8
    refresh_analytics(shop)
    assert total(shop) == 9


def test_a_refresh_that_is_killed_half_way_has_changed_nothing(
    shop: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10, 14):
        write(shop, SLATE, **slate(number, (NOW - timedelta(days=3 * number)).isoformat()))
    with shop.connect() as connection:
        before = counts(connection)
    write(shop, "ALTER TABLE slates_by_day ADD CONSTRAINT power_cut CHECK (day > current_date - 34)")
    with pytest.raises(sa.exc.IntegrityError, match="power_cut"):
        refresh_analytics(shop)
    with shop.connect() as connection:
        assert counts(connection) == before
    write(shop, "ALTER TABLE slates_by_day DROP CONSTRAINT power_cut")
    assert len(update(shop)) == 4
    check(shop)


def test_of_two_refreshes_at_once_one_waits_and_both_are_right(shop: sa.Engine) -> None:
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    second = threading.Thread(target=lambda: update(shop))
    with shop.connect().execution_options(isolation_level="READ COMMITTED") as first:
        write(shop, SLATE, **slate(7))
        update_slates_by_day(first)
        write(shop, SLATE, **slate(8))
        second.start()
        with shop.connect() as observer:
            while second.is_alive() and not observer.scalar(waiting):
                observer.rollback()
        first.commit()
    second.join()
    check(shop)
    with shop.connect() as connection:
        statement = "SELECT sum(slates) FROM slates_by_day WHERE position IS NULL AND rule IS NULL"
        assert connection.exec_driver_sql(statement).scalar_one() == 9


def test_an_erasure_leaves_no_hash_of_the_person(shop: sa.Engine, settings: Settings) -> None:
    person = "SELECT count(*) FROM slates_by_day WHERE hashtextextended('u0', 0) = ANY (people)"
    with shop.connect() as connection:
        assert connection.exec_driver_sql(person).scalar_one() > 0
    request_erasure(shop, "u0")
    erase_requested(shop, settings.snapshots)
    with shop.connect() as connection:
        assert connection.exec_driver_sql(person).scalar_one() == 0
    refresh_analytics(shop)
    assert total(shop) == 5
    check(shop)


def test_everything_is_counted_anew_on_demand_and_after_a_restore(shop: sa.Engine) -> None:
    write(shop, "UPDATE slates_by_day SET clicks = 7, clicking_people = people")
    refresh_analytics(shop)
    assert total(shop, "clicks") == 14
    refresh_analytics(shop, anew=True)
    assert total(shop, "clicks") == 0
    write(shop, "UPDATE slates_by_day_progress SET through_transaction_id = through_transaction_id + 1000000")
    write(shop, "INSERT INTO windows (consumer, run_key, lower_transaction_id, upper_transaction_id, arrived)"
          " SELECT 'nightly', 'a', 0, through_transaction_id, 0 FROM slates_by_day_progress")  # fmt: skip
    write(shop, SLATE, **slate(20))
    assert update(shop) == []
    write(shop, "SELECT warehouse_rebase_transaction_ids()")
    assert update(shop) == [("-infinity", "infinity")]
    write(shop, SLATE, **slate(21))
    assert update(shop) == [(day(0), day(0))]
