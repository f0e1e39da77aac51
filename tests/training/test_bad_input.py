"""Unusual feedback and catalogues give working models, or errors that say what to do."""

import json
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from recsys.errors import ConfigurationError, TrainingError
from recsys.memory import available_memory, require_memory, serving_bytes, training_bytes
from recsys.model.checkpoint import load_recommender, save_recommender
from recsys.model.device import choose_device
from recsys.model.fusion import LIKING
from recsys.model.ranking import NO_ITEM, mask_hidden, top_k
from recsys.model.text_encoder import TextEncoder
from recsys.settings import Settings
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.training.full import Fitted, fit_full
from recsys.training.trainer import Validator
from tests.small_models import (
    EVENT_TYPES,
    VIEW,
    disliked,
    histories,
    liked,
    small_settings,
    theme_world,
    write_tiny_encoder,
)

LARGE = 5_000_000


@pytest.fixture
def brief(encoder_folder: Path, tmp_path: Path) -> Settings:
    """Settings of one epoch."""
    return small_settings(tmp_path / "home", encoder_folder, epochs=1, text_epochs=1)


def fitted_on(catalogue: Catalogue, past: Sequences, settings: Settings, folder: Path) -> Fitted:
    result = fit_full(catalogue, EVENT_TYPES, past, settings, folder)
    assert np.isfinite(result.model.score(past)).all()
    return result


def test_a_single_item_is_recommended_to_users_who_have_not_consumed_it(
    brief: Settings, tmp_path: Path
) -> None:
    only = Catalogue.build(["only"], ["rocket and planet"])
    past = histories(only, liked("only"), [], liked("only"))
    model = fitted_on(only, past, brief, tmp_path).model
    items, _ = top_k(mask_hidden(model.score(past), past), 2)
    assert items.tolist() == [[NO_ITEM, NO_ITEM], [0, NO_ITEM], [NO_ITEM, NO_ITEM]]


def test_without_dislikes_the_liking_head_is_not_used(
    catalogue: Catalogue, brief: Settings, tmp_path: Path
) -> None:
    world = theme_world(catalogue)
    result = fitted_on(catalogue, world.where(world.sentiment > 0), brief, tmp_path)
    assert LIKING not in result.model.fusion.weights


def test_only_dislikes_are_refused(catalogue: Catalogue, brief: Settings, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="all feedback is negative"):
        fit_full(
            catalogue, EVENT_TYPES, histories(catalogue, disliked("space-0", "crime-1")), brief, tmp_path
        )


@pytest.mark.parametrize("text", ["bread and soup", ""], ids=["identical", "empty"])
def test_items_with_equal_texts_are_distinguished_by_their_events(
    text: str, catalogue: Catalogue, quick: Settings, tmp_path: Path
) -> None:
    alike = Catalogue.build(catalogue.item_ids.tolist(), [text] * len(catalogue))
    model = fitted_on(alike, theme_world(alike), quick, tmp_path).model
    scores = model.score(histories(alike, liked("space-0", "space-1", "space-2")))[0]
    theme = np.array([item.startswith("space") for item in alike.item_ids])
    assert scores[theme].mean() > scores[~theme].mean()


def test_a_user_with_ten_thousand_events_trains_and_gets_the_remaining_item(
    catalogue: Catalogue, brief: Settings, tmp_path: Path
) -> None:
    left = "space-3"
    rng = np.random.default_rng(0)
    seen = rng.choice([item for item in catalogue.item_ids if item != left], 10_000)
    past = histories(catalogue, [(item, VIEW, float("nan")) for item in seen], liked("crime-0", "crime-1"))
    model = fitted_on(catalogue, past, brief, tmp_path).model
    items, _ = top_k(mask_hidden(model.score(past), past), 3)
    assert catalogue.item_ids[items[0, 0]] == left
    assert items[0, 1] == NO_ITEM


def test_an_unknown_or_missing_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"RECSYS_TRAINING__DEVICE is 'gpu'.*set it to auto, cpu"):
        choose_device("gpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigurationError, match="the GPU cuda:2 is configured, but torch finds 2"):
        choose_device("cuda:2")


def test_each_process_of_torchrun_gets_the_gpu_of_its_local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("cuda") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigurationError, match="RECSYS_TRAINING__DEVICES to the number of GPUs"):
        choose_device("cuda")


def test_a_catalogue_larger_than_memory_is_refused_before_texts_are_encoded(
    catalogue: Catalogue, brief: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.memory.available_memory", lambda: 10_000)
    monkeypatch.setattr(TextEncoder, "encode", lambda *_: pytest.fail("a text was encoded"))
    with pytest.raises(ConfigurationError, match=r"36 items needs .* GiB.*RECSYS_MODEL__DIM"):
        fit_full(catalogue, EVENT_TYPES, theme_world(catalogue), brief, tmp_path)


@pytest.mark.parametrize("estimate", [training_bytes, serving_bytes])
def test_memory_estimates_of_five_million_items_include_their_tables(estimate: object) -> None:
    parts = estimate(LARGE, 64, 384)  # type: ignore[operator]
    assert sum(parts.values()) > 2 * 4 * LARGE * (384 + 64)
    assert sum(estimate(50_000, 64, 384).values()) < 1 << 30  # type: ignore[operator]


def test_a_refusal_names_the_sizes_and_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.memory.available_memory", lambda: 16 << 30)
    parts = serving_bytes(LARGE, 64, 384)
    with pytest.raises(ConfigurationError, match=r"text vectors 21\.5.*16\.0 GiB are free.*or wait"):
        require_memory("publishing", parts, "wait")
    require_memory("publishing", serving_bytes(50_000, 64, 384), "wait")


def test_free_memory_is_limited_by_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.memory._CGROUP", tmp_path)
    (tmp_path / "memory.stat").write_text("anon 600\nfile 5\n")
    (tmp_path / "memory.max").write_text("1000\n")
    assert available_memory() == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory() > 1000
    assert available_memory() <= psutil.virtual_memory().total


def test_an_encoder_without_a_padding_token_trains(catalogue: Catalogue, tmp_path: Path) -> None:
    folder = write_tiny_encoder(tmp_path / "encoder")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token": None}))
    settings = small_settings(tmp_path / "home", folder, epochs=1)
    model = fitted_on(catalogue, theme_world(catalogue), settings, tmp_path).model
    assert model.text_encoder().tokens.tokenizer.pad_token is None
    whole = model.text_encoder().encode(["bread", "the bread and spice soup chef oven recipe kitchen"])
    alone = model.text_encoder().encode(["bread"])
    assert torch.allclose(whole[0], alone[0], atol=5e-3)


def test_a_model_ranks_the_unknown_items_of_another_catalogue_by_their_texts(
    fitted: Fitted, catalogue: Catalogue, tmp_path: Path
) -> None:
    save_recommender(fitted.model, tmp_path / "checkpoint")
    others = Catalogue.build(
        [f"other-{item}" for item in catalogue.item_ids], catalogue.titles, None, catalogue.attributes
    )
    moved = load_recommender(tmp_path / "checkpoint").with_catalogue(others)
    assert not moved.items.trained.any()
    past = histories(others, liked("other-space-0", "other-space-1"), [])
    scores = moved.score(past)
    assert np.isfinite(scores).all()
    theme = np.array([item.startswith("other-space") for item in others.item_ids])
    assert scores[0, theme].mean() > scores[0, ~theme].mean()


def test_validation_in_blocks_gives_the_same_ranks(
    fitted: Fitted, catalogue: Catalogue, world: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recsys.training.split import split_validation

    cases = split_validation(world).cases
    validator = Validator.build(cases, fitted.model, 10)
    whole = validator.ranks(fitted.model)
    monkeypatch.setattr("recsys.training.trainer.SCORES_IN_MEMORY", 3 * len(catalogue))
    assert validator.ranks(fitted.model).tolist() == whole.tolist()
    assert validator.ndcg(fitted.model) > 0
