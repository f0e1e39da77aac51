"""What each mode of fine-tuning trains."""

import re
from pathlib import Path

import pytest
import torch
from transformers import DebertaV2Config, DebertaV2Model, T5Config, T5Model

from recsys.errors import CheckpointError, ConfigurationError
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


def write_t5(folder: Path) -> Path:
    write_tiny_encoder(folder)
    T5Model(T5Config(vocab_size=40, d_model=32, d_kv=16, d_ff=64, num_layers=3)).save_pretrained(folder)
    return folder


def test_an_encoder_whose_layers_share_more_than_their_output_is_refused_with_a_remedy(
    tmp_path: Path,
) -> None:
    folder = write_t5(tmp_path)
    message = (
        rf"{re.escape(repr(str(folder)))} \(T5Stack\).*RECSYS_MODEL__FINE_TUNING to frozen, lora or full"
    )
    with pytest.raises(ConfigurationError, match=message):
        open_encoder(folder, "top_layers")


@pytest.mark.parametrize("mode", ["frozen", "lora", "full"])
def test_other_modes_train_such_an_encoder(tmp_path: Path, mode: str) -> None:
    text = open_encoder(write_t5(tmp_path), mode)
    assert text.encode(TEXTS).isfinite().all()
    if mode != "frozen":
        text.encode_with_gradient(TEXTS).sum().backward()
        assert any(p.grad is not None for p in text.parameters())


def test_it_is_trained_whole_where_no_layer_is_frozen(tmp_path: Path) -> None:
    assert open_encoder(write_t5(tmp_path), trainable_top_layers=3).encode(TEXTS).isfinite().all()


def test_layers_that_may_return_their_attention_too_can_be_frozen(tmp_path: Path) -> None:
    folder = write_tiny_encoder(tmp_path)
    config = DebertaV2Config(
        vocab_size=40, hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64,
        relative_attention=True, pos_att_type=["p2c", "c2p"],
    )  # fmt: skip
    DebertaV2Model(config).save_pretrained(folder)
    vectors = open_encoder(folder, "top_layers").encode(TEXTS)
    assert torch.allclose(vectors, open_encoder(folder, "full").encode(TEXTS), atol=5e-3)


def test_deeper_encoders_train_their_last_layers_only(tmp_path: Path) -> None:
    text = open_encoder(write_tiny_encoder(tmp_path / "deep", layers=5), trainable_top_layers=2)
    assert {name.split(".")[2] for name in text.trained_state()} == {"3", "4"}
