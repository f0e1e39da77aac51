"""Texts one after the other in one row, each attending to itself alone: nothing is computed on padding."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.model.transfer import to_device

_FIRST_POSITION = {"bert": 0, "roberta": 2, "xlm-roberta": 2, "camembert": 2}
"""Of a text, by type of model: those whose tokens meet in attention only and that are told positions."""
_NAME = "recsys_packed"


def packs(transformer: nn.Module) -> bool:
    """Return whether a model's texts can be packed."""
    return getattr(transformer.config, "model_type", None) in _FIRST_POSITION


@contextmanager
def packed_attention(transformer: Any, lengths: NDArray[np.int64], longest: int) -> Iterator[dict[str, Any]]:
    """Let a model on a GPU attend within texts of these lengths; yield what to call it with beside the ids.

    Parameters
    ----------
    transformer
        For which `packs` holds.
    lengths
        [texts] in tokens.
    longest
        Length that no text exceeds.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, _attend)
    ends = np.cumsum(lengths)
    starts = to_device(np.append(0, ends).astype(np.int32), transformer.device)
    positions = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    first = _FIRST_POSITION[transformer.config.model_type]
    position_ids = to_device(positions + first, transformer.device)[None]
    before = transformer.config._attn_implementation
    transformer.config._attn_implementation = _NAME
    try:
        yield {
            "position_ids": position_ids,
            "token_type_ids": torch.zeros_like(position_ids),
            # The names under which transformers hands such things through to the attention.
            "cu_seq_lens_q": starts,
            "max_length_q": longest,
        }
    finally:
        transformer.config._attn_implementation = before


def _attend(
    module: nn.Module,  # noqa: ARG001
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001
    *,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    **_: Any,
) -> tuple[Tensor, None]:
    """Return [1, tokens, heads, width of a head] for parts [1, heads, tokens, width of a head]."""
    from torch.nn.attention.varlen import varlen_attn

    own_query, own_key, own_value = (part.squeeze(0).transpose(0, 1) for part in (query, key, value))
    mixed = varlen_attn(
        own_query, own_key, own_value, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q
    )
    assert isinstance(mixed, Tensor)  # a tuple only for who asks for more
    return mixed.unsqueeze(0), None
