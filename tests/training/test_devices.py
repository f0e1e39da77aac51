"""Training, saving, updating and scoring on every available kind of device."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from benchmarks import text_training
from recsys.columns import PURPOSES, Purpose
from recsys.evaluation.evaluated_recommender import EvaluatedRecommender
from recsys.model.base_encoder import find_base_encoder
from recsys.model.checkpoint import load_recommender, save_recommender
from recsys.model.explanation import ListExplainer
from recsys.model.ranking import NO_ITEM
from recsys.model.scoring import CatalogueScorer
from recsys.model.text_encoder import TextEncoder
from recsys.publishing.histories import UserBatch
from recsys.publishing.score import BatchScorer, Explain
from recsys.settings import ModelSettings, PublishingSettings, Settings
from recsys.snapshot.sequences import Sequences
from recsys.training.full import fit_full
from recsys.training.micro import fit_micro
from tests.small_models import EVENT_TYPES, WORDS, small_settings, theme_catalogue, theme_world

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
LATER = datetime(2100, 1, 1, tzinfo=UTC)


def on(device: str, folder: Path, encoder: Path, mode: str, **training: object) -> Settings:
    settings = small_settings(folder, encoder, device=device, **training)
    micro = settings.micro_update.model_copy(update={"epochs": 1})
    model = settings.model.model_copy(update={"fine_tuning": mode})
    return settings.model_copy(update={"model": model, "micro_update": micro})


def commented(sequences: Sequences) -> Sequences:
    """Return the events with comments that express their sentiment."""
    texts = pa.array(["murder heist thief", "the of and", "bread pastry soup"])
    return replace(sequences, comment=(sequences.sentiment + 1).astype(np.int32), comments=texts)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("mode", "training"),
    [
        ("frozen", {}),
        ("top_layers", {}),
        ("lora", {}),
        ("full", {}),
        ("top_layers", {"full_softmax_items": 10, "sampled_negatives": 8}),
        ("top_layers", {"gradient_accumulation": 2}),
    ],
)
def test_every_training_mode_learns_and_its_checkpoint_gives_the_same_scores(
    device: str, mode: str, training: dict[str, object], encoder_folder: Path, tmp_path: Path
) -> None:
    catalogue = theme_catalogue()
    world = theme_world(catalogue)
    settings = on(device, tmp_path, encoder_folder, mode, **training)
    fitted = fit_full(catalogue, EVENT_TYPES, world, settings, tmp_path / "run")
    model = fitted.model
    assert model.device.type == device
    assert fitted.history[-1]["next_item"] < fitted.history[0]["next_item"]
    assert torch.allclose(model.text_encoder().encode(catalogue.texts), model.text_vectors, atol=1e-3)
    save_recommender(model, tmp_path / "checkpoint", trained_through={})
    loaded = load_recommender(tmp_path / "checkpoint").with_catalogue(catalogue)
    asked, requests = world.take_users(range(5)), ["something with a rocket", "", "soup", "", ""]
    assert np.allclose(loaded.score(asked, requests), model.score(asked, requests), atol=1e-2)


@pytest.mark.parametrize("device", DEVICES)
def test_comments_are_learned_and_an_interrupted_run_resumes(
    device: str, encoder_folder: Path, tmp_path: Path
) -> None:
    catalogue = theme_catalogue()
    world = commented(theme_world(catalogue))
    settings = on(device, tmp_path, encoder_folder, "full")

    def stop(row: dict[str, object]) -> None:
        if row["epoch"] == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit_full(catalogue, EVENT_TYPES, world, settings, tmp_path / "run", report=stop)
    rows: list[dict[str, object]] = []
    fitted = fit_full(catalogue, EVENT_TYPES, world, settings, tmp_path / "run", report=rows.append)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert fitted.metrics["comment_auc"] > 0.9
    assert fitted.model.comments.reads


def sentences(scorer: CatalogueScorer) -> Explain:
    return lambda histories, users, items, texts: ListExplainer(scorer)(histories, users, items).sentences(
        texts
    )


@pytest.mark.parametrize("device", DEVICES)
def test_a_micro_update_evaluation_and_batch_scoring_work(
    device: str, encoder_folder: Path, tmp_path: Path
) -> None:
    catalogue = theme_catalogue()
    world = theme_world(catalogue)
    settings = on(device, tmp_path, encoder_folder, "top_layers")
    parent = fit_full(catalogue, EVENT_TYPES, world, settings, tmp_path / "run").model
    save_recommender(parent, tmp_path / "checkpoint", trained_through={})
    larger = theme_catalogue(extra=(("new", "rocket galaxy"),))
    purposes = np.full(world.events, PURPOSES.index(Purpose.FRESH), dtype=np.int8)
    purposes[world.event_users() % 3 == 1] = PURPOSES.index(Purpose.REPLAY)
    purposes[world.event_users() % 3 == 2] = PURPOSES.index(Purpose.GUARD)
    start = load_recommender(tmp_path / "checkpoint", to_update=True).with_catalogue(larger)
    updated = fit_micro(start, replace(world, purpose=purposes), LATER, settings)
    model = updated.model
    assert model.device.type == device
    assert len(updated.history) == 1
    items = world.item_index[: world.users]
    assert np.isfinite(EvaluatedRecommender(model, EVENT_TYPES).liking(world, items)).all()
    batch = UserBatch(0, world, world.event_users(), world.item_index)
    scored = BatchScorer(model, PublishingSettings(k=5, diversity=0.3), sentences).score(batch)
    assert (scored.items != NO_ITEM).all()
    assert np.isfinite(scored.scores).all()
    assert all(all(sentences) for sentences in scored.reasons)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", ["top_layers", "lora", "full"])
def test_vectors_are_the_same_with_and_without_gradient(device: str, mode: str, encoder_folder: Path) -> None:
    settings = ModelSettings.model_validate({"fine_tuning": mode, "max_text_tokens": 16})
    text = TextEncoder(find_base_encoder(str(encoder_folder)), settings).to(device).train()
    rng = np.random.default_rng(0)
    texts = ["", *(" ".join(rng.choice(WORDS, rng.integers(1, 14))) for _ in range(60))]
    with_gradient = text.encode_with_gradient(texts)
    assert with_gradient.dtype == torch.float32
    assert torch.allclose(with_gradient, text.encode(texts), atol=0.05)
    with_gradient.square().sum().backward()
    gradients = [p.grad for p in text.parameters() if p.requires_grad and p.grad is not None]
    assert gradients
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("device", DEVICES)
def test_the_text_training_benchmark_reports_its_rates(device: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    arguments = ["--small", "--device", device, "--items", "32", "--warmup", "1", "--windows", "2"]
    text_training.main([*arguments, "--window", "1", "--peak-tflops", "100", "--json", str(file)])
    figures = json.loads(file.read_text())
    assert 0 < figures["useful_token_share"] <= 1
    rate = figures["useful_tokens_per_second"] * figures["model_flops_per_token"] / 1e12
    assert figures["model_tflops_per_second"] == pytest.approx(rate)
    assert figures["mfu"] == pytest.approx(rate / 100)
