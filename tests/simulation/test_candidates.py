"""How often the decisions about candidates were right."""

import pytest

from recsys.simulation.candidates import Candidate, Decisions, count_decisions
from recsys.simulation.report import share_interval


def _candidate(value: float, *, passed: bool, promoted: bool) -> Candidate:
    return Candidate(2, "2", False, passed, False, promoted, "reason", value, 1.0)


def test_a_promotion_is_wrong_if_the_champion_was_better() -> None:
    found = count_decisions(
        [
            _candidate(0.9, passed=True, promoted=True),
            _candidate(0.9, passed=True, promoted=False),
            _candidate(0.9, passed=False, promoted=False),
            _candidate(1.1, passed=True, promoted=True),
            _candidate(1.1, passed=True, promoted=False),
            _candidate(1.1, passed=False, promoted=False),
        ]
    )
    assert found == Decisions(
        candidates=6, passed=4, passed_wrongly=2, promoted=2, promoted_wrongly=1, missed=2
    )


def test_the_interval_of_a_share_of_nights() -> None:
    assert share_interval(0, 10) == (0, pytest.approx(1 - 0.025**0.1))
    assert share_interval(10, 10) == (pytest.approx(0.025**0.1), 1)
    low, high = share_interval(3, 10)
    assert 0.06 < low < 0.3 < high < 0.66
