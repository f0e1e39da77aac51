"""Run a transformer on a batch of tokens and pool its last layer to one vector a text."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.model.device import to_device
from recsys.model.encoder_recipe import Pooling
from recsys.model.fine_tuning import FrozenLayers
from recsys.model.packing import packed_attention, packs
from recsys.model.text_tokens import TextTokens


class PooledTransformer:
    """Computes vectors in float32, or in bfloat16 and without padding if told so (`in_bfloat16`).

    Attributes
    ----------
    useful_tokens, computed_tokens
        Tokens passed through the transformer so far, without and with padding.
    """

    def __init__(
        self, transformer: nn.Module, frozen: FrozenLayers, tokens: TextTokens, pooling: Pooling
    ) -> None:
        self.useful_tokens = 0
        self.computed_tokens = 0
        self._transformer = transformer
        self._frozen = frozen
        self._tokens = tokens
        self._pooling = pooling
        self._rounded: dict[str, Tensor] | None = None

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self._transformer.parameters()).device

    @property
    def packs(self) -> bool:
        """Whether the current pass packs texts without padding."""
        return self._is_rounded and packs(self._transformer)

    @property
    def _is_rounded(self) -> bool:
        return self._rounded is not None and torch.is_grad_enabled()

    @contextmanager
    def in_bfloat16(self) -> Iterator[None]:
        """Compute with rounded weights what gets a gradient; gradients arrive at the weights in float32."""
        self._rounded = {n: p.to(torch.bfloat16) for n, p in self._transformer.named_parameters()}
        try:
            yield
        finally:
            self._rounded = None

    def __call__(self, tokens: list[NDArray[np.int32]], frozen_outputs: list[Tensor] | None = None) -> Tensor:
        """Return vectors [batch, width] in float32.

        Parameters
        ----------
        tokens
            [batch] token ids of each text.
        frozen_outputs
            [batch] outputs of the frozen layers for each text, [tokens, width]; None: compute them.
        """
        lengths = np.array([len(ids) for ids in tokens])
        self.useful_tokens += int(lengths.sum())
        if self.packs:
            return self._packed(tokens, lengths, frozen_outputs)
        ids = np.full((len(tokens), lengths.max()), self._tokens.padding, dtype=np.int64)
        mask = np.arange(ids.shape[1])[None, :] < lengths[:, None]
        ids[mask] = np.concatenate(tokens)
        self.computed_tokens += ids.size
        given = None
        if frozen_outputs is not None:
            given = nn.utils.rnn.pad_sequence(frozen_outputs, batch_first=True)
        real = to_device(mask, self.device)
        hidden = self._last_layer(given, input_ids=to_device(ids, self.device), attention_mask=real.long())
        if self._pooling != "mean":
            place = to_device(self._chosen_token(lengths), self.device)
            return hidden[torch.arange(len(tokens), device=self.device), place]
        weights = real.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1)

    def _packed(
        self,
        tokens: list[NDArray[np.int32]],
        lengths: NDArray[np.int64],
        frozen_outputs: list[Tensor] | None,
    ) -> Tensor:
        """Do the same with the texts one after the other in one row."""
        self.computed_tokens += int(lengths.sum())
        given = None if frozen_outputs is None else torch.cat(frozen_outputs)[None]
        ids = to_device(np.concatenate(tokens).astype(np.int64), self.device)
        with packed_attention(self._transformer, lengths, self._tokens.max_tokens) as arguments:
            hidden = self._last_layer(given, input_ids=ids[None], **arguments)
        if self._pooling != "mean":
            place = lengths.cumsum() - lengths + self._chosen_token(lengths)
            return hidden[0].index_select(0, to_device(place, self.device))
        owner = to_device(np.repeat(np.arange(len(lengths)), lengths), self.device)
        sums = hidden.new_zeros(len(lengths), hidden.shape[-1]).index_add(0, owner, hidden[0])
        return sums / to_device(lengths.astype(np.float32), self.device)[:, None]

    def _chosen_token(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the place [texts] of the token whose vector is the text's, where pooling is not a mean."""
        return lengths - 1 if self._pooling == "lasttoken" else np.zeros_like(lengths)

    def _last_layer(self, frozen_output: Tensor | None, **inputs: Any) -> Tensor:
        """Return the output of the transformer's last layer in float32, whatever the layers compute in."""
        if frozen_output is not None:
            precision = torch.bfloat16 if self._is_rounded else torch.float32
            frozen_output = to_device(frozen_output, self.device).to(precision)
        with self._frozen.given(frozen_output):
            if self._rounded is not None and self._is_rounded:
                output = torch.func.functional_call(self._transformer, self._rounded, (), inputs)
            else:
                output = self._transformer(**inputs)
        hidden: Tensor = output.last_hidden_state
        return hidden.float()
