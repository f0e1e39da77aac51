"""What each mode of fine-tuning trains."""

from pathlib import Path

import pytest
import torch

from recsys.errors import CheckpointError
from tests.small_models import open_encoder, write_tiny_encoder

TEXTS = [
    "rocket and planet",
    "",
    "bread",
    "the bread and spice soup chef oven recipe kitchen",
    "bread",
    "🎬 中文",
]


@pytest.mark.parametrize("mode", ["frozen", "top_layers", "lora", "full"])
def test_all_modes_start_from_the_same_vectors(encoder_folder: Path, mode: str) -> None:
    vectors = open_encoder(encoder_folder, mode).encode(TEXTS)
    assert vectors.shape == (6, 32)
    assert torch.allclose(vectors, open_encoder(encoder_folder, "full").encode(TEXTS), atol=5e-3)
    assert torch.equal(vectors[2], vectors[4])
    assert vectors.isfinite().all()


@pytest.mark.parametrize("mode", ["top_layers", "lora", "full"])
def test_trained_weights_get_gradients_and_change_the_vectors(encoder_folder: Path, mode: str) -> None:
    text = open_encoder(encoder_folder, mode).train()
    before = text.encode(TEXTS)
    optimizer = torch.optim.SGD([p for p in text.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # the first step of LoRA changes only one of its two matrices
        (text.encode_with_gradient(TEXTS[:2]) * torch.linspace(-1, 1, 32)).sum().backward()
        optimizer.step()
    assert not torch.allclose(before, text.encode(TEXTS), atol=1e-2)
    other = open_encoder(encoder_folder, mode)
    other.load_trained_state(text.trained_state())
    assert torch.allclose(other.encode(TEXTS), text.encode(TEXTS), atol=5e-3)


def test_frozen_mode_trains_nothing(encoder_folder: Path) -> None:
    text = open_encoder(encoder_folder, "frozen")
    assert text.trained_state() == {}
    assert not any(p.requires_grad for p in text.parameters())


def test_weights_of_another_mode_are_refused(encoder_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="top_layers"):
        open_encoder(encoder_folder).load_trained_state(open_encoder(encoder_folder, "full").trained_state())


def test_deeper_encoders_train_their_last_layers_only(tmp_path: Path) -> None:
    text = open_encoder(write_tiny_encoder(tmp_path / "deep", layers=5), trainable_top_layers=2)
    assert {name.split(".")[2] for name in text.trained_state()} == {"3", "4"}
