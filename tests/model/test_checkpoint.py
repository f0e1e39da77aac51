import json
from pathlib import Path

import pytest

from recsys.errors import CheckpointError
from recsys.model.checkpoint import MANIFEST, read_manifest
from recsys.model.recommender import Recommender
from tests.small_models import small_settings, theme_catalogue, write_tiny_encoder


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


def test_a_folder_without_manifest_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        Recommender.load(tmp_path)
