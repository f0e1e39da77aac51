import threading
from collections.abc import Iterator

import pytest

from recsys.read_ahead import read_ahead


def test_values_come_in_their_order_from_another_thread() -> None:
    threads = set()

    def source() -> Iterator[int | None]:
        for value in (1, None, 3, 4, 5):
            threads.add(threading.current_thread())
            yield value

    assert list(read_ahead(source())) == [1, None, 3, 4, 5]
    assert threading.main_thread() not in threads


def test_an_error_of_the_source_is_raised_after_what_came_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    values = read_ahead(source())
    assert next(values) == 1
    with pytest.raises(ValueError, match="broken"):
        next(values)


def test_closed_early_it_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    values = read_ahead(range(100))
    assert next(values) == 0
    values.close()
    assert threading.active_count() == before
