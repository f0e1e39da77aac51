from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.errors import ServiceUnavailableError, SnapshotError
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
    (rewritten,) = erase_from_snapshots(settings.snapshots, {ann})
    assert (rewritten.uri, rewritten.removed) == (ref.uri, {ann: 2})
    snapshot = read_snapshot(ref)
    assert (snapshot.manifest.rows, snapshot.manifest.users, snapshot.manifest.held_out_rows) == (2, 1, 1)
    assert ann not in snapshot.sequences().user_keys
    files = [path for path in Path(ref.uri).rglob("*") if path.is_file()]
    assert not [path for path in files if ann.encode() in path.read_bytes()]
    assert erase_from_snapshots(settings.snapshots, {ann}) == []


def test_the_last_user_leaves_an_empty_snapshot(ref: SnapshotRef, settings: Settings) -> None:
    key = settings.require_pseudonym_key()
    erase_from_snapshots(settings.snapshots, {user_key("ann", key), user_key("bob", key)})
    assert erase_from_snapshots(settings.snapshots, {"unknown"}) == []
    assert read_snapshot(ref).sequences().users == 0


def test_a_damaged_file_is_not_rewritten(ref: SnapshotRef, settings: Settings) -> None:
    file = Path(ref.uri, "interactions", "part-00000.parquet")
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(SnapshotError, match="is missing or damaged"):
        erase_from_snapshots(settings.snapshots, {user_key("ann", settings.require_pseudonym_key())})
    assert read_snapshot(ref, verify="sizes").manifest.erased_from == ()


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
