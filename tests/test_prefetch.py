import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from recsys.prefetch import prefetch


def test_values_keep_their_order_and_come_from_another_thread() -> None:
    threads = set()

    def source() -> Iterator[int | None]:
        for value in (1, None, 3, 4, 5):
            threads.add(threading.current_thread())
            yield value

    assert list(prefetch(source())) == [1, None, 3, 4, 5]
    assert threading.main_thread() not in threads


def test_an_error_of_the_source_is_raised_after_the_values_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    values = prefetch(source())
    assert next(values) == 1
    with pytest.raises(ValueError, match="broken"):
        next(values)


def test_closing_early_leaves_no_thread() -> None:
    others = set(threading.enumerate())  # of earlier tests; one of them may end meanwhile
    values = prefetch(range(100))
    assert next(values) == 0
    assert set(threading.enumerate()) - others
    values.close()
    assert not set(threading.enumerate()) - others


def test_fetching_starts_before_the_first_value_is_requested() -> None:
    fetched = threading.Event()

    def source() -> Iterator[int]:
        fetched.set()
        yield 1

    with closing(prefetch(source())):
        assert fetched.wait(timeout=60)


def test_closing_early_closes_the_source() -> None:
    closed = []

    def source() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(True)

    values = prefetch(source())
    assert next(values) == 0
    values.close()
    assert closed == [True]
