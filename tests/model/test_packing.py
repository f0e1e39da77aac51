"""Packed texts on a CPU, with a replacement for the attention kernel that only a GPU has."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from recsys.model.base_encoder import find_base_encoder
from recsys.model.packing import packed_attention, packs
from recsys.model.text_encoder import TextEncoder
from recsys.settings import ModelSettings

TEXTS = ["murder heist thief", "rocket", "soup bread pastry rocket thief murder"]


def attention_by_mask(query: Tensor, key: Tensor, value: Tensor, starts: Tensor, *_: object) -> Tensor:
    """Compute the same as `varlen_attn` on any device; inputs are [tokens, heads, head width]."""
    owner = torch.searchsorted(starts, torch.arange(len(query), dtype=starts.dtype), right=True)
    parts = [part.transpose(0, 1) for part in (query, key, value)]
    mixed = functional.scaled_dot_product_attention(*parts, attn_mask=owner[:, None] == owner[None, :])
    return mixed.transpose(0, 1)


def test_a_packed_text_has_the_same_vector_as_alone(
    encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", attention_by_mask)
    encoder = TextEncoder(find_base_encoder(str(encoder_folder)), ModelSettings(fine_tuning="full"))
    tokens = encoder.tokens.tokenize(TEXTS)
    lengths = np.array([len(ids) for ids in tokens])
    assert len(set(lengths)) == len(TEXTS)
    assert packs(encoder.transformer)

    with torch.no_grad(), packed_attention(encoder.transformer, lengths, 64) as places:
        ids = torch.tensor([[token for own in tokens for token in own]])
        hidden = encoder.transformer(input_ids=ids, **places).last_hidden_state[0]
    packed = torch.stack([part.mean(0) for part in torch.split(hidden, lengths.tolist())])

    torch.testing.assert_close(packed, encoder.encode(TEXTS), rtol=1e-4, atol=1e-5)
    # Later calls are padded again.
    torch.testing.assert_close(encoder.encode_with_gradient(TEXTS).detach(), packed, rtol=1e-4, atol=1e-5)
