"""Snapshots divided by users into shards on disk."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa

from recsys.settings import Settings
from recsys.snapshot import copy_csv, copy_stream, full
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.read import Snapshot, read_snapshot
from recsys.snapshot.sequences import EVENT_DTYPES, Sequences
from recsys.snapshot.shards import Shards, divide
from recsys.warehouse.windows import open_window
from tests.snapshot.warehouse_rows import add_feedback, add_items, add_users

ROWS_PER_GROUP = 10


@pytest.fixture
def snapshot(warehouse: sa.Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Snapshot:
    """Twenty users with six events each, every second one with a long comment, in row groups of ten."""
    monkeypatch.setattr(full, "ROWS_PER_GROUP", ROWS_PER_GROUP)
    monkeypatch.setattr(full, "_ROWS_WITH_COMMENT_PER_GROUP", ROWS_PER_GROUP)
    monkeypatch.setattr(copy_stream, "_CHUNK_BYTES", 500)
    monkeypatch.setattr(copy_csv, "_BLOCK_BYTES", 500)
    users = [f"u{number}" for number in range(20)]
    add_items(warehouse, *"abcdef")
    add_users(warehouse, *users)
    for minute, item in enumerate("abcdef"):
        rows = [(user, item, 60.0 * minute + number) for number, user in enumerate(users)]
        # So long that COPY delivers a few rows at a time.
        add_feedback(warehouse, rows[::2], event_type="like", comment=f"good {item} " * 4_500)
        add_feedback(warehouse, rows[1::2], event_type="dislike")
    return read_snapshot(take_full_snapshot(warehouse, open_window(warehouse, "nightly", "run"), settings))


def known(snapshot: Snapshot) -> Sequences:
    return snapshot.sequences().before(snapshot.held_out_from).without_empty_users()


def divided(snapshot: Snapshot, count: int, folder: Path) -> Shards:
    return divide(
        snapshot, count, folder, lambda part: part.before(snapshot.held_out_from).without_empty_users()
    )


def by_user(sequences: Sequences) -> dict[str, list[tuple[object, ...]]]:
    texts = [*sequences.comments.to_pylist(), None]
    columns = [getattr(sequences, name).tolist() for name in EVENT_DTYPES if name not in ("value", "comment")]
    columns.append([texts[number] for number in sequences.comment])
    events = list(zip(*columns, strict=True))
    ends = sequences.offsets
    return {key: events[ends[u] : ends[u + 1]] for u, key in enumerate(sequences.user_keys)}


def test_shards_have_each_user_once_with_all_events_in_order(snapshot: Snapshot, tmp_path: Path) -> None:
    shards = divided(snapshot, 3, tmp_path / "shards")
    assert len(shards) == 3
    assert all(part.users for part in shards)
    users = [key for part in shards for key in part.user_keys]
    assert len(users) == len(set(users)) == 20
    together = {key: events for part in shards for key, events in by_user(part).items()}
    assert together == by_user(known(snapshot))
    assert sum(part.events for part in shards) == snapshot.manifest.rows - snapshot.manifest.held_out_rows


def test_a_single_shard_equals_the_snapshot(snapshot: Snapshot, tmp_path: Path) -> None:
    (only,) = divided(snapshot, 1, tmp_path / "shards")
    whole = known(snapshot)
    assert only.user_keys.tolist() == whole.user_keys.tolist()
    for name in (*EVENT_DTYPES, "offsets"):
        if name != "comment":
            np.testing.assert_array_equal(getattr(only, name), getattr(whole, name))
    assert by_user(only) == by_user(whole)


def test_dividing_again_replaces_what_a_killed_run_left(snapshot: Snapshot, tmp_path: Path) -> None:
    divided(snapshot, 5, tmp_path / "shards")
    (tmp_path / "shards-unsorted").mkdir()
    (tmp_path / "shards-unsorted" / "0").write_text("half of it")
    assert len(divided(snapshot, 2, tmp_path / "shards")) == 2
    assert not (tmp_path / "shards-unsorted").exists()


def test_dividing_reads_one_row_group_and_sorts_one_shard_at_a_time(
    snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, ordered = [], []
    row_groups, sequences_of = Snapshot.row_groups, Snapshot.sequences_of

    def counted_groups(self: Snapshot, columns: list[str]) -> Iterator[pa.Table]:
        for group in row_groups(self, columns):
            read.append(group.num_rows)
            yield group

    def counted_sequences(self: Snapshot, table: pa.Table) -> Sequences:
        ordered.append(table.num_rows)
        return sequences_of(self, table)

    monkeypatch.setattr(Snapshot, "row_groups", counted_groups)
    monkeypatch.setattr(Snapshot, "sequences_of", counted_sequences)
    divided(snapshot, 4, tmp_path / "shards")
    assert sum(read) == sum(ordered) == snapshot.manifest.rows
    assert max(read) <= 2 * ROWS_PER_GROUP
    assert max(ordered) < snapshot.manifest.rows / 2


def test_rewrite_replaces_each_shard(snapshot: Snapshot, tmp_path: Path) -> None:
    shards = divided(snapshot, 3, tmp_path / "shards")
    before = [by_user(part) for part in shards]
    shards.rewrite(Sequences.without_comments)
    assert all(len(part.comments) == 0 for part in shards)
    assert [{key: len(events) for key, events in by_user(part).items()} for part in shards] == [
        {key: len(events) for key, events in part.items()} for part in before
    ]


def test_a_shard_may_be_empty(tmp_path: Path) -> None:
    shards = Shards.write(tmp_path / "shards", [Sequences.empty(), Sequences.empty(["ann"])])
    assert [part.user_keys.tolist() for part in shards] == [[], ["ann"]]
    with pytest.raises(IndexError):
        shards[2]
