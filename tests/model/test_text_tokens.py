"""How texts become tokens."""

import json
from pathlib import Path

import pytest
import torch

from tests.model.multilingual import MULTILINGUAL, write_multilingual_encoder
from tests.small_models import open_encoder, write_tiny_encoder


def test_a_tokenizer_without_padding_token_works(encoder_folder: Path, tmp_path: Path) -> None:
    folder = write_tiny_encoder(tmp_path)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token": None}))
    text = open_encoder(folder)
    assert text.tokens.tokenizer.pad_token is None
    assert text.tokens.padding != open_encoder(encoder_folder).tokens.padding
    texts = ["bread", "the bread and spice soup chef oven recipe kitchen"]
    assert torch.allclose(text.encode(texts), open_encoder(encoder_folder).encode(texts), atol=5e-3)


def test_positions_that_padding_takes_are_no_room_for_text(tmp_path: Path) -> None:
    text = open_encoder(write_multilingual_encoder(tmp_path), max_text_tokens=64)
    assert text.tokens.max_tokens == 32


@pytest.mark.parametrize("text", [*MULTILINGUAL[1:], "", " "])
def test_only_texts_of_known_words_are_understood(encoder_folder: Path, text: str) -> None:
    tokens = open_encoder(encoder_folder).tokens
    assert tokens.understands(["bread", text, f"bread bread soup {text}"]).tolist() == [True, False, True]
