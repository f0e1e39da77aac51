"""How a pre-trained encoder wants its texts: prefixes, pooling and length.

An encoder that was trained with `query: ` before each question answers worse without it, and one whose
vector is that of the first token is wrong as a mean. Models on the hub say both in the files of
sentence-transformers: `modules.json`, `1_Pooling/config.json`, `config_sentence_transformers.json` and
`sentence_bert_config.json`. A folder without them has a mean and no prefixes. Vectors of unit length are not
asked for: whatever reads them here scales them itself.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recsys.errors import ConfigurationError

logger = logging.getLogger(__name__)

Pooling = Literal["mean", "cls", "lasttoken"]
_APPLIED = {"Transformer", "Pooling", "Normalize"}
_POOLING: dict[str, Pooling] = {
    "mean": "mean",
    "mean_tokens": "mean",
    "cls": "cls",
    "cls_token": "cls",
    "lasttoken": "lasttoken",
}
"""What versions of sentence-transformers call the poolings that are offered."""
_SHORTEST = 3
"""Tokens of the shortest text: two of them mark its ends."""
_PASSAGES = ("passage", "document")
"""Names under which models say what they want before a text that is searched."""


@dataclass(frozen=True)
class EncoderRecipe:
    """How an encoder wants its texts.

    Attributes
    ----------
    pooling
        What becomes of the vectors of a text's tokens: their mean, the first one (`cls`) or the last one.
    query
        What stands before a request or a comment.
    passage
        What stands before an item's text.
    max_tokens
        Longest text that the encoder was made for; None: what its positions allow.
    """

    pooling: Pooling = "mean"
    query: str = ""
    passage: str = ""
    max_tokens: int | None = None

    @property
    def changes_vectors(self) -> bool:
        """Whether the vectors differ from those of a mean without prefixes."""
        return (self.pooling, self.query, self.passage) != ("mean", "", "")


def read_recipe(folder: Path) -> EncoderRecipe:
    """Read the recipe of the encoder in a folder.

    Raises
    ------
    ConfigurationError
        A file is no JSON object, or asks for a pooling that is not offered.
    """
    path = folder / "config_sentence_transformers.json"
    prompts = _read(path).get("prompts") or {}
    if not isinstance(prompts, dict):
        raise ConfigurationError(f"the prompts in {path} are no object; download the encoder again")
    query = str(prompts.get("query") or "")
    passage = next((str(prompts[name]) for name in _PASSAGES if prompts.get(name)), "")
    left_out = sorted(_module_types(folder) - _APPLIED)
    if left_out:
        logger.warning("the encoder in %s is used without its last layers: %s", folder, ", ".join(left_out))
    return EncoderRecipe(
        pooling=_pooling(folder, has_prompts=bool(query or passage)),
        query=query,
        passage=passage,
        max_tokens=_length(folder),
    )


def _length(folder: Path) -> int | None:
    path = folder / "sentence_bert_config.json"
    length = _read(path).get("max_seq_length")
    if length is None:
        return None
    if not isinstance(length, int) or length < _SHORTEST:
        raise ConfigurationError(
            f"max_seq_length in {path} is {length!r}, and must be a whole number from {_SHORTEST} on"
        )
    return length


def _module_types(folder: Path) -> set[str]:
    path = folder / "modules.json"
    if not path.is_file():
        return set()
    try:
        return {str(module["type"]).rsplit(".", 1)[-1] for module in json.loads(path.read_text("utf-8"))}
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(
            f"{path} is no list of modules: {error}; download the encoder again"
        ) from error


def _pooling(folder: Path, *, has_prompts: bool) -> Pooling:
    path = folder / "1_Pooling" / "config.json"
    config = _read(path)
    mode = config.get("pooling_mode")  # how newer versions of sentence-transformers write it
    if mode is None:
        asked = [
            name.removeprefix("pooling_mode_")
            for name, value in config.items()
            if name.startswith("pooling_mode_") and value is True
        ]
    else:
        asked = [str(name) for name in (mode if isinstance(mode, list) else [mode])]
    offered = ", ".join(sorted(set(_POOLING.values())))
    if len(asked) > 1 or not _POOLING.keys() >= set(asked):
        raise ConfigurationError(
            f"{path} asks for {', '.join(sorted(asked))}, and pooling is one of {offered} here: choose "
            "another base encoder with RECSYS_MODEL__BASE_ENCODER"
        )
    if has_prompts and config.get("include_prompt") is False:
        raise ConfigurationError(
            f"{path} asks for pooling without the prompts, which is not offered here: choose another base "
            "encoder with RECSYS_MODEL__BASE_ENCODER"
        )
    return _POOLING[asked[0]] if asked else "mean"


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ConfigurationError(f"{path} is no JSON: {error}; download the encoder again") from error
    if not isinstance(value, dict):
        raise ConfigurationError(f"{path} holds no object; download the encoder again")
    return value
