"""Texts from a causal language model in a folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from recsys.errors import ConfigurationError
from recsys.publishing.summaries.chat import WriterError
from recsys.publishing.summaries.local_model import LocalModel
from recsys.publishing.summaries.renew import open_writer
from recsys.settings import SummarySettings

WORDS = ["<unk>", "<end>", "you", "liked", "Heat", "Ronin", "name", "a", "film"]
TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
ASKED = [{"role": "system", "content": "name a film"}, {"role": "user", "content": "you liked Heat"}]


def write_model(folder: Path, *, chat: bool = True) -> Path:
    """Write a causal model with random weights."""
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        eos_token="<end>",
    )
    tokenizer.chat_template = TEMPLATE if chat else None
    tokenizer.save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=len(WORDS), hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("chat", [True, False])
def test_a_causal_model_from_a_folder_answers_the_same_each_time(tmp_path: Path, chat: bool) -> None:
    settings = SummarySettings(writer=str(write_model(tmp_path, chat=chat)), model="tiny", licence="MIT")
    with open_writer(settings) as writer:
        answers = {writer.write(ASKED) for _ in range(2)}
        assert len(answers) == 1
        assert set(answers.pop().split()) <= set(WORDS)
        with pytest.raises(WriterError, match="5000 tokens"):
            writer.write([{"role": "user", "content": "film " * 5000}])


def test_a_gguf_file_is_read_as_one_and_its_package_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "folder")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    asked = []

    def loads(kind: type) -> None:
        real = kind.from_pretrained

        def load(folder: Path, **options: Any) -> Any:
            asked.append((folder, options.pop("gguf_file"), options["trust_remote_code"]))
            return real(folder / "folder", **options)

        monkeypatch.setattr(kind, "from_pretrained", load)

    loads(transformers.AutoTokenizer)
    loads(transformers.AutoModelForCausalLM)
    assert set(LocalModel(tmp_path / "model.gguf").write(ASKED).split()) <= set(WORDS)
    assert asked == [(tmp_path, "model.gguf", False)] * 2

    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("gguf")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", missing)
    with pytest.raises(ConfigurationError, match=r"install recsys\[gguf\]"):
        LocalModel(tmp_path / "model.gguf")


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_template_that_knows_no_system_gets_its_message_with_the_first_question(tmp_path: Path) -> None:
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    write_model(tmp_path / "knows")
    write_model(tmp_path / "refuses")
    (tmp_path / "refuses" / "chat_template.jinja").write_text(refuses + TEMPLATE)
    knows, refusing = (LocalModel(tmp_path / name) for name in ("knows", "refuses"))
    assert refusing._tokens(ASKED).tolist() == knows._tokens(ASKED).tolist()


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("chat_template.jinja", None),
        ("config.json", {"vocab_size": 4}),  # the tokenizer has more words than the model
    ],
)
def test_a_model_that_cannot_answer_is_a_failure_like_any_other(
    tmp_path: Path, file: str, values: dict[str, Any] | None
) -> None:
    write_model(tmp_path)
    if values is None:
        (tmp_path / file).write_text("{{ messages[0].nothing.at_all }}")
    else:
        change(tmp_path / file, **values)
        config = transformers.LlamaConfig.from_pretrained(tmp_path)
        transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(WriterError, match="it cannot answer") as failed:
        LocalModel(tmp_path).write(ASKED)
    assert "Heat" not in str(failed.value)


def test_weights_are_never_made_up(tmp_path: Path) -> None:
    write_model(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    save_file({f"module.{name}": weight for name, weight in weights.items()}, file, {"format": "pt"})
    with pytest.raises(ConfigurationError, match=r"lacks \d+ of its weights"):
        LocalModel(tmp_path)
    save_file(
        {name: weight[..., :4].contiguous() for name, weight in weights.items()}, file, {"format": "pt"}
    )
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        LocalModel(tmp_path)


def test_pickled_weights_and_what_is_no_model_are_refused(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "model.gguf"):
        with pytest.raises(ConfigurationError, match="pickled are not read"):
            LocalModel(path)
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        LocalModel(tmp_path)
