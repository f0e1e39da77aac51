import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from recsys.errors import CheckpointError
from recsys.model.checkpoint import CO_OCCURRENCES, MANIFEST, read_manifest
from recsys.model.collaborative import EASE
from recsys.model.recommender import Recommender
from tests.small_models import small_settings, theme_catalogue, theme_world, write_tiny_encoder


@pytest.fixture
def checkpoint(recommender: Recommender, tmp_path: Path) -> Path:
    recommender.save(tmp_path / "checkpoint", seed=3)
    return tmp_path / "checkpoint"


def rewrite(checkpoint: Path, **changes: object) -> None:
    path = checkpoint / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_manifest_says_what_the_model_is(checkpoint: Path, encoder_folder: Path) -> None:
    manifest = read_manifest(checkpoint)
    assert manifest["seed"] == 3
    assert manifest["base_encoder"]["name"] == str(encoder_folder)
    assert manifest["model"]["dim"] == 16


def test_another_format_version_is_refused(checkpoint: Path) -> None:
    rewrite(checkpoint, format_version=99)
    with pytest.raises(CheckpointError, match="99"):
        Recommender.load(checkpoint)


def test_another_base_encoder_under_the_same_name_is_refused(encoder_folder: Path, tmp_path: Path) -> None:
    folder = write_tiny_encoder(tmp_path / "mine")
    catalogue = theme_catalogue(2)
    from tests.small_models import EVENT_TYPES

    Recommender.build(small_settings(tmp_path, folder).model, catalogue, EVENT_TYPES).save(tmp_path / "saved")
    write_tiny_encoder(tmp_path / "mine", seed=1)
    with pytest.raises(CheckpointError, match="sha256"):
        Recommender.load(tmp_path / "saved")


def test_a_model_scores_without_its_base_encoder_but_cannot_read_new_text(
    checkpoint: Path, recommender: Recommender
) -> None:
    rewrite(checkpoint, base_encoder={"name": "/no/such/folder", "sha256": "0", "width": 32})
    loaded = Recommender.load(checkpoint)
    assert loaded.item_vectors().shape == (36, 16)


@pytest.mark.parametrize("name", ["weights.safetensors", "items.parquet", "text_vectors.safetensors"])
def test_a_broken_file_is_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="incomplete or broken"):
        Recommender.load(checkpoint)


def test_what_an_update_starts_from_is_read_for_an_update_only(
    recommender: Recommender, tmp_path: Path
) -> None:
    n_items = len(recommender.catalogue)
    counted = recommender.clone()
    counted.collaborative = EASE.fit(theme_world(recommender.catalogue), n_items, 5.0, keep_counts=True)
    counted.save(tmp_path)
    assert counted.collaborative.co_occurrences is not None
    served, updated = Recommender.load(tmp_path), Recommender.load(tmp_path, to_update=True)
    assert served.collaborative is not None
    assert served.collaborative.co_occurrences is None
    assert updated.collaborative is not None
    assert updated.collaborative.co_occurrences is not None
    np.testing.assert_array_equal(
        updated.collaborative.co_occurrences.gram(), counted.collaborative.co_occurrences.gram()
    )
    stored = safetensors.numpy.load_file(tmp_path / CO_OCCURRENCES)
    assert {stored["data"].dtype, stored["indices"].dtype} == {np.dtype(np.uint8)}


def test_a_checkpoint_from_before_co_occurrences_were_kept_loads_for_an_update(
    recommender: Recommender, tmp_path: Path
) -> None:
    old = recommender.clone()
    old.collaborative = EASE.fit(theme_world(recommender.catalogue), len(recommender.catalogue), 5.0)
    old.save(tmp_path)
    loaded = Recommender.load(tmp_path, to_update=True).collaborative
    assert loaded is not None
    assert loaded.co_occurrences is None
    np.testing.assert_array_equal(loaded.weights.toarray(), old.collaborative.weights.toarray())


def test_a_folder_without_manifest_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        Recommender.load(tmp_path)
