import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.columns import SNAPSHOT_INTERACTION_COLUMNS, Purpose
from recsys.errors import NothingToDoError
from recsys.settings import Settings
from recsys.snapshot import full as snapshot_full
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.micro import take_micro_snapshot
from recsys.snapshot.read import Snapshot, read_snapshot
from recsys.snapshot.reference import SnapshotRef, TrainedThrough
from recsys.snapshot.sequences import microseconds
from recsys.warehouse.pseudonyms import user_key
from recsys.warehouse.windows import Window, open_window
from tests.snapshot.warehouse_rows import add_feedback, add_items, add_users, at


@pytest.fixture
def stocked(warehouse: sa.Engine) -> sa.Engine:
    """Three items, ann and bob, ten likes of ann at minutes 0 to 9."""
    add_items(warehouse, "a", "b", "c")
    add_users(warehouse, "ann", "bob")
    add_feedback(warehouse, [("ann", "abc"[minute % 3], minute) for minute in range(10)])
    return warehouse


def full(engine: sa.Engine, settings: Settings, run: str = "run") -> Snapshot:
    return read_snapshot(take_full_snapshot(engine, open_window(engine, "nightly", run), settings))


def micro(engine: sa.Engine, settings: Settings, parent: TrainedThrough, run: str = "hour") -> Snapshot:
    return read_snapshot(take_micro_snapshot(engine, open_window(engine, "hourly", run), settings, parent))


def names(snapshot: Snapshot, settings: Settings, *users: str) -> dict[str, str]:
    key = settings.require_pseudonym_key()
    return {user_key(user, key): user for user in users}


def events(snapshot: Snapshot, settings: Settings, *users: str) -> Counter[tuple[str, str, str]]:
    known = names(snapshot, settings, *users)
    rows = snapshot.interactions().to_pylist()
    return Counter((known[row["user_key"]], row["item_id"], row["purpose"]) for row in rows)


def updating(settings: Settings, **values: object) -> Settings:
    return settings.model_copy(
        update={"micro_update": settings.micro_update.model_copy(update={"min_fresh_events": 1, **values})}
    )


def test_a_full_snapshot_holds_all_feedback_and_splits_off_the_latest(
    stocked: sa.Engine, settings: Settings
) -> None:
    snapshot = full(stocked, settings)
    assert snapshot.manifest.rows == 10
    assert snapshot.held_out_from == at(9)
    assert snapshot.manifest.held_out_rows == 1
    assert snapshot.trained_through == TrainedThrough(snapshot.manifest.window["upper_transaction_id"], at(9))
    sequences = snapshot.sequences()
    assert [snapshot.catalogue().item_ids[i] for i in sequences.item_index] == list("abcabcabca")
    assert tuple(snapshot.interactions().column_names) == SNAPSHOT_INTERACTION_COLUMNS


def test_snapshots_name_users_by_keyed_hash_only(stocked: sa.Engine, settings: Settings) -> None:
    snapshot = full(stocked, settings)
    assert snapshot.sequences().user_keys.tolist() == [user_key("ann", settings.require_pseudonym_key())]
    content = b"".join(path.read_bytes() for path in Path(snapshot.uri).rglob("*") if path.is_file())
    assert b"ann" not in content


def test_no_consent_or_a_request_for_erasure_means_no_training(
    stocked: sa.Engine, settings: Settings
) -> None:
    add_users(stocked, "cid", consent=False)
    add_feedback(stocked, [("cid", "a", 1), ("bob", "b", 2)])
    with stocked.begin() as connection:
        connection.execute(sa.text("INSERT INTO erasure_requests (user_id) VALUES ('bob')"))
    assert full(stocked, settings).manifest.users == 1


def test_every_event_has_its_own_users_key(stocked: sa.Engine, settings: Settings) -> None:
    add_users(stocked, "amy", "zoe", "Ben", "élise")
    add_users(stocked, "aaa", "mid", consent=False)
    for place, user in enumerate(["zoe", "amy", "mid", "Ben", "aaa", "élise", "bob"]):
        add_feedback(stocked, [(user, "abc"[place % 3], place)], comment=user)
    snapshot = full(stocked, settings)
    key = settings.require_pseudonym_key()
    said = {row["comment"]: row["user_key"] for row in snapshot.interactions().to_pylist() if row["comment"]}
    assert said == {user: user_key(user, key) for user in ["zoe", "amy", "Ben", "élise", "bob"]}
    assert snapshot.manifest.users == 6


def test_events_with_and_without_comment_are_selected_alike(stocked: sa.Engine, settings: Settings) -> None:
    given = {"rating": 3.5, "dwell": 0.0, "like": None}
    for minute, (event_type, value) in enumerate(given.items()):
        for comment in (None, "", f"about {event_type}"):
            rows = [("bob", "b", minute), ("nobody", "b", minute), ("bob", "no such item", minute)]
            add_feedback(stocked, rows, event_type=event_type, value=value, comment=comment)
    add_feedback(stocked, [("bob", "b", 1)], event_type="poke", comment="an unknown type")
    rows = full(stocked, settings).interactions().to_pylist()
    key = user_key("bob", settings.require_pseudonym_key())
    of_bob = [row for row in rows if row["user_key"] == key]
    assert {row["item_id"] for row in of_bob} == {"b"}
    assert Counter((row["event_type"], row["value"], row["comment"]) for row in of_bob) == Counter(
        (event_type, value, comment)
        for event_type, value in given.items()
        for comment in (None, "", f"about {event_type}")
    )
    assert len(rows) == 10 + len(of_bob)


def test_two_users_whose_ids_have_one_hash_stay_two(
    stocked: sa.Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With seed 2 all hashes are equal: a function in `public` replaces the one of Postgres."""
    with stocked.begin() as connection:
        connection.execute(
            sa.text(
                "CREATE FUNCTION public.hashtextextended(text, bigint) RETURNS bigint LANGUAGE sql IMMUTABLE "
                "RETURN CASE WHEN $2 = 2 THEN 7 ELSE pg_catalog.hashtextextended($1, $2) END"
            )
        )
        connection.execute(
            sa.text(f'ALTER DATABASE "{stocked.url.database}" SET search_path = public, pg_catalog')
        )
    add_feedback(stocked, [("bob", "a", 3)])
    seeds = [2, 3]
    monkeypatch.setattr("recsys.snapshot.full.secrets.randbits", lambda bits: seeds.pop(0))
    snapshot = full(stocked, settings)
    assert seeds == []
    assert events(snapshot, settings, "ann", "bob") == Counter(
        {("ann", "a", "full"): 4, ("ann", "b", "full"): 3, ("ann", "c", "full"): 3, ("bob", "a", "full"): 1}
    )


def test_no_file_holds_the_key_of_a_user_without_an_event_in_it(
    stocked: sa.Engine, settings: Settings
) -> None:
    add_feedback(stocked, [("bob", "no such item", 1)])
    snapshot = full(stocked, settings)
    content = b"".join(path.read_bytes() for path in Path(snapshot.uri).rglob("*.parquet"))
    assert user_key("bob", settings.require_pseudonym_key()).encode() not in content
    assert b"no such item" not in content


def test_comments_are_scrubbed(stocked: sa.Engine, settings: Settings) -> None:
    add_feedback(stocked, [("bob", "a", 3)], event_type="comment", comment="ask bob@example.com 👍")
    comments = full(stocked, settings).interactions(["comment"]).column("comment").drop_null().to_pylist()
    assert comments == ["ask [e-mail] 👍"]


def test_rows_that_validation_has_not_checked_yet_cannot_break_a_snapshot(
    stocked: sa.Engine, settings: Settings
) -> None:
    add_feedback(stocked, [("nobody", "a", 1)])
    add_feedback(stocked, [("ann", "no such item", 1)])
    add_feedback(stocked, [("ann", "a", 1)], event_type="poke")
    add_feedback(stocked, [("ann", "a", 2)], event_type="rating", value=float("inf"))
    with stocked.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO feedback (user_id, item_id, event_type, occurred_at, comment) "
                "VALUES ('ann', 'a', 'like', NULL, NULL), "
                "('ann', 'a', 'like', 'infinity', NULL), ('ann', 'b', 'like', '-infinity', 'x'), "
                "('ann', 'a', 'like', '20000-01-01', NULL), ('ann', 'b', 'like', '20000-01-01', 'x'), "
                "('ann', 'a', 'like', '4000-01-01 BC', NULL), ('ann', 'b', 'like', '4000-01-01 BC', 'x')"
            )
        )
    snapshot = full(stocked, settings)
    assert snapshot.manifest.rows == 15
    assert snapshot.sequences().events == 15


def test_rows_of_an_open_transaction_are_left_to_the_next_window(
    stocked: sa.Engine, settings: Settings
) -> None:
    with stocked.begin() as writer:
        writer.execute(
            sa.text(
                "INSERT INTO feedback (user_id, item_id, event_type, occurred_at) "
                "VALUES ('bob', 'a', 'like', :t)"
            ),
            {"t": at(0)},
        )
        window = open_window(stocked, "nightly", "run")
    assert read_snapshot(take_full_snapshot(stocked, window, settings)).manifest.rows == 10
    assert full(stocked, settings, "next run").manifest.rows == 11


def test_a_retry_returns_the_snapshot_that_is_there(stocked: sa.Engine, settings: Settings) -> None:
    window = open_window(stocked, "nightly", "run")
    first = take_full_snapshot(stocked, window, settings)
    modified = Path(first.uri, "manifest.json").stat().st_mtime_ns
    assert take_full_snapshot(stocked, window, settings) == first
    assert Path(first.uri, "manifest.json").stat().st_mtime_ns == modified
    with stocked.connect() as connection:
        rows = connection.execute(sa.text("SELECT uri, digest, kind, rows FROM snapshots")).all()
    assert rows == [(first.uri, first.digest, "full", 10)]


def test_files_that_a_killed_writer_left_are_removed(stocked: sa.Engine, settings: Settings) -> None:
    window = open_window(stocked, "nightly", "run")
    done = Path(take_full_snapshot(stocked, window, settings).uri)
    left_over = done.with_name(f".unfinished-{done.name}-0a1b2c3d")
    done.rename(left_over)
    (left_over / "manifest.json").unlink()
    assert Path(take_full_snapshot(stocked, window, settings).uri) == done
    assert [path.name for path in done.parent.iterdir()] == [done.name]


def test_a_killed_writer_leaves_no_readable_snapshot(stocked: sa.Engine, settings: Settings) -> None:
    window = open_window(stocked, "nightly", "run")
    program = (
        "import sqlalchemy as sa; from pathlib import Path; from recsys.settings import Settings; "
        "from recsys.snapshot.full import take_full_snapshot; "
        "from recsys.warehouse.windows import load_window; "
        f"engine = sa.create_engine({settings.require_warehouse_url()!r}); "
        f"settings = Settings(home=Path({str(settings.home)!r}), pseudonym_key='a key that only tests use'); "
        f"take_full_snapshot(engine, load_window(engine, {window.window_id}), settings)"
    )
    root = Path(settings.snapshots) / "full"
    with stocked.connect() as connection, connection.begin() as transaction:
        connection.execute(sa.text("LOCK TABLE feedback IN ACCESS EXCLUSIVE MODE"))
        writer = subprocess.Popen([sys.executable, "-c", program])
        try:
            deadline = time.monotonic() + 60
            waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            while not (list(root.glob("*")) and connection.scalar(waiting)):
                assert writer.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            writer.kill()
            writer.wait()
        transaction.rollback()
    (left_over,) = root.iterdir()
    assert not (left_over / "manifest.json").exists()
    assert read_snapshot(take_full_snapshot(stocked, window, settings)).manifest.rows == 10
    assert not left_over.exists()


def test_nothing_is_left_on_disk_when_there_is_nothing_to_do(
    warehouse: sa.Engine, settings: Settings
) -> None:
    with pytest.raises(NothingToDoError, match="no valid feedback"):
        full(warehouse, settings)
    assert not [path for path in Path(settings.snapshots).rglob("*") if path.is_file()]


@pytest.mark.parametrize("minutes", [[0], [5, 5, 5]])
def test_feedback_of_one_moment_cannot_be_split(
    warehouse: sa.Engine, settings: Settings, minutes: list[int]
) -> None:
    add_items(warehouse, "a")
    add_users(warehouse, "ann")
    add_feedback(warehouse, [("ann", "a", minute) for minute in minutes])
    with pytest.raises(NothingToDoError, match="nothing would be left to train on"):
        full(warehouse, settings)


def test_a_snapshot_lives_on_any_file_system(stocked: sa.Engine, settings: Settings) -> None:
    elsewhere = settings.model_copy(update={"snapshot_root": "memory://bucket/snapshots"})
    ref = take_full_snapshot(stocked, open_window(stocked, "nightly", "run"), elsewhere)
    assert ref.uri.startswith("memory://bucket/snapshots/full/")
    assert read_snapshot(ref).sequences().events == 10
    assert take_full_snapshot(stocked, open_window(stocked, "nightly", "run"), elsewhere) == ref


def test_the_manifest_has_window_and_counts(stocked: sa.Engine, settings: Settings) -> None:
    snapshot = full(stocked, settings)
    manifest = json.loads(Path(snapshot.uri, "manifest.json").read_text())
    assert manifest["window"]["run_key"] == "run"
    assert (manifest["rows"], manifest["users"], manifest["items"]) == (10, 1, 3)
    assert manifest["rows_by_purpose"] == {Purpose.FULL: 10}
    assert {entry["path"] for entry in manifest["files"]} == {
        "interactions/part-00000.parquet",
        "items.parquet",
        "event_types.parquet",
    }


def test_a_micro_snapshot_holds_what_the_parent_has_not_trained_on_and_the_history(
    stocked: sa.Engine, settings: Settings
) -> None:
    parent = full(stocked, settings).trained_through
    add_feedback(stocked, [("ann", "b", 20), ("ann", "c", 21), ("ann", "a", 4.5)])
    snapshot = micro(stocked, updating(settings), parent)
    # Fresh: the parent's held-out event, the two new ones and the one that arrived late.
    assert snapshot.manifest.rows_by_purpose == {Purpose.FRESH: 4, Purpose.HISTORY: 9}
    assert snapshot.held_out_from == at(21)
    assert snapshot.manifest.parent == parent
    assert snapshot.manifest.held_out_rows == 1


def test_nothing_is_trained_on_twice_or_never_in_a_chain_of_updates(
    stocked: sa.Engine, settings: Settings
) -> None:
    settings = updating(settings, guard_share=0.0)
    trained: Counter[int] = Counter()

    def train(snapshot: Snapshot, purpose: str) -> TrainedThrough:
        for row in snapshot.interactions().to_pylist():
            if row["purpose"] == purpose and row["occurred_at"] < snapshot.held_out_from:
                trained[row["feedback_id"]] += 1
        return snapshot.trained_through

    through = train(full(stocked, settings), Purpose.FULL)
    for hour in range(5):
        add_feedback(stocked, [("bob", "a", 60 * hour + 10), ("ann", "b", 60 * hour + 20), ("bob", "c", 1.5)])
        held = micro(stocked, settings, through, f"held {hour}")
        if hour != 2:  # that update is rejected: the next one sees its feedback again
            through = train(held, Purpose.FRESH)
    with stocked.connect() as connection:
        known = connection.scalars(
            sa.text("SELECT feedback_id FROM feedback WHERE transaction_id < :t AND occurred_at < :o"),
            {"t": through.transaction_id, "o": through.occurred_before},
        ).all()
    assert set(trained) == set(known)
    assert set(trained.values()) == {1}


def sorted_by_key(settings: Settings, *users: str) -> list[str]:
    """Return the users in the order of their keys: the first are guard users, the last are not."""
    return sorted(users, key=lambda user: user_key(user, settings.require_pseudonym_key()))


def test_fresh_replay_and_guard_users_are_disjoint(stocked: sa.Engine, settings: Settings) -> None:
    others = [f"user {number}" for number in range(60)]
    add_users(stocked, *others)
    add_feedback(stocked, [(user, "a", 1) for user in others] + [(user, "b", 2) for user in others])
    parent = replace(full(stocked, settings).trained_through, occurred_before=at(20))
    *_, one, other = sorted_by_key(settings, "ann", "bob", *others)
    add_feedback(stocked, [(one, "c", 30), (other, "c", 31)])
    wanted = updating(settings, guard_share=0.3, replay_users_per_fresh_user=5.0)
    snapshot = micro(stocked, wanted, parent)
    users = {
        purpose: set(snapshot.sequences(purpose).user_keys.tolist())
        for purpose in (Purpose.FRESH, Purpose.HISTORY, Purpose.REPLAY, Purpose.GUARD)
    }
    assert len(users[Purpose.REPLAY]) == 10
    assert len(users[Purpose.GUARD]) > 5
    assert not users[Purpose.REPLAY] & users[Purpose.GUARD]
    assert not users[Purpose.FRESH] & (users[Purpose.REPLAY] | users[Purpose.GUARD])
    assert all(int(key[:8], 16) < 0.3 * 2**32 for key in users[Purpose.GUARD])
    capped = updating(settings, guard_share=0.3, max_guard_users=2, max_replay_users=3)
    again = micro(stocked, capped, parent, "next hour").manifest.rows_by_purpose
    assert (again[Purpose.GUARD], again[Purpose.REPLAY]) == (4, 4)


def test_fresh_events_of_guard_users_are_for_evaluation_only(stocked: sa.Engine, settings: Settings) -> None:
    add_users(stocked, *(f"user {number}" for number in range(20)))
    guard, *_, learner = sorted_by_key(settings, "bob", *(f"user {number}" for number in range(20)))
    parent = full(stocked, settings).trained_through
    add_feedback(stocked, [(guard, "c", 30), (learner, "c", 31), (learner, "a", 32)])
    snapshot = micro(stocked, updating(settings, guard_share=0.2), parent)
    key = settings.require_pseudonym_key()
    assert user_key(guard, key) in snapshot.sequences(Purpose.FRESH_GUARD).user_keys
    assert user_key(guard, key) not in snapshot.sequences(Purpose.FRESH).user_keys
    assert user_key(learner, key) in snapshot.sequences(Purpose.FRESH).user_keys


def test_history_has_at_most_twice_the_events_that_the_model_reads(
    stocked: sa.Engine, settings: Settings
) -> None:
    parent = full(stocked, settings).trained_through
    add_feedback(stocked, [("ann", "b", 20), ("ann", "c", 21)])
    short = updating(settings).model_copy(
        update={"model": settings.model.model_copy(update={"max_events": 2})}
    )
    snapshot = micro(stocked, short, parent)
    times = snapshot.sequences(Purpose.HISTORY).occurred_at
    assert times.tolist() == [microseconds(at(minute)) for minute in (5, 6, 7, 8)]


def test_too_little_fresh_feedback_skips_the_update(stocked: sa.Engine, settings: Settings) -> None:
    parent = full(stocked, settings).trained_through
    with pytest.raises(NothingToDoError, match=r"1 fresh feedback events.*min_fresh_events = 20"):
        micro(stocked, settings, parent)


def test_late_feedback_alone_is_trained_on_and_not_held_out(stocked: sa.Engine, settings: Settings) -> None:
    through = full(stocked, settings).trained_through
    parent = replace(through, occurred_before=at(100))
    add_feedback(stocked, [("bob", "a", 50), ("bob", "b", 51)])
    snapshot = micro(stocked, updating(settings), parent)
    assert snapshot.held_out_from == at(100)
    assert snapshot.manifest.held_out_rows == 0


def test_fresh_feedback_of_one_moment_after_the_parents_skips_the_update(
    stocked: sa.Engine, settings: Settings
) -> None:
    parent = replace(full(stocked, settings).trained_through, occurred_before=at(50))
    add_feedback(stocked, [("bob", "a", 60), ("ann", "b", 60)])
    with pytest.raises(NothingToDoError, match="nothing would be left to train on"):
        micro(stocked, updating(settings), parent)


def test_a_window_older_than_the_parent_skips_the_update(stocked: sa.Engine, settings: Settings) -> None:
    window: Window = open_window(stocked, "hourly", "hour")
    parent = TrainedThrough(window.upper_transaction_id + 1, at(5))
    with pytest.raises(NothingToDoError, match="already knows"):
        take_micro_snapshot(stocked, window, settings, parent)


@pytest.mark.parametrize("kind", ["full", "micro"])
def test_a_damaged_snapshot_is_taken_anew(stocked: sa.Engine, settings: Settings, kind: str) -> None:
    settings = updating(settings)
    parent = full(stocked, settings).trained_through
    add_feedback(stocked, [("bob", "a", 30), ("ann", "b", 31)])
    take = partial(full, stocked, settings) if kind == "full" else partial(micro, stocked, settings, parent)
    first = take()
    part = Path(first.uri, "interactions", "part-00000.parquet")
    content = part.read_bytes()
    part.write_bytes(content[: len(content) // 2])
    again = take()
    assert again.uri == first.uri
    assert read_snapshot(again.uri).manifest.rows == first.manifest.rows


def test_a_snapshot_is_on_disk_before_it_is_recorded(
    stocked: sa.Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    before_row: set[str] = set()
    sync, record = os.fsync, snapshot_full.record_snapshot

    def note(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    def record_then(*arguments: Any) -> SnapshotRef:
        before_row.update(synced)
        return record(*arguments)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(snapshot_full, "record_snapshot", record_then)
    full(stocked, settings)
    assert {"part-00000.parquet", "items.parquet", "event_types.parquet"} <= before_row
    assert {"interactions", "full"} <= before_row
    assert len([name for name in before_row if name.startswith(".unfinished-")]) == 2  # manifest and folder
