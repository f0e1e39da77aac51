"""Ask an endpoint that speaks the common chat API (`POST .../chat/completions`)."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Self

from recsys.errors import ConfigurationError, RecsysError
from recsys.settings import SummarySettings

MAX_TOKENS = 120
"""Of an answer."""
_SECONDS = 30.0
"""For a whole answer."""
_BYTES = 64 * 1024


class WriterError(RecsysError):
    """A language model gave no text; the message says why, without addresses and texts."""


class ChatEndpoint:
    """Writes texts with a model behind an endpoint.

    It follows no redirect, because the key and the facts would go where nobody has sent them.

    Raises
    ------
    ConfigurationError
        The key cannot be sent.
    """

    def __init__(self, settings: SummarySettings, *, seconds: float = _SECONDS) -> None:
        key = "" if settings.api_key is None else settings.api_key.get_secret_value().strip()
        if not (key.isascii() and key.isprintable()):
            raise ConfigurationError("RECSYS_SUMMARIES__API_KEY has characters that no header may have")
        self._url = f"{settings.writer.rstrip('/')}/chat/completions"
        self._model = settings.model
        self._seconds = seconds
        self._headers = {
            "Accept-Encoding": "identity",
            **({"Authorization": f"Bearer {key}"} if key else {}),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, messages: Sequence[dict[str, str]]) -> str:
        """Return the answer to the messages of a chat.

        Raises
        ------
        WriterError
            The endpoint does not answer in time, or not with a text.
        """
        return _content(asyncio.run(self._answer(messages)))

    async def _answer(self, messages: Sequence[dict[str, str]]) -> bytes:
        import httpx

        asked = {"model": self._model, "messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0}
        body = bytearray()
        late = f"it does not answer within {self._seconds:g} seconds"
        try:
            # The time-outs of a client are for each read, and an endpoint may send a byte of a header at a
            # time, or "103 Early Hints" for ever.
            async with (
                asyncio.timeout(self._seconds),
                httpx.AsyncClient(headers=self._headers, timeout=None) as client,  # noqa: S113
                client.stream("POST", self._url, json=asked) as response,
            ):
                late = f"its answer takes longer than {self._seconds:g} seconds"
                if response.status_code != httpx.codes.OK:
                    raise WriterError(f"it answers with status {response.status_code}")
                # As it is sent: a small compressed answer may be a large one.
                async for part in response.aiter_raw():
                    body += part
                    if len(body) > _BYTES:
                        raise WriterError(f"its answer is longer than {_BYTES // 1024} KiB")
        except TimeoutError as error:
            raise WriterError(late) from error
        except (httpx.HTTPError, httpx.InvalidURL, ExceptionGroup) as error:  # a group: no such port
            raise WriterError(f"it cannot be reached ({type(error).__name__})") from error
        return bytes(body)


def _content(body: bytes) -> str:
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WriterError("its answer is not JSON") from error
    try:
        content = answer["choices"][0]["message"]["content"]
    except (LookupError, TypeError) as error:
        raise WriterError("its answer has no choices[0].message.content") from error
    if not isinstance(content, str):
        raise WriterError("the content of its answer is no text")
    return content
