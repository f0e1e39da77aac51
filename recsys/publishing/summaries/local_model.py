"""Write texts with a causal language model from a folder or from a GGUF file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from recsys.errors import ConfigurationError
from recsys.publishing.summaries.chat import MAX_TOKENS, WriterError

_SECONDS = 60.0
"""For a whole text."""
_CONTEXT = 2_048
"""Tokens of the longest question."""


class LocalModel:
    """A causal model in this process, on the CPU.

    Only safetensors and GGUF are read: no pickle, and no code that comes with a model.

    Raises
    ------
    ConfigurationError
        There is no such model, or its weights are in another format.
    """

    def __init__(self, path: Path) -> None:
        import transformers

        folder, file = (path.parent, path.name) if path.suffix == ".gguf" else (path, None)
        if not (path.is_file() if file else any(path.glob("*.safetensors"))):
            raise ConfigurationError(
                f"RECSYS_SUMMARIES__WRITER={path} is neither a GGUF file nor a folder with safetensors; "
                "weights that are pickled are not read"
            )
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        if file:
            options["gguf_file"] = file
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
            model, loaded = transformers.AutoModelForCausalLM.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, **options
            )
        except Exception as error:  # of transformers, safetensors, or whatever a broken file leads to
            if file and isinstance(error, ImportError):
                raise ConfigurationError("GGUF files need the package gguf: install recsys[gguf]") from error
            raise ConfigurationError(
                f"the causal language model in {path} cannot be loaded: {error}"
            ) from error
        missing = sorted(loaded["missing_keys"])
        if missing:
            raise ConfigurationError(
                f"the causal language model in {path} lacks {len(missing)} of its weights, such as "
                f"{missing[0]}: its files belong to another model, or not all are there"
            )
        self._model: Any = model.eval()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, messages: Sequence[dict[str, str]]) -> str:
        """Return the answer to the messages of a chat, the most likely token at each place.

        Raises
        ------
        WriterError
            The question is too long for the model, or the model cannot answer it.
        """
        try:
            return self._answer(messages)
        except WriterError:
            raise
        except Exception as error:  # templates and generation raise errors of several libraries
            raise WriterError(f"it cannot answer ({type(error).__name__})") from error

    def _answer(self, messages: Sequence[dict[str, str]]) -> str:
        import torch

        ids = self._tokens(messages)
        if ids.shape[1] > _CONTEXT:
            raise WriterError(f"the question has {ids.shape[1]} tokens, more than {_CONTEXT}")
        with torch.inference_mode():
            output = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=MAX_TOKENS,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                max_time=_SECONDS,
                pad_token_id=self._tokenizer.eos_token_id,
            )
        answer: str = self._tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
        return answer.strip()

    def _tokens(self, messages: Sequence[dict[str, str]]) -> Any:
        if self._tokenizer.chat_template:
            asked = self._templated(messages)
        else:
            asked = "\n\n".join(message["content"] for message in messages) + "\n\n"
        return self._tokenizer(asked, return_tensors="pt", add_special_tokens=False)["input_ids"]

    def _templated(self, messages: Sequence[dict[str, str]]) -> Any:
        import jinja2

        options = {"add_generation_prompt": True, "tokenize": False}
        try:
            return self._tokenizer.apply_chat_template(list(messages), **options)
        except jinja2.TemplateError:
            # Templates of some models know no message of the system; there it begins the first question.
            system, question, *others = messages
            both = f"{system['content']}\n\n{question['content']}"
            return self._tokenizer.apply_chat_template([question | {"content": both}, *others], **options)
