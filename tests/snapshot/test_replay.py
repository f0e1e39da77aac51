"""Reservoirs, and what micro snapshots take out of them."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.columns import Columns, Purpose
from recsys.settings import Settings
from recsys.snapshot.erasure import erase_from_snapshots
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.micro import take_micro_snapshot
from recsys.snapshot.read import Snapshot, read_snapshot
from recsys.snapshot.reference import SnapshotRef, TrainedThrough
from recsys.snapshot.replay import find_replay
from recsys.snapshot.reservoir import write_reservoir
from recsys.warehouse.pseudonyms import user_key
from recsys.warehouse.windows import open_window
from tests.snapshot.warehouse_rows import add_feedback, add_items, add_users, at

USERS = [f"user {number:02d}" for number in range(40)]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A quarter of the users are guard users; all others are replayed if there is room."""
    return updating(settings, min_fresh_events=1, guard_share=0.25, replay_users_per_fresh_user=100.0)


@pytest.fixture
def shop(warehouse: sa.Engine) -> sa.Engine:
    """40 users with three events each in the first three minutes, and one held-out event."""
    add_items(warehouse, "a", "b", "c")
    add_users(warehouse, *USERS)
    for minute, item in enumerate("abc"):
        add_feedback(warehouse, [(user, item, minute + place / 100) for place, user in enumerate(USERS)])
    return warehouse


def updating(settings: Settings, **values: object) -> Settings:
    return settings.model_copy(update={"micro_update": settings.micro_update.model_copy(update=values)})


def night(engine: sa.Engine, settings: Settings, run: str = "night") -> tuple[Snapshot, Snapshot]:
    """Return a full snapshot and its reservoir."""
    full = take_full_snapshot(engine, open_window(engine, "nightly", run), settings)
    return read_snapshot(full), read_snapshot(write_reservoir(engine, full, settings))


def hour(engine: sa.Engine, settings: Settings, parent: TrainedThrough, run: str) -> Snapshot:
    return read_snapshot(take_micro_snapshot(engine, open_window(engine, "hourly", run), settings, parent))


def key_of(user: str, settings: Settings) -> str:
    return user_key(user, settings.require_pseudonym_key())


def by_guard(settings: Settings) -> tuple[list[str], list[str]]:
    """Return guard users and others."""
    bound = settings.micro_update.guard_share * 2**32
    guards = [user for user in USERS if int(key_of(user, settings)[:8], 16) < bound]
    return guards, [user for user in USERS if user not in guards]


def events(snapshot: Snapshot, purpose: str, settings: Settings) -> Counter[tuple[str, str]]:
    """Return users and items of a purpose."""
    names = {key_of(user, settings): user for user in USERS}
    rows = snapshot.interactions().to_pylist()
    return Counter(
        (names[row[Columns.USER_KEY]], row[Columns.ITEM_ID])
        for row in rows
        if row[Columns.PURPOSE] == purpose
    )


def users(snapshot: Snapshot, purpose: str, settings: Settings) -> set[str]:
    return {user for user, _ in events(snapshot, purpose, settings)}


def rows(engine: sa.Engine, query: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def test_a_reservoir_holds_what_was_trained_on_of_guard_users_and_of_others(
    shop: sa.Engine, settings: Settings
) -> None:
    full, reservoir = night(shop, settings)
    trained = [row for row in full.interactions().to_pylist() if row["occurred_at"] < full.held_out_from]
    found = reservoir.interactions().to_pylist()
    assert {row["feedback_id"] for row in found} == {row["feedback_id"] for row in trained}
    guards, others = by_guard(settings)
    assert users(reservoir, Purpose.GUARD, settings) == set(guards)
    assert users(reservoir, Purpose.REPLAY, settings) == set(others)
    assert reservoir.trained_through == full.trained_through
    assert reservoir.manifest.rows == len(found) < full.manifest.rows
    assert reservoir.manifest.users == len(USERS)


def test_a_reservoir_is_bounded_and_holds_the_latest_events(shop: sa.Engine, settings: Settings) -> None:
    small = updating(settings, max_replay_users=7, max_guard_users=3).model_copy(
        update={"model": settings.model.model_copy(update={"max_events": 1})}
    )
    _, reservoir = night(shop, small)
    assert len(users(reservoir, Purpose.REPLAY, settings)) == 7
    assert len(users(reservoir, Purpose.GUARD, settings)) == 3
    kept = events(reservoir, Purpose.REPLAY, settings) + events(reservoir, Purpose.GUARD, settings)
    for user in {user for user, _ in kept}:
        assert {item for owner, item in kept if owner == user} in ({"a", "b"}, {"b", "c"})
    assert reservoir.manifest.rows == 2 * 10


def test_a_reservoir_is_written_and_recorded_once(shop: sa.Engine, settings: Settings) -> None:
    full, reservoir = night(shop, settings)
    ref = SnapshotRef(full.uri, full.manifest.digest, "full", full.manifest.rows, full.manifest.window_id)
    modified = Path(reservoir.uri, "manifest.json").stat().st_mtime_ns
    assert write_reservoir(shop, ref, settings).uri == reservoir.uri
    assert Path(reservoir.uri, "manifest.json").stat().st_mtime_ns == modified
    assert rows(shop, "SELECT uri, digest, rows FROM snapshots WHERE kind = 'reservoir'") == [
        (reservoir.uri, reservoir.manifest.digest, reservoir.manifest.rows)
    ]


def test_reservoirs_live_on_any_file_system(shop: sa.Engine, settings: Settings) -> None:
    elsewhere = settings.model_copy(update={"snapshot_root": "memory://bucket/reservoirs"})
    full, _ = night(shop, elsewhere)
    _, (one, *_) = by_guard(elsewhere)
    add_feedback(shop, [(one, "a", 10), (one, "b", 11)])
    first = hour(shop, elsewhere, full.trained_through, "hour")
    add_feedback(shop, [(one, "a", 20), (one, "b", 21)])
    hour(shop, elsewhere, first.trained_through, "next hour")
    assert {kind for (kind,) in rows(shop, "SELECT kind FROM snapshots")} == {
        "full", "reservoir", "micro", "learned"
    }  # fmt: skip


def test_users_with_fresh_events_have_no_replay_or_guard_events(shop: sa.Engine, settings: Settings) -> None:
    full, _ = night(shop, settings)
    guards, others = by_guard(settings)
    parent = replace(full.trained_through, occurred_before=at(5))
    add_feedback(shop, [(guards[0], "a", 10), (others[0], "a", 11), (others[0], "b", 12)])
    snapshot = hour(shop, settings, parent, "hour")
    assert users(snapshot, Purpose.REPLAY, settings) == set(others[1:])
    assert users(snapshot, Purpose.GUARD, settings) == set(guards[1:])
    assert users(snapshot, Purpose.FRESH_GUARD, settings) == {guards[0]}
    assert users(snapshot, Purpose.HISTORY, settings) == {guards[0], others[0]}
    assert max(snapshot.interactions().to_pydict()["occurred_at"]) == at(12)


def test_users_who_may_no_longer_be_trained_on_are_not_replayed(shop: sa.Engine, settings: Settings) -> None:
    full, _ = night(shop, settings)
    guards, others = by_guard(settings)
    with shop.begin() as connection:
        withdrawn = {"users": [guards[1], others[1]]}
        connection.execute(
            sa.text("UPDATE users SET consent = false WHERE user_id = ANY (:users)"), withdrawn
        )
        connection.execute(
            sa.text("INSERT INTO erasure_requests (user_id) VALUES (:user)"), {"user": others[2]}
        )
        connection.execute(sa.text("DELETE FROM feedback WHERE user_id = :user"), {"user": others[3]})
        connection.execute(sa.text("DELETE FROM users WHERE user_id = :user"), {"user": others[3]})
    parent = replace(full.trained_through, occurred_before=at(5))
    add_feedback(shop, [(others[0], "a", 10), (others[0], "b", 11)])
    snapshot = hour(shop, settings, parent, "hour")
    assert users(snapshot, Purpose.REPLAY, settings) == set(others[4:])
    assert users(snapshot, Purpose.GUARD, settings) == {guards[0], *guards[2:]}


def test_an_erased_user_is_in_no_reservoir(shop: sa.Engine, settings: Settings) -> None:
    full, _ = night(shop, settings)
    _, (one, two, *_) = by_guard(settings)
    add_feedback(shop, [(one, "a", 10), (two, "b", 11), (two, "c", 12)])
    hour(shop, settings, replace(full.trained_through, occurred_before=at(5)), "hour")
    rewritten = erase_from_snapshots(settings.snapshots, {key_of(one, settings)}).rewritten
    assert sorted(Path(snapshot.uri).parent.name for snapshot in rewritten) == [
        "full", "learned", "micro", "reservoir"
    ]  # fmt: skip
    for file in Path(settings.snapshots).rglob("*.parquet"):
        assert key_of(one, settings).encode() not in file.read_bytes()


def test_later_hours_replay_what_one_hour_taught(shop: sa.Engine, settings: Settings) -> None:
    full, _ = night(shop, settings)
    _, (one, two, three, four, *_) = by_guard(settings)
    parent = replace(full.trained_through, occurred_before=at(5))
    add_feedback(shop, [(one, "a", 10), (one, "c", 11), (two, "c", 12)])
    first = hour(shop, settings, parent, "first")
    assert first.held_out_from == at(12)
    add_feedback(shop, [(three, "a", 20), (four, "b", 21)])
    second = hour(shop, settings, first.trained_through, "second")
    replayed = events(second, Purpose.REPLAY, settings)
    assert [replayed[one, item] for item in "abc"] == [2, 1, 2]
    # Held out of the first hour, and fresh in the second.
    assert two not in users(second, Purpose.REPLAY, settings)
    add_feedback(shop, [(two, "a", 30), (two, "b", 31)])
    third = hour(shop, settings, second.trained_through, "third")
    replayed = events(third, Purpose.REPLAY, settings)
    assert [replayed[one, item] for item in "abc"] == [2, 1, 2]
    assert [replayed[three, item] for item in "abc"] == [2, 1, 1]
    assert max(Counter(row["feedback_id"] for row in third.interactions().to_pylist()).values()) == 1


def test_events_of_a_rejected_update_are_not_replayed_before_they_are_learned(
    shop: sa.Engine, settings: Settings
) -> None:
    full, _ = night(shop, settings)
    _, (one, two, *_) = by_guard(settings)
    parent = replace(full.trained_through, occurred_before=at(5))
    add_feedback(shop, [(one, "a", 10), (two, "c", 11)])
    rejected = hour(shop, settings, parent, "rejected")
    again = hour(shop, settings, parent, "again")
    assert events(again, Purpose.FRESH, settings) == events(rejected, Purpose.FRESH, settings)
    assert users(again, Purpose.REPLAY, settings).isdisjoint({one, two})


def test_the_recent_replay_is_a_bounded_sample_that_each_update_extends(
    shop: sa.Engine, settings: Settings
) -> None:
    settings = updating(settings, max_replay_users=12)
    full, _ = night(shop, settings)
    parent = replace(full.trained_through, occurred_before=at(5))
    _, others = by_guard(settings)
    for number in range(3):
        start = 10 * (number + 1)
        taught = others[5 * number : 5 * number + 5]
        add_feedback(shop, [(user, "a", start + place) for place, user in enumerate([*taught, others[20]])])
        parent = hour(shop, settings, parent, f"hour {number}").trained_through
    (uri,) = rows(shop, "SELECT uri FROM snapshots WHERE kind = 'learned' ORDER BY snapshot_id DESC LIMIT 1")
    learned = users(read_snapshot(str(uri[0])), Purpose.REPLAY, settings)
    assert len(learned) == 3
    assert learned < {*others[:15], others[20]}


def test_a_newer_reservoir_is_used_once_the_champion_has_trained_on_it(
    shop: sa.Engine, settings: Settings
) -> None:
    full, first = night(shop, settings)
    add_feedback(shop, [(USERS[0], "abc"[minute % 3], minute) for minute in range(10, 40)])
    # The candidate of this night is rejected: what it knew is not what the champion knows.
    _, second = night(shop, settings, "another night")
    parent = replace(full.trained_through, occurred_before=at(5))
    assert sources(shop, settings, parent) == first.uri
    assert second.held_out_from > at(5)
    assert sources(shop, settings, replace(second.trained_through, occurred_before=at(5))) == first.uri
    assert sources(shop, settings, replace(second.trained_through, occurred_before=at(60))) == second.uri


def sources(engine: sa.Engine, settings: Settings, parent: TrainedThrough) -> str:
    found = find_replay(engine, parent, settings, seed=0)
    assert found is not None
    return found.reservoir.uri


def test_without_a_reservoir_the_table_is_sampled_once(shop: sa.Engine, settings: Settings) -> None:
    full = take_full_snapshot(shop, open_window(shop, "nightly", "night"), settings)
    # Half of the users have their last event later than that.
    parent = replace(read_snapshot(full).trained_through, occurred_before=at(2.2))
    guards, others = ({*group} & {*USERS[:20]} for group in by_guard(settings))
    first = hour(shop, settings, parent, "hour")
    assert users(first, Purpose.REPLAY, settings) == others
    assert users(first, Purpose.GUARD, settings) == guards
    assert events(first, Purpose.REPLAY, settings) == Counter(
        (user, item) for user in others for item in "abc"
    )
    hour(shop, settings, parent, "another try")
    assert len(rows(shop, "SELECT uri FROM snapshots WHERE kind = 'reservoir'")) == 1


def test_a_damaged_reservoir_is_sampled_again_from_the_table(shop: sa.Engine, settings: Settings) -> None:
    full, reservoir = night(shop, settings)
    (file,) = Path(reservoir.uri).rglob("*.parquet")
    file.write_bytes(b"half a file")
    _, others = by_guard(settings)
    add_feedback(shop, [(others[0], "a", 10), (others[0], "b", 11)])
    parent = replace(full.trained_through, occurred_before=at(5))
    assert users(hour(shop, settings, parent, "hour"), Purpose.REPLAY, settings) == set(others[1:])
    assert sources(shop, settings, parent) != reservoir.uri


def test_users_who_become_guard_users_are_no_longer_replayed(shop: sa.Engine, settings: Settings) -> None:
    full, _ = night(shop, settings)
    parent = replace(full.trained_through, occurred_before=at(5))
    more = updating(settings, guard_share=0.5)
    guards, others = by_guard(more)
    add_feedback(shop, [(others[0], "a", 10), (others[0], "b", 11)])
    snapshot = hour(shop, more, parent, "hour")
    assert users(snapshot, Purpose.REPLAY, settings) == set(others[1:])
    assert users(snapshot, Purpose.GUARD, settings) == set(guards)
