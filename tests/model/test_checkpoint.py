import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from recsys.errors import CheckpointError
from recsys.model.checkpoint import (
    CO_OCCURRENCES,
    MANIFEST,
    load_recommender,
    read_manifest,
    save_recommender,
)
from recsys.model.collaborative import EASE
from recsys.model.fusion import NEURAL, Fusion
from recsys.model.recommender import Recommender
from recsys.model.succession import Succession
from tests.small_models import EVENT_TYPES, small_settings, theme_catalogue, theme_world, write_tiny_encoder


@pytest.fixture
def checkpoint(recommender: Recommender, tmp_path: Path) -> Path:
    save_recommender(recommender, tmp_path / "checkpoint", seed=3)
    return tmp_path / "checkpoint"


def rewrite(checkpoint: Path, **changes: object) -> None:
    path = checkpoint / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_manifest_describes_the_model(checkpoint: Path, encoder_folder: Path) -> None:
    manifest = read_manifest(checkpoint)
    assert manifest["seed"] == 3
    assert manifest["base_encoder"]["name"] == str(encoder_folder)
    assert manifest["model"]["dim"] == 16


def test_another_format_version_is_refused(checkpoint: Path) -> None:
    rewrite(checkpoint, format_version=99)
    with pytest.raises(CheckpointError, match="99"):
        load_recommender(checkpoint)


def test_another_base_encoder_under_the_same_name_is_refused(encoder_folder: Path, tmp_path: Path) -> None:
    folder = write_tiny_encoder(tmp_path / "mine")
    model = Recommender.build(small_settings(tmp_path, folder).model, theme_catalogue(2), EVENT_TYPES)
    save_recommender(model, tmp_path / "saved")
    write_tiny_encoder(tmp_path / "mine", seed=1)
    with pytest.raises(CheckpointError, match="sha256"):
        load_recommender(tmp_path / "saved")


def test_a_model_has_vectors_without_its_base_encoder(
    checkpoint: Path,
) -> None:
    rewrite(checkpoint, base_encoder={"name": "/no/such/folder", "sha256": "0", "width": 32})
    loaded = load_recommender(checkpoint)
    assert loaded.item_vectors().shape == (36, 16)


def test_a_checkpoint_with_settings_of_an_earlier_version_loads(
    checkpoint: Path, recommender: Recommender
) -> None:
    model = read_manifest(checkpoint)["model"]
    retired = {"max_comment_tokens": 64, "collaborative_neighbours": 300, "collaborative_max_items": 12_000}
    rewrite(checkpoint, model=model | retired)
    assert load_recommender(checkpoint).settings == recommender.settings


def test_a_checkpoint_keeps_when_items_are_available_and_what_is_one_thing(
    recommender: Recommender, tmp_path: Path
) -> None:
    timed = recommender.clone()
    numbers = np.arange(len(recommender.catalogue))
    timed.catalogue = replace(
        recommender.catalogue, available=numbers != 1, available_from=numbers + 5,
        available_until=numbers + 9, group=numbers // 2 * 2,
    )  # fmt: skip
    save_recommender(timed, tmp_path)
    loaded = load_recommender(tmp_path).catalogue
    for name in ("available", "available_from", "available_until", "group"):
        assert getattr(loaded, name).tolist() == getattr(timed.catalogue, name).tolist()
    items = pq.read_table(tmp_path / "items.parquet")
    pq.write_table(
        items.drop_columns(["available", "available_from", "available_until", "group"]),
        tmp_path / "items.parquet",
    )
    older = load_recommender(tmp_path).catalogue
    assert older.available.all()
    assert len(older.timed) == len(older.variants) == 0


@pytest.mark.parametrize("name", ["weights.safetensors", "items.parquet", "text_vectors.safetensors"])
def test_a_broken_file_is_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="incomplete or broken"):
        load_recommender(checkpoint)


@pytest.mark.parametrize("content", [b"broken", None], ids=["broken", "missing"])
def test_counts_of_what_follows_what_are_read_as_a_whole_or_refused(
    recommender: Recommender, tmp_path: Path, content: bytes | None
) -> None:
    counted = recommender.clone()
    counted.succession = Succession.fit([theme_world(recommender.catalogue)], len(recommender.catalogue))
    save_recommender(counted, tmp_path)
    loaded = load_recommender(tmp_path).succession
    assert loaded is not None
    assert (loaded.counts != counted.succession.counts).nnz == 0
    file = tmp_path / "succession.safetensors"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(CheckpointError, match="incomplete or broken"):
        load_recommender(tmp_path)


def test_co_occurrences_are_loaded_for_an_update_only(recommender: Recommender, tmp_path: Path) -> None:
    n_items = len(recommender.catalogue)
    counted = recommender.clone()
    counted.collaborative = EASE.fit(theme_world(recommender.catalogue), n_items, 5.0, keep_counts=True)
    save_recommender(counted, tmp_path)
    assert counted.collaborative.co_occurrences is not None
    served, updated = load_recommender(tmp_path), load_recommender(tmp_path, to_update=True)
    assert served.collaborative is not None
    assert served.collaborative.co_occurrences is None
    assert updated.collaborative is not None
    assert updated.collaborative.co_occurrences is not None
    np.testing.assert_array_equal(
        updated.collaborative.co_occurrences.counts.toarray(),
        counted.collaborative.co_occurrences.counts.toarray(),
    )
    stored = safetensors.numpy.load_file(tmp_path / CO_OCCURRENCES)
    assert {stored["data"].dtype, stored["indices"].dtype} == {np.dtype(np.uint8)}


def test_an_older_checkpoint_without_co_occurrences_loads_for_an_update(
    recommender: Recommender, tmp_path: Path
) -> None:
    old = recommender.clone()
    old.collaborative = EASE.fit(theme_world(recommender.catalogue), len(recommender.catalogue), 5.0)
    save_recommender(old, tmp_path)
    loaded = load_recommender(tmp_path, to_update=True).collaborative
    assert loaded is not None
    assert loaded.co_occurrences is None
    np.testing.assert_array_equal(loaded.weights.toarray(), old.collaborative.weights.toarray())


def test_an_older_checkpoint_whose_attention_decayed_with_time_loads_without_the_decay(
    recommender: Recommender, checkpoint: Path
) -> None:
    path = checkpoint / "weights.safetensors"
    powers = {"users.blocks.0.decay.power": np.ones((2, 2), dtype=np.float32)}
    safetensors.numpy.save_file(safetensors.numpy.load_file(path) | powers, path)
    world = theme_world(recommender.catalogue)
    np.testing.assert_allclose(load_recommender(checkpoint).score(world), recommender.score(world), atol=1e-5)


def test_an_older_checkpoint_scores_who_comes_back_like_all_others(
    recommender: Recommender, tmp_path: Path
) -> None:
    recommender.fusion = Fusion({NEURAL: 1.0, "repeat": 2.0})
    recommender.returning_fusion = Fusion({NEURAL: 1.0, "repeat": 5.0, "repeat_neural": -0.5})
    save_recommender(recommender, tmp_path)
    assert load_recommender(tmp_path).returning_fusion == recommender.returning_fusion
    moved = load_recommender(tmp_path).with_catalogue(recommender.catalogue)
    assert moved.returning_fusion == recommender.returning_fusion
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["returning_fusion"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert load_recommender(tmp_path).returning_fusion == recommender.fusion


def test_a_folder_without_manifest_is_not_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        load_recommender(tmp_path)
