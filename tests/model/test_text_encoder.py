"""Vectors of texts, and the cache of what frozen layers compute."""

from pathlib import Path

import pytest
import torch

from recsys.model import text_encoder
from tests.model.multilingual import MULTILINGUAL, write_multilingual_encoder
from tests.small_models import open_encoder

TEXTS = [
    "rocket and planet",
    "",
    "bread",
    "the bread and spice soup chef oven recipe kitchen",
    "bread",
    "🎬 中文",
]


def test_a_cached_text_does_not_pass_the_frozen_layers_again(encoder_folder: Path, tmp_path: Path) -> None:
    first = open_encoder(encoder_folder)
    with first.cached_in(tmp_path, TEXTS):
        vectors = first.encode(TEXTS)
    later = open_encoder(encoder_folder)
    frozen_calls = []
    later.transformer.encoder.layer[0].attention.register_forward_hook(lambda *_: frozen_calls.append(1))
    with later.cached_in(tmp_path, TEXTS):
        again = later.encode(TEXTS)
    assert not frozen_calls
    assert torch.allclose(vectors, again)


def test_what_each_process_of_a_run_has_cached_serves_all_later_ones(
    encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank, texts in enumerate([TEXTS[:4], TEXTS[4:]]):
        monkeypatch.setattr(text_encoder, "processes", lambda rank=rank: (rank, 2))
        text = open_encoder(encoder_folder)
        with text.cached_in(tmp_path, TEXTS):
            text.encode(texts)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.undo()
    later = open_encoder(encoder_folder)
    later.frozen_tokens = 0
    with later.cached_in(tmp_path, TEXTS):
        later.encode(TEXTS)
    assert later.frozen_tokens == 0


def test_a_broken_cache_is_computed_again(encoder_folder: Path, tmp_path: Path) -> None:
    text = open_encoder(encoder_folder)
    with text.cached_in(tmp_path, TEXTS):
        text.encode(TEXTS)
    for file in tmp_path.iterdir():
        file.write_bytes(b"broken")
    other = open_encoder(encoder_folder)
    with other.cached_in(tmp_path, TEXTS):
        assert other.encode(TEXTS).shape == (6, 32)


def test_little_is_computed_on_padding(encoder_folder: Path) -> None:
    words = ["bread", "soup", "rocket", "planet", "oven"]
    texts = [" ".join(words[i % 5 :] + words[: i % 5])[: 6 + i % 30] + f" {i}" for i in range(400)]
    text = open_encoder(encoder_folder)
    useful, computed = text.useful_tokens, text.computed_tokens
    text.encode(texts)
    assert (text.useful_tokens - useful) / (text.computed_tokens - computed) >= 0.9


@pytest.mark.parametrize("mode", ["frozen", "top_layers"])
def test_a_multilingual_encoder_from_a_folder_reads_every_script(tmp_path: Path, mode: str) -> None:
    text = open_encoder(write_multilingual_encoder(tmp_path), mode, max_text_tokens=64)
    vectors = text.encode([*MULTILINGUAL, "bread " * 500])
    assert vectors.isfinite().all()
    assert (torch.cdist(vectors, vectors) + 10 * torch.eye(6)).min() > 1e-3, "no two are read alike"
