"""The gate's decision when the champion knows erased users and its time ends."""

from datetime import UTC, datetime, timedelta

import pytest

from recsys.promotion.decision import Action, Check, Decision
from recsys.promotion.replacement import heed_erasure
from recsys.promotion.serving_term import ServingTerm
from recsys.settings import PrivacySettings

ASKED = datetime(2026, 3, 1, tzinfo=UTC)
SETTINGS = PrivacySettings(model_erasure_days=14, notice_days=3)


def term(version: str, days: float = 14) -> ServingTerm:
    return ServingTerm(version, ASKED, ASKED + timedelta(days=days))


def decision(action: Action, *checks: Check) -> Decision:
    return Decision(action, "drawn", "held: not shown to be better.", checks, "1")


def on_day(day: float, drawn: Decision, candidate: ServingTerm | None = None) -> Decision:
    return heed_erasure(drawn, candidate, term("1"), SETTINGS, ASKED + timedelta(days=day))


@pytest.mark.parametrize(
    ("day", "drawn", "expected"),
    [
        (10.9, "hold", "hold"),
        (11, "hold", "promote"),
        (12.4, "reject", "reject"),
        (12.4, "ask", "ask"),
        (12.5, "reject", "promote"),
        (12.5, "ask", "promote"),
        (20, "reject", "promote"),  # a champion that is served for too long
    ],
)
def test_the_closer_the_end_of_the_champions_time_the_less_stops_a_candidate(
    day: float, drawn: Action, expected: str
) -> None:
    decided = on_day(day, decision(drawn))
    assert decided.action == expected
    if expected == "promote":
        assert (decided.reason, decided.expected_champion) == ("champion_knows_erased_users", "1")
        assert decided.explanation.startswith(
            "promoted: version 1 has been trained on users who asked to be erased, the first on 2026-03-01, "
            "and may be served until 2026-03-15 00:00 UTC. Gate: "
        )


def test_a_candidate_whose_scores_are_not_finite_never_replaces_the_champion() -> None:
    unusable = Check("scores_are_finite", "fail", 0, None, None, 1, "NaN.")
    assert on_day(20, decision("reject", unusable)).action == "reject"


def test_what_the_gate_promotes_keeps_its_own_reason() -> None:
    assert on_day(20, decision("promote")).reason == "drawn"


def test_a_candidate_that_knows_the_same_users_is_no_remedy() -> None:
    assert on_day(13, decision("hold"), candidate=term("2")).action == "hold"
    # One that knows only users who asked later is.
    assert on_day(13, decision("hold"), candidate=term("2", days=27)).action == "promote"


def test_a_candidate_whose_own_time_is_over_is_rejected_whatever_the_gate_says() -> None:
    decided = on_day(14, decision("promote"), candidate=term("2"))
    assert (decided.action, decided.reason) == ("reject", "trained_on_erased_users")


def test_without_a_champion_that_knows_erased_users_the_gate_decides_alone() -> None:
    drawn = decision("hold")
    assert heed_erasure(drawn, None, None, SETTINGS, ASKED) == drawn
