"""Prefetch an iterator in a background thread."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

_Value = TypeVar("_Value")
_END = object()


def prefetch(values: Iterable[_Value], depth: int = 2) -> "Prefetch[_Value]":
    """Iterate over `values` in order while a thread fetches up to `depth` values ahead, starting now.

    Close the result (`contextlib.closing`). That waits for the value being fetched, then closes the source if
    it has a `close` method.
    """
    return Prefetch(values, depth)


class Prefetch(Iterator[_Value]):
    """Iterator over prefetched values. An error of the source is raised in place of its next value."""

    def __init__(self, values: Iterable[_Value], depth: int) -> None:
        self._source = iter(values)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
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
        """Stop fetching and close the source."""
        for future in self._pending:
            future.cancel()
        self._pending.clear()
        self._pool.shutdown()
        close = getattr(self._source, "close", None)
        if close is not None:
            close()

    def _fetch(self) -> None:
        self._pending.append(self._pool.submit(next, self._source, _END))
