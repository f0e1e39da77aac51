from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.errors import ServiceUnavailableError
from recsys.settings import Settings
from recsys.snapshot import erasure
from recsys.snapshot.erasure import erase_from_snapshots
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.read import read_snapshot
from recsys.snapshot.reference import SnapshotRef
from recsys.warehouse.pseudonyms import user_key
from recsys.warehouse.windows import open_window
from tests.snapshot.warehouse_rows import add_feedback, add_items, add_users


@pytest.fixture
def ref(warehouse: sa.Engine, settings: Settings) -> SnapshotRef:
    add_items(warehouse, "a", "b")
    add_users(warehouse, "ann", "bob")
    add_feedback(warehouse, [("ann", "a", 1), ("bob", "a", 2), ("ann", "b", 3), ("bob", "b", 4)])
    return take_full_snapshot(warehouse, open_window(warehouse, "nightly", "run"), settings)


def test_an_erased_user_is_in_no_file_and_the_reference_stays_valid(
    ref: SnapshotRef, settings: Settings
) -> None:
    ann = user_key("ann", settings.require_pseudonym_key())
    (rewritten,) = erase_from_snapshots(settings.snapshots, {ann}).rewritten
    assert (rewritten.uri, rewritten.removed) == (ref.uri, {ann: 2})
    snapshot = read_snapshot(ref)
    assert (snapshot.manifest.rows, snapshot.manifest.users, snapshot.manifest.held_out_rows) == (2, 1, 1)
    assert ann not in snapshot.sequences().user_keys
    files = [path for path in Path(ref.uri).rglob("*") if path.is_file()]
    assert not [path for path in files if ann.encode() in path.read_bytes()]
    assert erase_from_snapshots(settings.snapshots, {ann}).rewritten == []


def test_the_last_user_leaves_an_empty_snapshot(ref: SnapshotRef, settings: Settings) -> None:
    key = settings.require_pseudonym_key()
    erase_from_snapshots(settings.snapshots, {user_key("ann", key), user_key("bob", key)})
    assert erase_from_snapshots(settings.snapshots, {"unknown"}).rewritten == []
    assert read_snapshot(ref).sequences().users == 0


def damage_part(ref: SnapshotRef, how: str) -> Path:
    file = Path(ref.uri, "interactions", "part-00000.parquet")
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    if how == "flipped bit":
        file.write_bytes(bytes(content))
    elif how == "cut in half":
        file.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "missing":
        file.unlink()
    else:
        file = Path(ref.uri, "manifest.json")
        file.write_bytes(b"\xff\x00" if how == "manifest of garbage" else b'{"format_version": 1}')
    return file


@pytest.mark.parametrize(
    "how",
    ["flipped bit", "cut in half", "empty", "missing", "manifest of garbage", "manifest without entries"],
)
def test_a_damaged_snapshot_is_named_and_skipped_and_the_others_are_erased_from(
    ref: SnapshotRef, settings: Settings, how: str
) -> None:
    sound = Path(ref.uri).with_name("sound")
    copytree(ref.uri, sound)
    file = damage_part(ref, how)
    content = file.read_bytes() if file.exists() else None
    ann = user_key("ann", settings.require_pseudonym_key())
    erased = erase_from_snapshots(settings.snapshots, {ann})
    assert [snapshot.uri for snapshot in erased.rewritten] == [str(sound)]
    assert ann not in read_snapshot(str(sound)).sequences().user_keys
    assert list(erased.damaged) == [ref.uri]
    assert str(file) in erased.damaged[ref.uri]
    assert content == (file.read_bytes() if file.exists() else None)
    assert len(list(Path(ref.uri, "interactions").iterdir())) == (how != "missing")


def test_files_that_a_killed_erasure_left_are_removed(ref: SnapshotRef, settings: Settings) -> None:
    left_over = Path(ref.uri, "interactions", "part-00000.1.parquet")
    left_over.write_bytes(b"half a file")
    erase_from_snapshots(settings.snapshots, {"unknown"})
    assert not left_over.exists()


def test_a_manifest_that_another_process_has_replaced_is_not_overwritten(
    ref: SnapshotRef, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = settings.require_pseudonym_key()
    ann, bob = user_key("ann", key), user_key("bob", key)
    rewrite = erasure._without

    def overtaken(*arguments: Any) -> Any:
        changed = rewrite(*arguments)
        monkeypatch.undo()
        erase_from_snapshots(settings.snapshots, {bob})
        return changed

    monkeypatch.setattr(erasure, "_without", overtaken)
    with pytest.raises(ServiceUnavailableError, match="was changed by another process"):
        erase_from_snapshots(settings.snapshots, {ann})
    assert set(read_snapshot(ref).sequences().user_keys) == {ann}
    erase_from_snapshots(settings.snapshots, {ann})
    assert read_snapshot(ref).sequences().users == 0
