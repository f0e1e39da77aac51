"""Fetches from a slow source in a thread, while the last that came is worked on."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Value = TypeVar("_Value")


def read_ahead(values: Iterable[_Value], depth: int = 2) -> Generator[_Value]:
    """Yield the values in their order; up to `depth` of the next ones are fetched meanwhile.

    Errors of the source are raised here. Closed early, it waits for what is being fetched.
    """
    source = iter(values)
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        pending = deque(pool.submit(next, source, end) for _ in range(depth))
        try:
            while (value := pending.popleft().result()) is not end:
                pending.append(pool.submit(next, source, end))
                yield value  # type: ignore[misc]
        finally:
            for future in pending:
                future.cancel()
