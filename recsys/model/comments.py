"""What people write about an item, read as what they think of it: a value and a sentiment.

A linear map on the vector that the frozen base encoder gives a comment. It is learned from comments that
came with an opinion (`recsys.training.comments`) and read where none is given: so a comment alone counts
as a like or a dislike. Texts and vectors of comments stay in memory: nothing here writes or logs them.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.model.base_encoder import EncoderIdentity
from recsys.model.text_encoder import untrained_encoder
from recsys.settings import ModelSettings
from recsys.snapshot.sequences import Sequences


class CommentReader(nn.Module):
    """Predict the scaled value that somebody who writes a comment would give.

    Predictions up to `cuts[0]` are negative, those from `cuts[1]` on positive. A reader that has learned
    nothing has infinite cuts and reads nothing.

    What was learned is kept in buffers: it is fitted before the rest and not moved by its training.
    """

    weight: Tensor
    bias: Tensor
    cuts: Tensor

    def __init__(self, identity: EncoderIdentity, settings: ModelSettings) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(identity.width))
        self.register_buffer("bias", torch.zeros(()))
        self.register_buffer("cuts", torch.tensor([-torch.inf, torch.inf]))
        self.identity = identity
        self.max_tokens = settings.max_comment_tokens

    @property
    def reads(self) -> bool:
        """Whether it has learned to."""
        return bool(self.cuts.isfinite().any())

    def encode(self, texts: list[str]) -> Tensor:
        """Return vectors [texts, width] of unit length; long texts are cut, equal ones encoded once.

        Raises
        ------
        ConfigurationError, CheckpointError
            When the base encoder cannot be found, or is not the one the model was trained with.
        """
        encoder = untrained_encoder(self.identity, self.max_tokens, "comments").to(self.weight.device)
        return nn.functional.normalize(encoder.encode(texts), dim=-1)

    @torch.no_grad()
    def predict(self, texts: list[str]) -> NDArray[np.float32]:
        """Return predicted values [texts], 0 to 1."""
        return (self.encode(texts) @ self.weight + self.bias).clamp(0, 1).cpu().numpy()

    def opinions(self, texts: list[str]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Return predicted values, 0 to 1, and sentiments, -1, 0 or 1, both [texts]."""
        predicted = self.predict(texts)
        low, high = self.cuts.tolist()
        sentiment = np.where(predicted <= low, -1, np.where(predicted >= high, 1, 0)).astype(np.int8)
        return predicted, sentiment

    def read(self, sequences: Sequences) -> Sequences:
        """Return the events with value and sentiment of those that have a comment and no opinion beside it.

        As with any dislike, a negative comment is no target for the next item. Events that are read
        already are left as they are.
        """
        if not self.reads:
            return sequences
        rows = np.flatnonzero(silent(sequences) & (sequences.comment >= 0))
        if not len(rows):
            return sequences
        different, of_row = np.unique(sequences.comment[rows], return_inverse=True)
        opinions = self.opinions(sequences.comments.take(different).to_pylist())
        value, sentiment = sequences.value.copy(), sequences.sentiment.copy()
        value[rows], sentiment[rows] = opinions[0][of_row], opinions[1][of_row]
        weight = np.where(sentiment < 0, 0, sequences.weight).astype(np.float32)
        return replace(sequences, value=value, sentiment=sentiment, weight=weight)


def silent(sequences: Sequences) -> NDArray[np.bool_]:
    """Return [events]: neither value nor sentiment says what the user thinks."""
    neither: NDArray[np.bool_] = np.isnan(sequences.value) & (sequences.sentiment == 0)
    return neither
