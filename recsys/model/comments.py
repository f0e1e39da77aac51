"""Read comments as opinions: predict a value and a sentiment from what people write about an item.

The reader is a linear map on the vector that the frozen base encoder gives a comment. It is trained on
comments that came with an opinion (`recsys.training.comments`) and applied to comments without one, so that
a comment alone counts as a like or a dislike. Comments and their vectors stay in memory: nothing here
writes or logs them.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.model.base_encoder import EncoderIdentity
from recsys.model.text_encoder import TextEncoder
from recsys.model.untrained_encoder import untrained_encoder
from recsys.snapshot.sequences import Sequences

MAX_TOKENS = 64
"""Longer comments are cut, because the time to encode one grows with its length; the figures in
docs/model.md were measured with this limit."""

_MIN_WORDS = 5
"""A shorter comment is read in any language: a few words tell too little about it."""
_MIN_TEXTS = 200
"""With fewer comments it is not known how small words are cut."""
_USUAL_TOKENS = 20
"""Tokens, cut as usual, that a comment has in addition, so that a name does not make it foreign."""
_READ = 0.995
"""Share of the comments that a reader was fitted on whose words are not cut too small."""
_LEAST_FOREIGN = 0.15
"""Share of tokens that continue a word in a foreign comment, however plain the words of the others are."""


class CommentReader(nn.Module):
    """Predict the scaled value that the author of a comment would give.

    The weights are buffers: they are fitted before the other weights, and training the others does not
    change them.

    Attributes
    ----------
    weight, bias
        [width] and scalar of the linear map.
    cuts
        [2] A prediction up to the first cut is negative, from the second cut on positive. An untrained
        reader has infinite cuts and reads nothing.
    pieces
        [2] The usual share of tokens that continue a word, and the share from which on a comment is in a
        language that the encoder does not know; infinite if that is not known.
    """

    weight: Tensor
    bias: Tensor
    cuts: Tensor
    pieces: Tensor

    def __init__(self, identity: EncoderIdentity) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(identity.width))
        self.register_buffer("bias", torch.zeros(()))
        self.register_buffer("cuts", torch.tensor([-torch.inf, torch.inf]))
        self.register_buffer("pieces", torch.tensor([0.0, torch.inf]))
        self.identity = identity

    @property
    def reads(self) -> bool:
        """Whether the reader is trained."""
        return bool(self.cuts.isfinite().any())

    def encode(self, texts: list[str]) -> Tensor:
        """Return vectors [texts, width] of unit length; long texts are cut, equal texts are encoded once.

        Raises
        ------
        ConfigurationError, CheckpointError
            The base encoder cannot be found, or is not the one the model was trained with.
        """
        return nn.functional.normalize(self._encoder().encode(texts), dim=-1)

    def _encoder(self) -> TextEncoder:
        return untrained_encoder(self.identity, MAX_TOKENS, "comments").to(self.weight.device)

    @torch.no_grad()
    def predict(self, texts: list[str]) -> NDArray[np.float32]:
        """Return predicted values [texts], 0 to 1."""
        return (self.encode(texts) @ self.weight + self.bias).clamp(0, 1).cpu().numpy()

    def opinions(self, texts: list[str]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Return predicted values (0 to 1) and sentiments (-1, 0 or 1), both [texts].

        A text that the encoder does not understand, such as emoji or another script or language, has no
        opinion: its value is nan and its sentiment 0.
        """
        is_read = self._encoder().tokens.understands(texts) & ~self._is_foreign(texts)
        predicted = np.where(is_read, self.predict(texts), np.float32(np.nan))
        low, high = self.cuts.tolist()
        sentiment = np.where(predicted <= low, -1, np.where(predicted >= high, 1, 0)).astype(np.int8)
        return predicted, sentiment

    def learn_pieces(self, texts: list[str]) -> None:
        """Learn how small the encoder cuts the words of the comments that the reader is fitted on.

        An encoder cuts the words of a language that it was not made for into small pieces. One that was made
        for many languages cuts some smaller than others and knows them all, so nothing is learned.
        """
        tokens = self._encoder().tokens
        words, pieces = tokens.pieces(texts).T
        long = words >= _MIN_WORDS
        if not tokens.is_of_one_script or long.sum() < _MIN_TEXTS:
            self.pieces.copy_(torch.tensor([0.0, torch.inf]))
            return
        usual = 1 - words.sum() / pieces.sum()
        most = np.quantile(_continued(words[long], pieces[long], usual), _READ)
        self.pieces.copy_(torch.tensor([usual, max(most, _LEAST_FOREIGN)]))

    def _is_foreign(self, texts: list[str]) -> NDArray[np.bool_]:
        """Return whether the words of a text [texts] are cut smaller than those of comments ever are."""
        usual, most = self.pieces.tolist()
        if not np.isfinite(most):
            return np.zeros(len(texts), dtype=bool)
        words, pieces = self._encoder().tokens.pieces(texts).T
        foreign: NDArray[np.bool_] = (words >= _MIN_WORDS) & (_continued(words, pieces, usual) > most)
        return foreign

    def read(self, sequences: Sequences) -> Sequences:
        """Fill in value and sentiment of events that have a comment but no opinion.

        A negative comment is not a target for the next item, like any dislike. Reading twice changes
        nothing.
        """
        if not self.reads:
            return sequences
        rows = np.flatnonzero(without_opinion(sequences) & (sequences.comment >= 0))
        if not len(rows):
            return sequences
        different, of_row = np.unique(sequences.comment[rows], return_inverse=True)
        opinions = self.opinions(sequences.comments.take(different).to_pylist())
        value, sentiment = sequences.value.copy(), sequences.sentiment.copy()
        value[rows], sentiment[rows] = opinions[0][of_row], opinions[1][of_row]
        weight = np.where(sentiment < 0, 0, sequences.weight).astype(np.float32)
        return replace(sequences, value=value, sentiment=sentiment, weight=weight)


def without_opinion(sequences: Sequences) -> NDArray[np.bool_]:
    """Return whether an event [events] has neither a value nor a sentiment."""
    neither: NDArray[np.bool_] = np.isnan(sequences.value) & (sequences.sentiment == 0)
    return neither


def _continued(words: NDArray[np.int64], pieces: NDArray[np.int64], usual: float) -> NDArray[np.float64]:
    """Return the share of tokens that continue a word [texts]; in a short text it is nearer to the usual."""
    share: NDArray[np.float64] = (pieces - words + _USUAL_TOKENS * usual) / (pieces + _USUAL_TOKENS)
    return share
