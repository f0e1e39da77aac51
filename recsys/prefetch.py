"""Fetches from a slow source in a thread, while the last that came is worked on."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

_Value = TypeVar("_Value")
_END = object()


def read_ahead(values: Iterable[_Value], depth: int = 2) -> "ReadAhead[_Value]":
    """Return the values in their order; up to `depth` of the next ones are fetched meanwhile, from now on.

    Close it (`contextlib.closing`): that waits for what is being fetched and closes a source that can be.
    """
    return ReadAhead(values, depth)


class ReadAhead(Iterator[_Value]):
    """Values that a thread fetches. Errors of the source are raised where its next value would be."""

    def __init__(self, values: Iterable[_Value], depth: int) -> None:
        self._source = iter(values)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._pending: deque[Future[Any]] = deque()
        for _ in range(depth):
            self._fetch()

    def __next__(self) -> _Value:
        if not self._pending:
            raise StopIteration
        value = self._pending.popleft().result()
        if value is _END:
            self.close()
            raise StopIteration
        self._fetch()
        return value  # type: ignore[no-any-return]

    def close(self) -> None:
        """Fetch no more."""
        for future in self._pending:
            future.cancel()
        self._pending.clear()
        self._pool.shutdown()
        close = getattr(self._source, "close", None)
        if close is not None:
            close()

    def _fetch(self) -> None:
        self._pending.append(self._pool.submit(next, self._source, _END))
