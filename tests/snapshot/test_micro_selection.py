"""Which feedback a micro snapshot of many users holds, and how it is found."""

from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa

from recsys.settings import Settings
from recsys.snapshot.micro import micro_snapshot_parameters, take_micro_snapshot
from recsys.snapshot.read import Snapshot, read_snapshot
from recsys.snapshot.reference import TrainedThrough
from recsys.snapshot.store import Folder
from recsys.warehouse.pseudonyms import fill_user_keys
from recsys.warehouse.statements import read_statement, render_literals
from recsys.warehouse.windows import Window, open_window
from tests.snapshot.warehouse_rows import START, add_feedback, add_items, add_users, at

USERS = 1600
AFFECTED = 640


@pytest.fixture
def busy(warehouse: sa.Engine, settings: Settings) -> sa.Engine:
    """1,600 users with three old events each, of whom 640 have a fresh one."""
    add_items(warehouse, "a", "b", "c")
    add_users(warehouse, *(f"user {number:04d}" for number in range(USERS)))
    fill_user_keys(warehouse, settings.require_pseudonym_key())
    for minute, item in enumerate("abc"):
        add_feedback(warehouse, [(f"user {number:04d}", item, minute) for number in range(USERS)])
    return warehouse


def parent_of(engine: sa.Engine) -> TrainedThrough:
    return TrainedThrough(open_window(engine, "nightly", "parent").upper_transaction_id, at(60))


def take(engine: sa.Engine, settings: Settings, parent: TrainedThrough, run: str) -> tuple[Window, Snapshot]:
    window = open_window(engine, "hourly", run)
    return window, read_snapshot(take_micro_snapshot(engine, window, settings, parent))


def replayed_users(snapshot: Snapshot) -> set[str]:
    return set(snapshot.sequences("replay").user_keys)


def test_a_large_replay_sample_has_the_requested_users_with_their_history_once(
    busy: sa.Engine, settings: Settings
) -> None:
    parent = parent_of(busy)
    fresh = [(f"user {number:04d}", "a", 61 + number / 1000) for number in range(AFFECTED)]
    add_feedback(busy, fresh)
    _, snapshot = take(busy, settings, parent, "hour")
    rows = snapshot.interactions(["user_key", "item_id", "purpose"]).to_pylist()
    assert set(Counter(map(tuple, map(dict.values, rows))).values()) == {1}
    users = {
        purpose: {row["user_key"] for row in rows if row["purpose"] == purpose}
        for purpose in ("fresh", "probe", "history", "replay", "guard")
    }
    assert len(users["replay"]) == AFFECTED
    assert users["replay"].isdisjoint(users["history"] | users["guard"])
    assert users["history"] == users["fresh"] | users["probe"]
    bound = settings.micro_update.guard_share * 2**32
    assert all(int(key[:8], 16) >= bound for key in users["replay"])
    assert sum(row["purpose"] == "replay" for row in rows) == 3 * AFFECTED


def test_each_window_has_its_own_sample_and_a_retry_the_same(busy: sa.Engine, settings: Settings) -> None:
    parent = parent_of(busy)
    add_feedback(busy, [(f"user {number:04d}", "a", 61 + number / 1000) for number in range(AFFECTED)])

    def replayed(run: str) -> set[str]:
        window, snapshot = take(busy, settings, parent, run)
        again = replayed_users(snapshot)
        Folder(snapshot.uri).remove()
        assert replayed_users(read_snapshot(take_micro_snapshot(busy, window, settings, parent))) == again
        return again

    assert replayed("hour") != replayed("another hour")


def test_a_history_has_the_comments_of_its_own_events(warehouse: sa.Engine, settings: Settings) -> None:
    add_items(warehouse, "a", "b", "c")
    add_users(warehouse, "ann", "bob")
    for user in ("ann", "bob"):
        add_feedback(warehouse, [(user, "a", 1)], event_type="comment", comment=f"{user} says")
        add_feedback(warehouse, [(user, "b", 2), (user, "c", 3)])
    parent = parent_of(warehouse)
    add_feedback(warehouse, [("ann", "c", 61), ("ann", "b", 62)])
    update = settings.micro_update.model_copy(update={"min_fresh_events": 1, "guard_share": 0.0})
    _, snapshot = take(warehouse, settings.model_copy(update={"micro_update": update}), parent, "hour")
    rows = snapshot.interactions(["item_id", "comment", "purpose"]).to_pylist()
    known = sorted((row["purpose"], row["item_id"], row["comment"]) for row in rows if row["comment"])
    assert known == [("history", "a", "ann says"), ("replay", "a", "bob says")]
    assert sum(row["comment"] is None for row in rows) == 6


def test_a_history_needs_only_the_index(busy: sa.Engine, settings: Settings) -> None:
    parent = parent_of(busy)
    add_feedback(busy, [("user 0000", "a", 61)])
    with busy.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(
            sa.text("SELECT ensure_feedback_partitions(:day, :day)"), {"day": START - timedelta(days=1)}
        )
        connection.execute(sa.text("VACUUM (ANALYZE) feedback, users"))
    window = open_window(busy, "hourly", "hour")
    statement = render_literals(
        read_statement("snapshot/select_micro_snapshot"), micro_snapshot_parameters(window, settings, parent)
    )
    with busy.connect() as connection:
        # The table of a test is small enough to be scanned.
        connection.exec_driver_sql("SET enable_seqscan = off")
        connection.exec_driver_sql("SET enable_bitmapscan = off")
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}").scalars())
    history = plan[plan.index("SELECT* 2") :]
    assert "Index Only Scan Backward" in history
