"""Encode texts with a pre-trained transformer; all, some or none of its weights are trained."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.errors import CheckpointError, ConfigurationError
from recsys.model.base_encoder import BaseEncoder, load_transformer, transformer_layers
from recsys.model.device import to_device
from recsys.model.fine_tuning import FrozenLayers, choose_trained
from recsys.model.pooled_transformer import PooledTransformer
from recsys.model.processes import gather_rows, processes
from recsys.model.text_cache import FrozenOutputCache, text_digest
from recsys.model.text_tokens import TextTokens
from recsys.settings import ModelSettings

TOKENS_PER_BATCH = 2_048
"""Tokens in a batch on a CPU. Larger batches are slower there, because they do not fit in its caches."""
GPU_BATCH_FACTOR = 16
"""How many times more tokens a batch has on a GPU."""
MIN_BATCH = 16
MAX_PADDING = 1.08
"""A batch of at least `MIN_BATCH` texts ends before it computes this many times its real tokens."""
_TRIED_OUT = 8
"""Tokens of the text with which a model is tried out."""


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
    tokens
        Turns texts into tokens.
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
        self.mode = settings.fine_tuning
        self.cache = FrozenOutputCache() if cache is None else cache  # an empty one is false
        self.frozen_tokens = 0
        tokenizer, self.transformer = load_transformer(base)
        positions = getattr(self.transformer.config, "max_position_embeddings", None)
        self.tokens = TextTokens(base, tokenizer, positions, settings, queries=queries)
        self.layers = transformer_layers(self.transformer)
        self._frozen = FrozenLayers(self.layers, choose_trained(self.transformer, self.layers, settings))
        self._pooled = PooledTransformer(self.transformer, self._frozen, self.tokens, base.recipe.pooling)
        self._compiled = False
        self.eval()
        self.width = self._try_out()

    @torch.no_grad()
    def _try_out(self) -> int:
        """Return the length of a text's vector, and refuse a model that cannot go on from frozen outputs."""
        length = min(_TRIED_OUT, self.tokens.max_tokens, len(self.tokens.tokenizer))
        words = [np.arange(length, dtype=np.int32)]
        vectors = self._pooled(words)
        if 0 < self._frozen.number < len(self.layers):
            frozen = [self._frozen.take()[0]]
            try:
                is_same = torch.allclose(self._pooled(words, frozen), vectors, atol=1e-5, equal_nan=True)
            except Exception as error:  # whatever the code of the model leads to
                raise self._needs_all_layers() from error
            if not is_same:
                raise self._needs_all_layers()
        return int(vectors.shape[-1])

    def _needs_all_layers(self) -> ConfigurationError:
        return ConfigurationError(
            f"the base encoder {self.base.name!r} ({type(self.transformer).__name__}) cannot be trained in "
            "its top layers only, because they need more of the frozen layers than their output, as in T5: "
            "set RECSYS_MODEL__FINE_TUNING to frozen, lora or full, or RECSYS_MODEL__BASE_ENCODER to another "
            "encoder"
        )

    @property
    def useful_tokens(self) -> int:
        """Tokens passed through the transformer so far, without padding."""
        return self._pooled.useful_tokens

    @property
    def computed_tokens(self) -> int:
        """Tokens passed through the transformer so far, with padding."""
        return self._pooled.computed_tokens

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
        name = f"{self.base.sha256[:16]}-{self._frozen.number}-{self.tokens.max_tokens}"
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
        return self._frozen.number > 0

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

    def compile_layers(self) -> None:
        """Compile the trained layers when the first gradient is computed; this takes about a minute."""
        self._compiled = True
        for layer in self.layers[self._frozen.number :]:
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
        with self._pooled.in_bfloat16():
            return self._encode(texts, None, divided)

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
        tokens = self.tokens.cached(digests, texts)
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

    def _batches(self, lengths: list[int]) -> Iterator[list[int]]:
        """Yield batches of texts of similar length, with limited tokens and limited padding."""
        budget = TOKENS_PER_BATCH * (1 if self.device.type == "cpu" else GPU_BATCH_FACTOR)
        packed = self._pooled.packs
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
            return self._pooled(tokens)
        cached = [self.cache.get(digest) for digest in digests]
        missing = [i for i, output in enumerate(cached) if output is None]
        whole = self.mode == "frozen"
        if missing:
            self.frozen_tokens += sum(len(tokens[i]) for i in missing)
            with torch.no_grad():
                pooled = self._pooled([tokens[i] for i in missing])
            captured = self._frozen.take()
            # One copy from the GPU for the whole batch. New outputs are rounded like cached ones.
            outputs = (pooled[:, None] if whole else captured).to("cpu", torch.float16)
            for row, i in enumerate(missing):
                output = cached[i] = outputs[row, : 1 if whole else len(tokens[i])].clone()
                self.cache.put(digests[i], output)
        found = [output for output in cached if output is not None]
        if whole:
            return torch.cat(found).to(self.device, torch.float32)
        return self._pooled(tokens, found)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self._pooled.device
