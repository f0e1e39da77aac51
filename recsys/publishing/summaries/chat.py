"""Ask an endpoint that speaks the common chat API (`POST .../chat/completions`)."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from recsys.errors import RecsysError
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

    Parameters
    ----------
    clock
        Seconds that only grow.
    """

    def __init__(
        self,
        settings: SummarySettings,
        *,
        seconds: float = _SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        import httpx

        key = settings.api_key
        self._url = f"{settings.writer.rstrip('/')}/chat/completions"
        self._model = settings.model
        self._seconds = seconds
        self._clock = clock
        self._client = httpx.Client(
            headers={
                "Accept-Encoding": "identity",
                **({} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}),
            },
            timeout=seconds,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def write(self, messages: Sequence[dict[str, str]]) -> str:
        """Return the answer to the messages of a chat.

        Raises
        ------
        WriterError
            The endpoint does not answer in time, or not with a text.
        """
        import httpx

        asked = {"model": self._model, "messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0}
        started = self._clock()
        body = bytearray()
        try:
            with self._client.stream("POST", self._url, json=asked) as response:
                if response.status_code != httpx.codes.OK:
                    raise WriterError(f"it answers with status {response.status_code}")
                # As it is sent: a small compressed answer may be a large one.
                for part in response.iter_raw():
                    body += part
                    if len(body) > _BYTES:
                        raise WriterError(f"its answer is longer than {_BYTES // 1024} KiB")
                    # The time-out of the client is for each read, and an endpoint may send a byte at a time.
                    if self._clock() - started > self._seconds:
                        raise WriterError(f"its answer takes longer than {self._seconds:g} seconds")
        except httpx.TimeoutException as error:
            raise WriterError(f"it does not answer within {self._seconds:g} seconds") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise WriterError(f"it cannot be reached ({type(error).__name__})") from error
        return _content(bytes(body))


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
