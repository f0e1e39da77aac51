import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from recsys.errors import SnapshotError
from recsys.settings import Settings
from recsys.snapshot import read
from recsys.snapshot.catalogue import Catalogue
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.read import SEQUENCE_COLUMNS, open_verified, read_snapshot
from recsys.snapshot.reference import SnapshotRef
from recsys.snapshot.store import Folder
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


def test_the_catalogue_has_all_items_sorted_by_id(ref: SnapshotRef) -> None:
    catalogue = read_snapshot(ref).catalogue()
    assert catalogue.item_ids.tolist() == ["a", "b"]
    assert catalogue.available.tolist() == [False, True]
    assert catalogue.texts == ["Title of a", "Title of b. genres: Drama"]


def test_sequences_have_sentiment_scaled_value_and_weight(ref: SnapshotRef) -> None:
    sequences = read_snapshot(ref.uri).sequences()
    by_length = sequences.take_users(np.argsort(sequences.lengths))
    assert by_length.sentiment.tolist() == [-1, 1, 1]
    np.testing.assert_allclose(by_length.value, [np.nan, 1, 1])
    assert by_length.weight.tolist() == [0, 1, 1]


def test_sequences_have_scrubbed_comments(warehouse: sa.Engine, settings: Settings) -> None:
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
    assert not {"psycopg2", "asyncpg"} & set(loaded)


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


def flip_a_bit(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(bytes(content))


def test_verifying_sizes_finds_a_file_that_is_missing_or_cut_off(ref: SnapshotRef) -> None:
    file = Path(ref.uri, "items.parquet")
    content = file.read_bytes()
    assert len(read_snapshot(ref, verify="sizes").catalogue()) == 2
    file.write_bytes(content[:-1])
    with pytest.raises(SnapshotError, match=r"items\.parquet is missing or damaged"):
        read_snapshot(ref, verify="sizes")
    file.unlink()
    with pytest.raises(SnapshotError, match=r"items\.parquet is missing or damaged"):
        read_snapshot(ref, verify="sizes")


def test_verifying_sizes_computes_no_digest(ref: SnapshotRef, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "_digest", None)
    assert read_snapshot(ref, verify="sizes").manifest.rows == 3


@pytest.mark.parametrize("name", ["items.parquet", "event_types.parquet", "interactions/part-00000.parquet"])
def test_damaged_data_is_refused_when_it_is_decoded_after_verifying_sizes(
    ref: SnapshotRef, name: str
) -> None:
    """A bit at a time in every fifth byte of the pages: no damage is read as data."""
    file = Path(ref.uri, name)
    metadata = pq.read_metadata(file)
    columns = [metadata.row_group(0).column(number) for number in range(metadata.num_columns)]
    first = min(column.dictionary_page_offset or column.data_page_offset for column in columns)
    end = max(
        (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size
        for column in columns
    )
    whole = read_snapshot(ref)
    expected = whole.sequences(), whole.catalogue().texts, whole.event_types().to_records()
    content = file.read_bytes()
    refused = 0
    positions = range(first, end, 5)
    for position in positions:
        flip_a_bit(file, position)
        snapshot = read_snapshot(ref, verify="sizes")
        try:
            found = snapshot.sequences(), snapshot.catalogue().texts, snapshot.event_types().to_records()
        except SnapshotError:
            refused += 1
        else:  # a bit of a page's header that nothing depends on
            np.testing.assert_array_equal(found[0].item_index, expected[0].item_index)
            np.testing.assert_array_equal(found[0].value, expected[0].value)
            np.testing.assert_array_equal(found[0].occurred_at, expected[0].occurred_at)
            assert found[0].user_keys.tolist() == expected[0].user_keys.tolist()
            assert found[1:] == expected[1:]
        file.write_bytes(content)
    assert refused > len(positions) / 2


def test_a_row_group_that_is_damaged_is_refused(ref: SnapshotRef) -> None:
    flip_a_bit(Path(ref.uri, "interactions/part-00000.parquet"), 100)
    with pytest.raises(SnapshotError, match="is missing or damaged"):
        list(read_snapshot(ref, verify="sizes").row_groups(SEQUENCE_COLUMNS))


def test_an_error_of_the_file_system_is_not_taken_for_damage(ref: SnapshotRef) -> None:
    with pytest.raises(ConnectionResetError), open_verified(Folder(ref.uri), "items.parquet"):
        raise ConnectionResetError(104, "reset by peer")


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


def test_another_snapshot_than_the_one_in_the_reference_is_refused(ref: SnapshotRef) -> None:
    with pytest.raises(SnapshotError, match="as in the reference"):
        read_snapshot(replace(ref, digest="0" * 64))
