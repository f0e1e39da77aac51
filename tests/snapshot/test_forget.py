from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.settings import Settings
from recsys.snapshot.forget import forget_users
from recsys.snapshot.read import read_snapshot
from recsys.snapshot.reference import SnapshotRef
from recsys.snapshot.write import take_full_snapshot
from recsys.warehouse.pseudonyms import user_key
from recsys.warehouse.windows import open_window
from tests.snapshot.warehouse_rows import add_feedback, add_items, add_users


@pytest.fixture
def ref(warehouse: sa.Engine, settings: Settings) -> SnapshotRef:
    add_items(warehouse, "a", "b")
    add_users(warehouse, "ann", "bob")
    add_feedback(warehouse, [("ann", "a", 1), ("bob", "a", 2), ("ann", "b", 3), ("bob", "b", 4)])
    return take_full_snapshot(warehouse, open_window(warehouse, "nightly", "run"), settings)


def test_a_forgotten_user_is_in_no_file_and_the_reference_stays_good(
    ref: SnapshotRef, settings: Settings
) -> None:
    ann = user_key("ann", settings.require_pseudonym_key())
    assert forget_users(ref.uri, {ann}) == 2
    snapshot = read_snapshot(ref)
    assert (snapshot.manifest.rows, snapshot.manifest.users, snapshot.manifest.held_out_rows) == (2, 1, 1)
    assert ann not in snapshot.sequences().user_keys
    assert not [
        path for path in Path(ref.uri).rglob("*") if path.is_file() and ann.encode() in path.read_bytes()
    ]
    assert forget_users(ref.uri, {ann}) == 0


def test_the_last_user_leaves_an_empty_snapshot(ref: SnapshotRef, settings: Settings) -> None:
    key = settings.require_pseudonym_key()
    assert forget_users(ref.uri, {user_key("ann", key), user_key("bob", key)}) == 4
    assert forget_users(ref.uri, {"unknown"}) == 0
    assert read_snapshot(ref).sequences().users == 0


def test_parts_that_a_killed_call_left_behind_go(ref: SnapshotRef) -> None:
    left_over = Path(ref.uri, "interactions", "part-0a1b2c3d-00000.parquet")
    left_over.write_bytes(b"half a file")
    forget_users(ref.uri, {"unknown"})
    assert not left_over.exists()


def test_a_folder_without_manifest_is_left_alone(tmp_path: Path) -> None:
    assert forget_users(str(tmp_path / "nothing here"), {"x"}) == 0
