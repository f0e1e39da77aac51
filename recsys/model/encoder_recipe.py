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
_POOLING: dict[str, Pooling] = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "lasttoken"}
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
    prompts = _read(folder / "config_sentence_transformers.json").get("prompts") or {}
    length = _read(folder / "sentence_bert_config.json").get("max_seq_length")
    left_out = sorted(_module_types(folder) - _APPLIED)
    if left_out:
        logger.warning("the encoder in %s is used without its last layers: %s", folder, ", ".join(left_out))
    return EncoderRecipe(
        pooling=_pooling(folder),
        query=str(prompts.get("query") or ""),
        passage=next((str(prompts[name]) for name in _PASSAGES if prompts.get(name)), ""),
        max_tokens=int(length) if length else None,
    )


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


def _pooling(folder: Path) -> Pooling:
    path = folder / "1_Pooling" / "config.json"
    asked = sorted(
        name.removeprefix("pooling_mode_")
        for name, value in _read(path).items()
        if name.startswith("pooling_mode_") and value is True
    )
    if not asked:
        return "mean"
    if len(asked) > 1 or asked[0] not in _POOLING:
        raise ConfigurationError(
            f"{path} asks for {', '.join(asked)}, and pooling is one of {', '.join(_POOLING)} here: choose "
            "another base encoder with RECSYS_MODEL__BASE_ENCODER"
        )
    return _POOLING[asked[0]]


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
