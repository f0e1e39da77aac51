"""How many texts a full fine-tune encodes with gradient follows the catalogue, not the users."""

import logging
from pathlib import Path

import numpy as np
import pytest

from recsys.model.text_encoder import TextEncoder
from recsys.settings import TrainingSettings
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.training.full import fit_full
from recsys.training.trainer import MIN_TEXTS, text_interval
from tests.small_models import EVENT_TYPES, small_settings


def encoded(settings: TrainingSettings, users: int, items: int) -> int:
    """Return how many texts a run encodes with gradient."""
    steps = -(-users // settings.batch_size)
    chosen = len(range(0, steps, text_interval(settings, steps, items)))
    return chosen * settings.text_items_per_step * settings.text_epochs


def test_a_thousand_users_train_text_in_every_step() -> None:
    assert text_interval(TrainingSettings(), 15, 1_682) == 1


@pytest.mark.parametrize("items", [10_000, 100_000])
def test_texts_encoded_do_not_grow_with_the_users(items: int) -> None:
    settings = TrainingSettings()
    few, many = encoded(settings, 200_000, items), encoded(settings, 20_000_000, items)
    allowed = settings.text_passes * items
    assert many <= 1.1 * allowed + settings.text_items_per_step * settings.text_epochs
    assert few <= many * 1.1


def test_a_small_catalogue_trains_a_fair_number_of_texts() -> None:
    assert encoded(TrainingSettings(), 1_000_000, 100) > 0.8 * MIN_TEXTS


def test_a_run_keeps_to_the_budget_and_says_so(
    catalogue: Catalogue,
    world: Sequences,
    encoder_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("recsys.training.trainer.MIN_TEXTS", 40)
    calls: list[int] = []
    encode = TextEncoder.encode_with_gradient
    monkeypatch.setattr(
        TextEncoder,
        "encode_with_gradient",
        lambda own, texts, **options: calls.append(len(texts)) or encode(own, texts, **options),
    )
    settings = small_settings(tmp_path, encoder_folder, epochs=2, text_passes=1.0, batch_size=4)
    with caplog.at_level(logging.INFO, "recsys"):
        fitted = fit_full(catalogue, EVENT_TYPES, world, settings, tmp_path / "run")
    assert 0 < np.sum(calls) <= len(catalogue) + 2 * settings.training.text_items_per_step
    assert fitted.metrics["text_interval"] > 1
    assert f"in one of {fitted.metrics['text_interval']:.0f} steps" in caplog.text
