"""Pack texts one after the other into one row without padding; each text attends only to itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.model.device import to_device

_FIRST_POSITION = {"bert": 0, "roberta": 2, "xlm-roberta": 2, "camembert": 2}
"""Position id of a text's first token, by model type. Only these models can be packed: tokens interact in
attention only, and position ids can be passed in."""
_NAME = "recsys_packed"


def packs(transformer: nn.Module) -> bool:
    """Return whether texts can be packed for this model."""
    return getattr(transformer.config, "model_type", None) in _FIRST_POSITION


@contextmanager
def packed_attention(transformer: Any, lengths: NDArray[np.int64], longest: int) -> Iterator[dict[str, Any]]:
    """Make a model on a GPU attend within each text; yield the keyword arguments to call it with.

    Parameters
    ----------
    transformer
        A model for which `packs` is true.
    lengths
        [texts] in tokens.
    longest
        Upper bound of the lengths, in tokens.
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
            # transformers passes arguments with these names on to the attention function.
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
    """Attend within texts: [1, heads, tokens, head width] to [1, tokens, heads, head width]."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = (part.squeeze(0).transpose(0, 1) for part in (query, key, value))
    mixed = varlen_attn(query, key, value, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q)
    assert isinstance(mixed, Tensor)  # it returns a tuple only with further arguments
    return mixed.unsqueeze(0), None
