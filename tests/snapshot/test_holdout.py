import numpy as np
import pytest

from recsys.snapshot.holdout import HoldoutBoundary

HOUR = 3_600_000_000


def find(times: list[int], share: float) -> int | None:
    parts = [np.array(times[start::3], dtype=np.int64) for start in range(3)]
    boundary = HoldoutBoundary()
    for part in parts:
        boundary.observe(part)
    return boundary.find(share, lambda since: (part for part in parts if (part >= since).any()))


def test_the_latest_share_is_held_out() -> None:
    assert find(list(range(100)), 0.1) == 90
    assert find([HOUR * number for number in range(100)], 0.25) == 75 * HOUR


def test_events_of_the_boundary_time_are_all_held_out() -> None:
    assert find([1, 2, 3, 4, 5, 6, 7, 8, 8, 8], 0.1) == 8


def test_something_is_left_to_train_on_even_when_most_events_share_the_earliest_time() -> None:
    assert find([5] * 9 + [6], 0.5) == 6
    assert find([5] * 9 + [6 + 2 * HOUR], 0.5) == 6 + 2 * HOUR
    assert find([1, 2], 0.9) == 2


@pytest.mark.parametrize("times", [[], [7], [7, 7, 7]])
def test_a_single_moment_cannot_be_split(times: list[int]) -> None:
    assert find(times, 0.1) is None


def test_times_before_1970_are_split_too() -> None:
    assert find([-5 * HOUR, -3 * HOUR, -1], 0.3) == -1


def test_the_boundary_equals_that_of_a_full_sort() -> None:
    generator = np.random.default_rng(3)
    for _ in range(50):
        times = generator.integers(-3 * HOUR, 3 * HOUR, generator.integers(2, 60)).tolist()
        share = float(generator.uniform(0.05, 0.6))
        expected = sorted(times)[-max(1, round(share * len(times)))]
        assert find(times, share) == expected or expected == min(times)
