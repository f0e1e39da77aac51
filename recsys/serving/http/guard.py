"""What every request passes first: the key, the size of its body, and the counters.

It decides from the head of a request, before anything reads its body.
"""

import hashlib
import hmac
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from recsys.serving.http.metrics import Metrics

MAX_BODY_BYTES = 4 * 1024 * 1024
OPEN_PATHS = frozenset({"/health", "/openapi.json"})
"""What needs no key: nothing there is about people."""
# No list is kept anywhere on its way, and no answer is taken for a page or a script.
_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Guard:
    """ASGI middleware.

    Parameters
    ----------
    keys
        Keys that applications may present as `Authorization: Bearer KEY`. None: everybody on this machine
        is served, and only under a name of this machine, so that no web page in a browser here can reach the
        service through a name of its own.
    """

    def __init__(
        self,
        application: Callable[[Any, Receive, Send], Awaitable[None]],
        *,
        keys: Sequence[str],
        metrics: Metrics,
        open_paths: frozenset[str] = OPEN_PATHS,
    ) -> None:
        self._application = application
        self._keys = [_digest(key) for key in keys]
        self._metrics = metrics
        self._open = open_paths

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        status = 500

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        try:
            if (refusal := self._refusal(scope["path"], headers)) is not None:
                await _answer(note_status, *refusal)
            elif (body := await _read(receive, headers)) is None:
                await _answer(note_status, 413, _TOO_LARGE)
            else:
                await self._application(scope, _replay(body, receive), note_status)
        finally:
            self._count(scope, status, time.perf_counter() - started)

    def _count(self, scope: Any, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.answered(route, method, status, seconds)

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        if path not in self._open:
            if self._keys and not self._knows(headers.get(b"authorization", b"")):
                return 401, "present a key of RECSYS_SERVING__API_KEYS as `Authorization: Bearer KEY`"
            if not self._keys and not is_loopback(_host(headers)):
                return 403, "without keys this service answers only under localhost, 127.0.0.1 and [::1]"
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > MAX_BODY_BYTES:
            return 413, _TOO_LARGE
        return None

    def _knows(self, authorization: bytes) -> bool:
        scheme, _, key = authorization.partition(b" ")
        presented = hashlib.sha256(key.strip()).digest()
        # All of them are compared, in constant time, so that the time tells nothing about a key.
        found = [hmac.compare_digest(presented, known) for known in self._keys]
        return scheme.lower() == b"bearer" and any(found)


_TOO_LARGE = f"the body is larger than {MAX_BODY_BYTES} bytes; send less at once"


async def _read(receive: Receive, headers: dict[bytes, bytes]) -> bytes | None:
    """Return the body, or None if it is too large; a chunked one does not state its size before."""
    body = bytearray()
    if b"content-length" not in headers and b"transfer-encoding" not in headers:
        return b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the application the body that was read already."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def is_loopback(host: str) -> bool:
    """Whether a name or address, without a port, means this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _host(headers: dict[bytes, bytes]) -> str:
    host = headers.get(b"host", b"").decode("latin-1")
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


async def _answer(send: Send, status: int, detail: str) -> None:
    headers = [(b"content-type", b"application/json")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 413:
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"detail": detail}).encode()})
