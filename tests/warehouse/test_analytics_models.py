"""Views of models equal the same figures computed in plain Python."""

import random
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.warehouse.analytics import MIN_PEOPLE, install_analytics

START = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Run:
    """A training run: its window, the decision about its model, and the publication after it."""

    key: str
    kind: str
    bounds: tuple[int, int]
    opened: float
    """In hours after the start, here and below."""
    version: str
    action: str
    decided: float
    published: float | None
    opponent: str | None

    @property
    def consumer(self) -> str:
        return self.key.split("/", 1)[0]


RUNS = [
    Run("nightly/1", "full", (0, 100), 10, "1", "promote", 12, 13, None),
    Run("hourly/1", "micro", (100, 150), 14, "2", "hold", 14.5, None, "1"),
    Run("hourly/2", "micro", (150, 200), 16, "3", "promote", 16.5, 17, "1"),
    # Decided after hourly/2 but read less: its model was not the first to read any feedback.
    Run("nightly/2", "full", (100, 180), 15, "4", "promote", 18, None, "1"),
]


@dataclass(frozen=True)
class Event:
    transaction_id: int
    occurred: datetime | None
    received: datetime

    def used_by(self) -> Run | None:
        knowing = [run for run in RUNS if run.action == "promote" and run.bounds[1] > self.transaction_id]
        return min(knowing, key=lambda run: run.decided, default=None)


def moment(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def events() -> list[Event]:
    chance = random.Random(3)
    made = []
    for transaction_id in range(40, 240):
        received = moment(transaction_id / 10 - 3)
        occurred = received - timedelta(seconds=chance.choice([0.5, 20, 5_000, 200_000]))
        made.append(Event(transaction_id, None if transaction_id == 77 else occurred, received))
    return made


@pytest.fixture
def trained(warehouse: sa.Engine) -> sa.Engine:
    with warehouse.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO feedback (user_id, item_id, event_type, occurred_at, received_at,"
                " transaction_id) VALUES (:user, 'i', 'like', :occurred, :received, :transaction_id)"
            ),
            # Views show nothing of fewer than five people.
            [{**vars(event), "user": f"u{number % 7}"} for number, event in enumerate(events())],
        )
        for run in sorted(RUNS, key=lambda run: run.opened):
            connection.execute(
                sa.text(
                    """
                    INSERT INTO windows (consumer, run_key, lower_transaction_id, upper_transaction_id,
                        opened_at, arrived) VALUES (:consumer, :key, :lower, :upper, :opened, 0);
                    INSERT INTO snapshots (window_id, kind, uri, digest, rows, created_at)
                    SELECT window_id, :kind, 'files/' || :key || attempt, 'digest of ' || :key, :upper,
                        :opened + attempt * interval '1 second'
                    FROM windows CROSS JOIN generate_series(1, 2) AS attempt WHERE run_key = :key;
                    INSERT INTO model_evaluations
                        (run_key, model_version, scorer, slice, metric, value, users)
                    VALUES (:key, :version, 'candidate', 'all', 'ndcg_at_10', 0.1, 5),
                        (:key, :opponent, 'champion', 'all', 'ndcg_at_10', 0.1, 5),
                        (:key, NULL, 'popularity', 'all', 'ndcg_at_10', 0.1, 5);
                    """
                ),
                {
                    "consumer": run.consumer,
                    "key": run.key,
                    "kind": run.kind,
                    "lower": run.bounds[0],
                    "upper": run.bounds[1],
                    "opened": moment(run.opened),
                    "version": run.version,
                    "opponent": run.opponent,
                },
            )
        decide(connection)
    assert install_analytics(warehouse)
    return warehouse


def decide(connection: sa.Connection) -> None:
    champion, sequence = None, 0
    for run in sorted(RUNS, key=lambda run: run.decided):
        sequence += run.action == "promote"
        record(connection, run.action, run.version, champion, sequence, moment(run.decided), run.key)
        if run.action == "promote":
            champion = run.version
        if run.published is not None:
            publish(connection, run.version, moment(run.published))
    # A person rolls back to the first version, which is published again.
    record(connection, "roll_back", "1", champion, sequence + 1, moment(30), None)
    publish(connection, "1", moment(31))


def record(
    connection: sa.Connection,
    action: str,
    version: str,
    champion: str | None,
    sequence: int,
    at: datetime,
    run_key: str | None,
) -> None:
    connection.execute(
        sa.text(
            "INSERT INTO promotion_ledger (decided_at, action, model_version, previous_champion,"
            " champion_sequence, reason, explanation, actor, run_key)"
            " VALUES (:at, :action, :version, :champion, :sequence, 'because', 'It is so.', 'tests', :key)"
        ),
        {
            "at": at,
            "action": action,
            "version": version,
            "champion": champion,
            "sequence": sequence if action in ("promote", "roll_back") else None,
            "key": run_key,
        },
    )


def publish(connection: sa.Connection, version: str, at: datetime) -> None:
    connection.execute(
        sa.text(
            "INSERT INTO publications (run_key, model_version, scope, users, items, through_transaction_id,"
            " published_at) VALUES (gen_random_uuid()::text, :version, 'all', 1, 1, 0, :at)"
        ),
        {"version": version, "at": at},
    )


def rows(engine: sa.Engine, view: str) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.exec_driver_sql(f"SELECT * FROM analytics.{view}").mappings()]


def share(values: list[float], of: float) -> float:
    """Return a percentile with linear interpolation."""
    ordered = sorted(values)
    place = of * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def test_feedback_lag_ends_at_the_first_champion_that_read_the_event(trained: sa.Engine) -> None:
    days: dict[date, list[Event]] = defaultdict(list)
    for event in events():
        days[event.received.date()].append(event)
    found = {row["arrival_day"]: row for row in rows(trained, "feedback_lag")}
    assert found.keys() == days.keys()
    for day, arrived in days.items():
        row = found[day]
        used = [(event, run) for event in arrived if (run := event.used_by()) is not None]
        to_arrival = [(e.received - e.occurred).total_seconds() for e in arrived if e.occurred]
        to_champion = [(moment(run.decided) - e.received).total_seconds() for e, run in used]
        to_window = [(moment(run.opened) - e.received).total_seconds() for e, run in used]
        to_published = [
            (moment(run.published) - e.received).total_seconds() for e, run in used if run.published
        ]
        assert row["events"] == len(arrived)
        assert row["late_events"] == sum(e.occurred is not None and e.occurred.date() < day for e in arrived)
        assert row["waiting_events"] == len(arrived) - len(used)
        assert row["event_to_arrival_median"] == pytest.approx(median(to_arrival))
        assert row["event_to_arrival_p95"] == pytest.approx(share(to_arrival, 0.95))
        for name, values in (("window", to_window), ("champion", to_champion), ("published", to_published)):
            expected = pytest.approx(median(values)) if values else None
            assert row[f"arrival_to_{name}_median"] == expected
        assert row["arrival_to_champion_p95"] == (
            pytest.approx(share(to_champion, 0.95)) if to_champion else None
        )
    assert sum(row["waiting_events"] for row in found.values()) == sum(e.used_by() is None for e in events())


def test_feedback_lag_counts_events_before_the_first_champion(warehouse: sa.Engine) -> None:
    with warehouse.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO feedback (user_id, item_id, event_type, occurred_at)"
                " VALUES (:user, 'i', 'like', now()), (:user, 'i', 'view', '-infinity')"
            ),
            [{"user": f"u{number}"} for number in range(MIN_PEOPLE)],
        )
    install_analytics(warehouse)
    [row] = rows(warehouse, "feedback_lag")
    assert (row["events"], row["waiting_events"], row["arrival_to_champion_median"]) == (10, 10, None)


def test_model_lineage_leads_from_a_version_to_its_parent_and_snapshot(trained: sa.Engine) -> None:
    found = {row["model_version"]: row for row in rows(trained, "model_lineage")}
    assert found.keys() == {run.version for run in RUNS}
    for run in RUNS:
        row = found[run.version]
        assert (row["kind"], row["run_key"], row["action"]) == (run.kind, run.key, run.action)
        assert row["parent"] == (run.opponent if run.kind == "micro" else None)
        assert row["compared_with"] == run.opponent
        assert row["knows_below_transaction_id"] == run.bounds[1]
        assert (row["snapshot_rows"], row["snapshot_digest"]) == (run.bounds[1], f"digest of {run.key}")
        assert row["decided_at"] == moment(run.decided)
        assert row["first_published_at"] == (None if run.published is None else moment(run.published))
        assert row["times_champion"] == (run.action == "promote") + (run.version == "1")
