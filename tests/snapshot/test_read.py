import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from recsys.errors import SnapshotError
from recsys.settings import Settings
from recsys.snapshot.catalogue import Catalogue
from recsys.snapshot.read import read_snapshot
from recsys.snapshot.reference import SnapshotRef
from recsys.snapshot.write import take_full_snapshot
from recsys.warehouse.windows import open_window
from tests.snapshot.warehouse_rows import add_feedback, add_items, add_users


@pytest.fixture
def ref(warehouse: sa.Engine, settings: Settings) -> SnapshotRef:
    add_items(warehouse, "b", attributes={"genres": ["Drama"]})
    add_items(warehouse, "a", available=False)
    add_users(warehouse, "ann", "bob")
    add_feedback(warehouse, [("ann", "a", 1), ("ann", "b", 2)], event_type="rating", value=5.0)
    add_feedback(warehouse, [("bob", "b", 3)], event_type="dislike")
    return take_full_snapshot(warehouse, open_window(warehouse, "nightly", "run"), settings)


def test_the_catalogue_has_all_items_in_the_order_of_their_ids(ref: SnapshotRef) -> None:
    catalogue = read_snapshot(ref).catalogue()
    assert catalogue.item_ids.tolist() == ["a", "b"]
    assert catalogue.available.tolist() == [False, True]
    assert catalogue.texts == ["Title of a", "Title of b. genres: Drama"]


def test_sequences_carry_sentiment_scaled_value_and_weight(ref: SnapshotRef) -> None:
    sequences = read_snapshot(ref.uri).sequences()
    by_length = sequences.take_users(np.argsort(sequences.lengths))
    assert by_length.sentiment.tolist() == [-1, 1, 1]
    np.testing.assert_allclose(by_length.value, [np.nan, 1, 1])
    assert by_length.weight.tolist() == [0, 1, 1]


def test_sequences_carry_comments_as_scrubbed(warehouse: sa.Engine, settings: Settings) -> None:
    add_items(warehouse, "a", "b")
    add_users(warehouse, "ann")
    add_feedback(warehouse, [("ann", "a", 1)], event_type="comment", comment="mail me@example.org")
    add_feedback(warehouse, [("ann", "b", 2)])
    ref = take_full_snapshot(warehouse, open_window(warehouse, "nightly", "run"), settings)
    sequences = read_snapshot(ref).sequences()
    assert sequences.comment.tolist() == [0, -1]
    assert sequences.comments.to_pylist() == ["mail [e-mail]"]


def test_sequences_can_refer_to_another_catalogue(ref: SnapshotRef) -> None:
    other = Catalogue.build(["z", "b"], ["", ""])
    assert read_snapshot(ref).sequences(catalogue=other).item_index.tolist() == [1, 1]


def test_reading_needs_no_database_driver() -> None:
    program = "import sys, recsys.snapshot.read; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert not {"adbc_driver_postgresql", "asyncpg"} & set(loaded)


def test_a_missing_snapshot_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match=r"no complete snapshot at .*clear the snapshot task"):
        read_snapshot(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["items.parquet", "interactions/part-00000.parquet"])
def test_a_damaged_or_missing_file_is_found(ref: SnapshotRef, name: str) -> None:
    file = Path(ref.uri, name)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(SnapshotError, match=f"{name} is missing or damaged"):
        read_snapshot(ref)
    file.unlink()
    with pytest.raises(SnapshotError, match=f"{name} is missing or damaged"):
        read_snapshot(ref)


def test_a_manifest_that_was_changed_or_cut_off_is_found(ref: SnapshotRef) -> None:
    manifest = Path(ref.uri, "manifest.json")
    text = manifest.read_text()
    manifest.write_text(text.replace('"rows": 3', '"rows": 4'))
    with pytest.raises(SnapshotError, match="was changed"):
        read_snapshot(ref)
    manifest.write_text(text[:100])
    with pytest.raises(SnapshotError, match="is damaged"):
        read_snapshot(ref)
    manifest.write_text(text.replace('"format_version": 1', '"format_version": 99'))
    with pytest.raises(SnapshotError, match="format 99"):
        read_snapshot(ref)


def test_another_snapshot_than_the_reference_means_is_found(ref: SnapshotRef) -> None:
    with pytest.raises(SnapshotError, match="the reference means"):
        read_snapshot(replace(ref, digest="0" * 64))
