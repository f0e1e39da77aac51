"""Match items with requests in natural language.

A request is matched with an item's phrases: its title, its description and the values of its attributes,
including tags. Requests and phrases are encoded by the untrained base encoder. It keeps what it knows about
words that no item has, and the phrases' vectors do not change while the text encoder is trained.
"""

import unicodedata
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from recsys.model.base_encoder import EncoderIdentity
from recsys.model.text_cache import LatestOutputCache, text_digest
from recsys.model.text_encoder import TextEncoder
from recsys.model.untrained_encoder import untrained_encoder
from recsys.settings import ModelSettings
from recsys.snapshot.item_text import item_description
from recsys.snapshot.sequences import Catalogue

SCALE = 5.0
"""Scale of an untrained matcher; on films the fitted scale is close to it."""
_BLOCK_PHRASES = 1 << 16


def item_phrases(catalogue: Catalogue) -> list[list[str]]:
    """Return the phrases of each item: its attributes' values, then its description, then its title."""
    result = []
    for title, text, attributes in zip(catalogue.titles, catalogue.texts, catalogue.attributes, strict=True):
        phrases = [*attribute_phrases(attributes), item_description(text, title, attributes), title]
        result.append([phrase for phrase in dict.fromkeys(phrases) if phrase.strip()])
    return result


def attribute_phrases(value: object) -> list[str]:
    """Return the texts in an attribute's value, or in all attributes of an item."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple):
        return [text for part in value for text in attribute_phrases(part)]
    if isinstance(value, Mapping):
        return [text for part in value.values() for text in attribute_phrases(part)]
    return []  # numbers and flags mean nothing without their key


class RequestMatcher(nn.Module):
    """Score items for requests: the logits of a softmax over the catalogue.

    An item's request vector is the sum of its phrases' vectors divided by the square root of their number.
    One matching phrase is enough, and an item gains nothing by having many phrases. A request's vector is
    multiplied by a learned matrix, which starts as the identity, and then by the items' request vectors.
    An untrained matcher therefore computes cosines between texts. Training (`recsys.training.requests`)
    learns which of the encoder's similarities matter for this catalogue.

    Attributes
    ----------
    centre
        [width] mean vector of the catalogue's phrases. It is subtracted, because what all phrases have in
        common separates none of them.
    turn
        [width, width] the learned matrix minus the identity.
    scale
        Scale of the logits.
    """

    centre: Tensor
    turn: Tensor
    scale: Tensor

    def __init__(self, identity: EncoderIdentity, settings: ModelSettings) -> None:
        super().__init__()
        # Buffers, because they are fitted after the other weights, whose training must not change them.
        self.register_buffer("centre", torch.zeros(identity.width))
        self.register_buffer("turn", torch.zeros(identity.width, identity.width))
        self.register_buffer("scale", torch.tensor(SCALE))
        self.identity = identity
        self.max_tokens = settings.max_text_tokens

    def encode_requests(self, requests: list[str]) -> Tensor:
        """Return the vectors [requests, width] of requests; requests are never written to disk or logs.

        Those of the latest requests are kept in memory, and spaces make no difference.

        Raises
        ------
        ConfigurationError, CheckpointError
            The base encoder cannot be found, or is not the one the model was trained with.
        """
        written = [" ".join(unicodedata.normalize("NFC", request).split()) for request in requests]
        return self._centred(_unit(self._encoder("requests"), written))

    def request_cache(self) -> tuple[int, int]:
        """Return how many requests were found in memory by this process, and how many were encoded."""
        cache = self._encoder("requests").cache
        assert isinstance(cache, LatestOutputCache)
        return cache.hits, cache.misses

    def encode_phrases(self, phrases: list[str]) -> Tensor:
        """Return the vectors [phrases, width] of items' phrases; see `encode_requests`."""
        return self._centred(_unit(self._encoder("phrases"), phrases))

    def _encoder(self, purpose: str) -> TextEncoder:
        return untrained_encoder(self.identity, self.max_tokens, purpose).to(self.centre.device)

    def _centred(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors - self.centre, dim=-1)

    @torch.no_grad()
    def read_catalogue(
        self, catalogue: Catalogue, cache_folder: Path | None = None, texts: TextEncoder | None = None
    ) -> Tensor:
        """Set the centre to the mean of a catalogue's phrases, and return the items' request vectors.

        The processes of a training run call it at the same time and divide the phrases.

        Parameters
        ----------
        cache_folder
            Folder that keeps the encoded phrases.
        texts
            Encoder of the items' texts. If it is not trained, it knows phrases that are a whole text, as the
            titles of items that have nothing else.

        Returns
        -------
        Tensor
            [items, width], as `item_vectors`.
        """
        by_item = item_phrases(catalogue)
        phrases = sorted({phrase for own in by_item for phrase in own})
        if not phrases:
            return torch.zeros(len(catalogue), len(self.centre), device=self.centre.device)
        encoder = self._encoder("phrases")
        with encoder.cached_in(cache_folder, phrases):
            if texts is not None and texts.mode == "frozen":
                encoder.cache.take(map(text_digest, phrases), texts.cache)
            vectors = _unit(encoder, phrases, divided=True)
        self.centre.copy_(vectors.mean(0))
        return _sums(by_item, phrases, self._centred(vectors))

    @torch.no_grad()
    def item_vectors(self, catalogue: Catalogue) -> Tensor:
        """Return the request vectors [items, width] of a catalogue; zeros for an item without phrases."""
        by_item = item_phrases(catalogue)
        phrases = sorted({phrase for own in by_item for phrase in own})
        if not phrases:
            return torch.zeros(len(catalogue), len(self.centre), device=self.centre.device)
        return _sums(by_item, phrases, self.encode_phrases(phrases))

    def forward(self, requests: Tensor, request_vectors: Tensor) -> Tensor:
        """Return logits [n, items] for requests [n, width] and the items' request vectors [items, width]."""
        result: Tensor = self.scale * ((requests + requests @ self.turn) @ request_vectors.T)
        return result


def _unit(encoder: TextEncoder, texts: list[str], *, divided: bool = False) -> Tensor:
    return nn.functional.normalize(encoder.encode(texts, divided=divided), dim=-1)


def _sums(by_item: list[list[str]], phrases: list[str], vectors: Tensor) -> Tensor:
    """Return [items, width]: the sum of each item's vectors of phrases over the root of their number."""
    row = {phrase: number for number, phrase in enumerate(phrases)}
    counts = torch.tensor([len(own) for own in by_item])
    items = torch.repeat_interleave(torch.arange(len(by_item)), counts).to(vectors.device)
    of_items = torch.tensor([row[phrase] for own in by_item for phrase in own], device=vectors.device)
    weights = counts.clamp(min=1).rsqrt().to(vectors.device)
    result = torch.zeros(len(by_item), vectors.shape[1], device=vectors.device)
    for start in range(0, len(items), _BLOCK_PHRASES):
        part = slice(start, start + _BLOCK_PHRASES)
        result.index_add_(0, items[part], vectors[of_items[part]])
    return result * weights[:, None]
