"""Encode texts with a pre-trained transformer; all, some or none of its weights are trained."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.errors import CheckpointError
from recsys.model.base_encoder import (
    BaseEncoder,
    EncoderIdentity,
    check_encoder,
    find_base_encoder,
    load_transformer,
    padding_token,
    transformer_layers,
)
from recsys.model.device import to_device
from recsys.model.packing import packed_attention, packs
from recsys.model.processes import gather_rows, processes
from recsys.model.text_cache import FrozenOutputCache, LatestOutputCache, text_digest
from recsys.model.unknown_tokens import UnknownTokens
from recsys.settings import ModelSettings

TOKENS_PER_BATCH = 2_048
"""Tokens in a batch on a CPU. Larger batches are slower there, because they do not fit in its caches."""
GPU_BATCH_FACTOR = 16
"""How many times more tokens a batch has on a GPU."""
MIN_BATCH = 16
MAX_PADDING = 1.08
"""A batch of at least `MIN_BATCH` texts ends before it computes this many times its real tokens."""
_COMMENT_CACHE_BYTES = 256 << 20
_REQUEST_CACHE_BYTES = 32 << 20
"""Enough for 40,000 requests with vectors of width 384."""
_CACHED_TOKENS = 1 << 24
_TOKENS_PER_CACHED_TEXT = 50
"""Memory of a cached text besides its tokens, counted in tokens."""


class TextEncoder(nn.Module):
    """Any Hugging Face encoder, with prefix and pooling as its recipe says (`recsys.model.encoder_recipe`).

    `settings.fine_tuning` selects what is trained: nothing (`frozen`), the last
    `settings.trainable_top_layers` layers (`top_layers`), low-rank adapters (`lora`) or all weights (`full`).
    With `frozen` and `top_layers`, the outputs of the frozen layers are cached by content hash, so that each
    text passes through them once (the idea of IISAN, Fu et al., 2024).

    The transformer stays in evaluation mode while training: one step mixes vectors with and without gradient,
    and both must be computed alike.

    On a GPU the pass with gradient runs in bfloat16, from weights that stay in float32, and without padding
    if the model allows it (`recsys.model.packing`). Everything else is in float32.

    Attributes
    ----------
    width
        Length of a text's vector.
    useful_tokens, computed_tokens
        Tokens passed through the transformer so far, without and with padding.
    frozen_tokens
        Tokens passed through the frozen layers so far, because their outputs were not cached.
    """

    def __init__(
        self,
        base: BaseEncoder,
        settings: ModelSettings,
        cache: FrozenOutputCache | None = None,
        *,
        queries: bool = False,
    ) -> None:
        super().__init__()
        self.base = base
        self.prefix = base.recipe.query if queries else base.recipe.passage
        self.mode = settings.fine_tuning
        self.cache = FrozenOutputCache() if cache is None else cache  # an empty one is false
        self.useful_tokens = 0
        self.computed_tokens = 0
        self.frozen_tokens = 0
        self._tokenizer, self.transformer = load_transformer(base)
        self._unknown = UnknownTokens(self._tokenizer, base.name)
        config = self.transformer.config
        limit = getattr(config, "max_position_embeddings", None) or settings.max_text_tokens
        # RoBERTa-like models reserve two positions for padding.
        self.max_tokens = min(settings.max_text_tokens, int(limit) - 2 if limit > 4 else int(limit))
        if base.recipe.max_tokens is not None:
            self.max_tokens = min(self.max_tokens, base.recipe.max_tokens)
        self._pad = padding_token(self._tokenizer)
        self.transformer.requires_grad_(False)
        self.layers = transformer_layers(self.transformer)
        self._frozen_layers = self._choose_trained(settings)
        self._resume: Tensor | None = None
        self._captured: Tensor | None = None
        self._in_tuple = False
        self._compiled = False
        self._rounded: dict[str, Tensor] | None = None
        self._cached_tokens: dict[str, NDArray[np.int32]] = {}
        self._token_budget = _CACHED_TOKENS
        for number, layer in enumerate(self.layers[: self._frozen_layers]):
            layer.forward = partial(self._frozen_layer, layer.forward, number)
        self.eval()
        with torch.no_grad():
            self.width = int(self._pool([np.array([self._pad], dtype=np.int32)]).shape[-1])

    def _choose_trained(self, settings: ModelSettings) -> int:
        """Mark the weights that are trained and return the number of frozen first layers."""
        if self.mode == "frozen":
            return len(self.layers)
        if self.mode == "full":
            self.transformer.requires_grad_(True)
            return 0
        if self.mode == "lora":
            import peft

            adapters = peft.LoraConfig(
                r=settings.lora_rank,
                lora_alpha=2 * settings.lora_rank,
                lora_dropout=0.0,
                target_modules="all-linear",
            )
            peft.inject_adapter_in_model(adapters, self.transformer)
            return 0
        top = min(settings.trainable_top_layers, len(self.layers))
        for layer in self.layers[len(self.layers) - top :]:
            layer.requires_grad_(True)
        return len(self.layers) - top

    def _frozen_layer(
        self, original: Callable[..., Any], number: int, hidden: Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        """Replace a frozen layer: pass cached outputs through, or run the layer and capture its output.

        The rest of the model runs unchanged, so that its own code computes masks and position biases.
        """
        if self._resume is not None:
            return (self._resume,) if self._in_tuple else self._resume
        output = original(hidden, *args, **kwargs)
        if number == self._frozen_layers - 1:
            self._in_tuple = isinstance(output, tuple)
            self._captured = output[0] if self._in_tuple else output
        return output

    def train(self, mode: bool = True) -> "TextEncoder":
        """Set the mode; the transformer stays in evaluation mode (see the class)."""
        super().train(mode)
        self.transformer.eval()
        return self

    @contextmanager
    def cached_in(self, folder: Path | None, texts: Sequence[str]) -> Iterator[None]:
        """Read the frozen outputs of these texts from a folder, and write new outputs at the end."""
        if folder is None or not self.caches:
            yield
            return
        name = f"{self.base.sha256[:16]}-{self._frozen_layers}-{self.max_tokens}"
        digests = [text_digest(text) for text in texts]
        # Each process of a training run writes the outputs that it knows, and reads those of all.
        for file in sorted(folder.glob(f"{name}*.safetensors")):
            self.cache.load(file, digests)
        before = len(self.cache)
        yield
        if len(self.cache) > before:
            rank, _ = processes()
            self.cache.save(folder / (f"{name}-{rank}.safetensors" if rank else f"{name}.safetensors"))

    @property
    def caches(self) -> bool:
        """Whether there are frozen layers, whose outputs are cached."""
        return self._frozen_layers > 0

    def trained_state(self) -> dict[str, Tensor]:
        """Return the trained weights, which differ from the base encoder's."""
        return {n: p.detach() for n, p in self.transformer.named_parameters() if p.requires_grad}

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Load weights that `trained_state` returned.

        Raises
        ------
        CheckpointError
            The weights belong to another fine-tuning mode or another encoder.
        """
        own = {n: p for n, p in self.transformer.named_parameters() if p.requires_grad}
        if own.keys() != state.keys() or any(own[n].shape != state[n].shape for n in own):
            raise CheckpointError(
                f"the checkpoint has {len(state)} text weights, which do not fit the {len(own)} weights that "
                f"the mode {self.mode!r} trains in {self.base.name!r}"
            )
        with torch.no_grad():
            for name, value in state.items():
                own[name].copy_(value)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts; long texts are cut, and an empty text is one padding token."""
        if not texts:
            return []
        clean = [self.prefix + text.encode("utf-8", "replace").decode() for text in texts]
        ids = self._tokenizer(
            clean, truncation=True, max_length=self.max_tokens, padding=False, return_attention_mask=False
        )["input_ids"]
        rows = [list(row) or [self._pad] for row in ids]
        self._unknown.count(rows)
        return rows

    def understands(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Return whether each text [texts] has words, and the tokenizer knows half of its tokens or more.

        Vectors of other texts say nothing: all emoji, or all of a script, may be the same unknown token.
        """
        if not texts:
            return np.zeros(0, dtype=bool)
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        rows = self._tokenizer(
            clean,
            truncation=True,
            max_length=self.max_tokens,
            add_special_tokens=False,
            return_attention_mask=False,
        )["input_ids"]
        return np.array([len(row) > 0 and 2 * self._unknown.among(row) <= len(row) for row in rows])

    def compile_layers(self) -> None:
        """Compile the trained layers when the first gradient is computed; this takes about a minute."""
        self._compiled = True
        for layer in self.layers[self._frozen_layers :]:
            layer.compile(dynamic=True)

    @torch.no_grad()
    def encode(
        self,
        texts: Sequence[str],
        progress: Callable[[int, int], None] | None = None,
        *,
        divided: bool = False,
    ) -> Tensor:
        """Return vectors [texts, width] without gradient; equal texts are encoded once.

        Parameters
        ----------
        progress
            Called with the number of texts encoded so far and their total number.
        divided
            All processes of a training run call this at the same time with the same texts: each encodes a
            part, and all get all vectors.
        """
        # Only the pass with gradient uses compiled layers; a second compilation would not pay off.
        with torch.compiler.set_stance("force_eager") if self._compiled else nullcontext():
            return self._encode(texts, progress, divided)

    def encode_with_gradient(self, texts: Sequence[str], *, divided: bool = False) -> Tensor:
        """Return vectors [texts, width] with gradients for the trained weights.

        Parameters
        ----------
        divided
            As in `encode`; the gradients return to the process that encoded a text.
        """
        if self.device.type == "cpu":
            return self._encode(texts, None, divided)
        self._rounded = {n: p.to(torch.bfloat16) for n, p in self.transformer.named_parameters()}
        try:
            return self._encode(texts, None, divided)
        finally:
            self._rounded = None

    def _encode(
        self, texts: Sequence[str], progress: Callable[[int, int], None] | None, divided: bool
    ) -> Tensor:
        if not texts:
            return torch.zeros(0, self.width, device=self.device)
        places: dict[str, int] = {}
        rows = [places.setdefault(text_digest(text), len(places)) for text in texts]
        first = dict(zip(reversed(rows), range(len(rows) - 1, -1, -1), strict=True))
        digests = list(places)
        unique = [texts[first[place]] for place in range(len(digests))]
        if divided and len(digests) >= processes()[1] > 1:
            vectors = self._encode_part(digests, unique, progress)
        else:
            vectors = self._encode_unique(digests, unique, progress)
        return vectors.index_select(0, to_device(torch.tensor(rows), self.device))

    def _encode_part(
        self, digests: list[str], texts: list[str], progress: Callable[[int, int], None] | None
    ) -> Tensor:
        """Encode every n-th text by length, so that all processes have as much to do, and gather all."""
        rank, world = processes()
        order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), digests[i]))
        own = order[rank::world]
        part = self._encode_unique([digests[i] for i in own], [texts[i] for i in own], progress)
        gathered = gather_rows(part, len(order))
        if self.mode == "frozen":
            for i, vector in zip(order, gathered.detach().cpu(), strict=True):
                self.cache.put(digests[i], vector[None])
        place = torch.empty(len(order), dtype=torch.long)
        place[torch.tensor(order)] = torch.arange(len(order))
        return gathered.index_select(0, to_device(place, self.device))

    def _encode_unique(
        self, digests: list[str], texts: list[str], progress: Callable[[int, int], None] | None
    ) -> Tensor:
        tokens = self._tokens(digests, texts)
        parts: list[Tensor] = []
        order: list[int] = []
        for batch in self._batches([len(ids) for ids in tokens]):
            parts.append(self._encode_batch([digests[i] for i in batch], [tokens[i] for i in batch]))
            order += batch
            if progress is not None:
                progress(len(order), len(digests))
        place = torch.empty(len(order), dtype=torch.long)
        place[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(parts).index_select(0, to_device(place, self.device))

    def _tokens(self, digests: list[str], texts: list[str]) -> list[NDArray[np.int32]]:
        """Return token ids; cached if the encoder is trained, because texts then come more than once."""
        found = [self._cached_tokens.get(digest) for digest in digests]
        missing = [i for i, ids in enumerate(found) if ids is None]
        for i, ids in zip(missing, self.tokenize([texts[i] for i in missing]), strict=True):
            array = found[i] = np.array(ids, dtype=np.int32)
            size = len(array) + _TOKENS_PER_CACHED_TEXT
            if self.mode != "frozen" and size <= self._token_budget:
                self._cached_tokens[digests[i]] = array
                self._token_budget -= size
        return [ids for ids in found if ids is not None]

    @property
    def _packs(self) -> bool:
        """Whether the current pass packs texts without padding."""
        return self._rounded is not None and torch.is_grad_enabled() and packs(self.transformer)

    def _batches(self, lengths: list[int]) -> Iterator[list[int]]:
        """Yield batches of texts of similar length, with limited tokens and limited padding."""
        budget = TOKENS_PER_BATCH * (1 if self.device.type == "cpu" else GPU_BATCH_FACTOR)
        packed = self._packs
        batch: list[int] = []
        useful = 0
        for i in sorted(range(len(lengths)), key=lengths.__getitem__):
            computed = useful + lengths[i] if packed else (len(batch) + 1) * lengths[i]
            wasteful = len(batch) >= MIN_BATCH and computed > MAX_PADDING * (useful + lengths[i])
            if batch and (computed > budget or wasteful):
                yield batch
                batch, useful = [], 0
            batch.append(i)
            useful += lengths[i]
        if batch:
            yield batch

    def _encode_batch(self, digests: list[str], tokens: list[NDArray[np.int32]]) -> Tensor:
        """Return pooled vectors [batch, width], using cached outputs of the frozen layers."""
        if not self.caches:
            return self._pool(tokens)
        cached = [self.cache.get(digest) for digest in digests]
        missing = [i for i, output in enumerate(cached) if output is None]
        whole = self.mode == "frozen"
        if missing:
            self.frozen_tokens += sum(len(tokens[i]) for i in missing)
            with torch.no_grad():
                pooled = self._pool([tokens[i] for i in missing])
            # One copy from the GPU for the whole batch. New outputs are rounded like cached ones.
            outputs = (pooled[:, None] if whole else self._captured_layer()).to("cpu", torch.float16)
            for row, i in enumerate(missing):
                output = cached[i] = outputs[row, : 1 if whole else len(tokens[i])].clone()
                self.cache.put(digests[i], output)
            self._captured = None
        found = [output for output in cached if output is not None]
        if whole:
            return torch.cat(found).to(self.device, torch.float32)
        return self._pool(tokens, found)

    def _captured_layer(self) -> Tensor:
        assert self._captured is not None
        return self._captured.detach()

    def _pool(self, tokens: list[NDArray[np.int32]], frozen_outputs: list[Tensor] | None = None) -> Tensor:
        """Run the transformer on a batch and pool its last layer over each text's tokens."""
        lengths = np.array([len(ids) for ids in tokens])
        self.useful_tokens += int(lengths.sum())
        if self._packs:
            return self._pool_packed(tokens, lengths, frozen_outputs)
        ids = np.full((len(tokens), lengths.max()), self._pad, dtype=np.int64)
        mask = np.arange(ids.shape[1])[None, :] < lengths[:, None]
        ids[mask] = np.concatenate(tokens)
        self.computed_tokens += ids.size
        if frozen_outputs is not None:
            self._resume = self._moved(nn.utils.rnn.pad_sequence(frozen_outputs, batch_first=True))
        real = to_device(mask, self.device)
        hidden = self._run(input_ids=to_device(ids, self.device), attention_mask=real.long())
        if self.base.recipe.pooling != "mean":
            place = to_device(self._chosen_token(lengths), self.device)
            return hidden[torch.arange(len(tokens), device=self.device), place]
        weights = real.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1)

    def _pool_packed(
        self,
        tokens: list[NDArray[np.int32]],
        lengths: NDArray[np.int64],
        frozen_outputs: list[Tensor] | None,
    ) -> Tensor:
        """Do the same as `_pool` with packed texts."""
        self.computed_tokens += int(lengths.sum())
        if frozen_outputs is not None:
            self._resume = self._moved(torch.cat(frozen_outputs)[None])
        ids = to_device(np.concatenate(tokens).astype(np.int64), self.device)
        with packed_attention(self.transformer, lengths, self.max_tokens) as arguments:
            hidden = self._run(input_ids=ids[None], **arguments)
        if self.base.recipe.pooling != "mean":
            place = lengths.cumsum() - lengths + self._chosen_token(lengths)
            return hidden[0].index_select(0, to_device(place, self.device))
        owner = to_device(np.repeat(np.arange(len(lengths)), lengths), self.device)
        sums = hidden.new_zeros(len(lengths), hidden.shape[-1]).index_add(0, owner, hidden[0])
        return sums / to_device(lengths.astype(np.float32), self.device)[:, None]

    def _chosen_token(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the place [texts] of the token whose vector is the text's, where pooling is not a mean."""
        return lengths - 1 if self.base.recipe.pooling == "lasttoken" else np.zeros_like(lengths)

    def _moved(self, outputs: Tensor) -> Tensor:
        """Copy frozen outputs to the device, in the number format of the layers that follow."""
        half = self._rounded is not None and torch.is_grad_enabled()
        return to_device(outputs, self.device).to(torch.bfloat16 if half else torch.float32)

    def _run(self, **inputs: Any) -> Tensor:
        """Return the output of the transformer's last layer in float32."""
        try:
            if self._rounded is not None and torch.is_grad_enabled():
                output = torch.func.functional_call(self.transformer, self._rounded, (), inputs)
            else:
                output = self.transformer(**inputs)
        finally:
            self._resume = None
        hidden: Tensor = output.last_hidden_state
        return hidden.float()

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        device: torch.device = next(self.transformer.parameters()).device
        return device


@lru_cache(maxsize=4)
def untrained_encoder(identity: EncoderIdentity, max_tokens: int, purpose: str) -> TextEncoder:
    """Load the untrained base encoder, once per process for all models that use it.

    Comments and requests are always read with the untrained encoder, so that what was learned about them
    stays valid while the text encoder is trained. Each purpose has a separate cache, because vectors of
    comments must never be in a cache that is written to disk.
    """
    base = find_base_encoder(identity.name)
    check_encoder(identity, base.sha256)
    settings = ModelSettings(base_encoder=identity.name, fine_tuning="frozen", max_text_tokens=max_tokens)
    if purpose == "requests":
        cache: FrozenOutputCache = LatestOutputCache(_REQUEST_CACHE_BYTES)
    elif purpose == "comments":
        cache = FrozenOutputCache(_COMMENT_CACHE_BYTES)
    else:
        cache = FrozenOutputCache()
    return TextEncoder(base, settings, cache, queries=purpose in ("requests", "comments"))
