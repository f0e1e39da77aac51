"""Requests in words: how well each item answers what somebody asks for.

An item answers with its phrases: its title, its description and the values of its attributes, tags among
them. Request and phrases are encoded by the base encoder as it came, so that what it knows of words that no
item has is kept, and vectors of phrases stay what they are while the text encoder is trained.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from recsys.model.base_encoder import EncoderIdentity
from recsys.model.text_encoder import TextEncoder, untrained_encoder
from recsys.settings import ModelSettings
from recsys.snapshot.item_text import item_description
from recsys.snapshot.sequences import Catalogue

SCALE = 5.0
"""Of an untrained matcher: a fitted one on films is near it."""
_BLOCK = 1 << 16


def item_requests(catalogue: Catalogue) -> list[list[str]]:
    """Return for each item the requests that it answers: attributes' values, description and, last, title."""
    result = []
    for title, text, attributes in zip(catalogue.titles, catalogue.texts, catalogue.attributes, strict=True):
        requests = [*phrases(attributes), item_description(text, title, attributes), title]
        result.append([text for text in dict.fromkeys(requests) if text.strip()])
    return result


def phrases(value: object) -> list[str]:
    """Return the texts in an attribute's value, or in all attributes of an item."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple):
        return [text for part in value for text in phrases(part)]
    if isinstance(value, Mapping):
        return [text for part in value.values() for text in phrases(part)]
    return []  # numbers and flags say nothing without their key


class RequestMatcher(nn.Module):
    """Scores items for requests: the logits of a softmax over the catalogue.

    The answer of an item is the sum of its phrases' vectors over the square root of their number: one phrase
    that fits is enough, and many phrases are no merit. A request is turned by a learned matrix, which
    begins at the identity, and multiplied with the answers. So an untrained matcher is a cosine between
    texts, and what is learned (`recsys.training.requests`) is which of the encoder's likenesses matter here.

    Attributes
    ----------
    centre
        [width] mean of the catalogue's phrases, which says nothing of any of them.
    turn
        [width, width] what is learned, less the identity.
    scale
        Of the logits.
    """

    centre: Tensor
    turn: Tensor
    scale: Tensor

    def __init__(self, identity: EncoderIdentity, settings: ModelSettings) -> None:
        super().__init__()
        # Buffers: they are fitted on their own, after the rest, and not moved by its training.
        self.register_buffer("centre", torch.zeros(identity.width))
        self.register_buffer("turn", torch.zeros(identity.width, identity.width))
        self.register_buffer("scale", torch.tensor(SCALE))
        self.identity = identity
        self.max_tokens = settings.max_text_tokens

    def encode_requests(self, requests: list[str]) -> Tensor:
        """Return vectors [requests, width] of what people ask for; nothing of them is written anywhere.

        Raises
        ------
        ConfigurationError, CheckpointError
            When the base encoder cannot be found, or is not the one the model was trained with.
        """
        return self._centred(_unit(self._encoder("requests"), requests))

    def encode_phrases(self, phrases: list[str]) -> Tensor:
        """Return vectors [phrases, width] of what items say; see `encode_requests`."""
        return self._centred(_unit(self._encoder("phrases"), phrases))

    def _encoder(self, purpose: str) -> TextEncoder:
        return untrained_encoder(self.identity, self.max_tokens, purpose).to(self.centre.device)

    def _centred(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors - self.centre, dim=-1)

    @torch.no_grad()
    def centre_on(self, catalogue: Catalogue, cache_folder: Path | None = None) -> None:
        """Take the mean of a catalogue's phrases for the centre; their encoded texts are kept in a folder."""
        phrases = sorted({phrase for own in item_requests(catalogue) for phrase in own})
        if phrases:
            encoder = self._encoder("phrases")
            with encoder.cached_in(cache_folder, phrases):
                self.centre.copy_(_unit(encoder, phrases).mean(0))

    @torch.no_grad()
    def answers(self, catalogue: Catalogue) -> Tensor:
        """Return answers [items, width]; zeros for an item that says nothing."""
        by_item = item_requests(catalogue)
        phrases = sorted({phrase for own in by_item for phrase in own})
        result = torch.zeros(len(catalogue), len(self.centre), device=self.centre.device)
        if not phrases:
            return result
        vectors = self.encode_phrases(phrases)
        row = {phrase: number for number, phrase in enumerate(phrases)}
        counts = torch.tensor([len(own) for own in by_item])
        items = torch.repeat_interleave(torch.arange(len(by_item)), counts).to(result.device)
        of_items = torch.tensor([row[phrase] for own in by_item for phrase in own], device=result.device)
        weights = counts.clamp(min=1).rsqrt().to(result.device)
        for start in range(0, len(items), _BLOCK):
            part = slice(start, start + _BLOCK)
            result.index_add_(0, items[part], vectors[of_items[part]])
        return result * weights[:, None]

    def forward(self, requests: Tensor, answers: Tensor) -> Tensor:
        """Return logits [n, items] of requests [n, width] for answers [items, width]."""
        result: Tensor = self.scale * ((requests + requests @ self.turn) @ answers.T)
        return result


def _unit(encoder: TextEncoder, texts: list[str]) -> Tensor:
    return nn.functional.normalize(encoder.encode(texts), dim=-1)
