from dataclasses import replace

import pytest

from recsys.promotion.approval import Response, answered, ask_if_configured, body, subject
from recsys.promotion.decision import Check, Decision
from recsys.promotion.outcome import OUTCOMES
from recsys.settings import ApprovalSettings


def _decision(action="promote"):
    check = Check("not_worse_than_champion", "pass", 0.01, -0.002, 0.02, -0.05, "non-inferior (+0.0100).")
    explanation = f"{OUTCOMES[action]}: non-inferior (+0.0100)."
    return Decision(action, "non_inferior_and_fresher", explanation, (check,), "7")


@pytest.mark.parametrize(
    ("required_for", "kind", "asks"),
    [
        ("none", "full", False),
        ("full", "full", True),
        ("full", "micro", False),
        ("micro", "micro", True),
        ("all", "micro", True),
        ("all", "full", True),
    ],
)
def test_a_person_is_asked_about_promotions_of_the_configured_kinds(required_for, kind, asks):
    settings = ApprovalSettings(required_for=required_for)
    decision = ask_if_configured(_decision(), kind, settings)
    assert decision.action == ("ask" if asks else "promote")
    outcome = "waits for approval" if asks else "promoted"
    assert decision.explanation == f"{outcome}: non-inferior (+0.0100)."
    for action in ("hold", "reject"):
        assert ask_if_configured(_decision(action), kind, settings).action == action


@pytest.mark.parametrize(
    ("response", "action", "reason", "stated"),
    [
        (
            Response("approve", "ann", "2026-01-01T00:00:00+00:00"),
            "promote",
            "approved_by_person",
            "promoted: approved by ann at 2026-01-01T00:00:00+00:00. Gate: non-inferior (+0.0100).",
        ),
        (
            Response("reject", "ann", "2026-01-01T00:00:00+00:00"),
            "reject",
            "rejected_by_person",
            "rejected: refused by ann at 2026-01-01T00:00:00+00:00. Gate: non-inferior (+0.0100).",
        ),
        (
            Response("none"),
            "hold",
            "approval_timed_out",
            "held: nobody answered in time. Gate: non-inferior (+0.0100).",
        ),
    ],
)
def test_the_decision_states_the_answer_its_author_and_its_time(response, action, reason, stated):
    decision = answered(_decision("ask"), response)
    assert (decision.action, decision.reason) == (action, reason)
    assert decision.explanation == stated
    assert decision.expected_champion == "7"
    assert [check.name for check in decision.checks] == ["not_worse_than_champion", "approval"]


def test_the_question_shows_the_evidence_of_the_gate():
    assert subject("8", _decision()) == "Make version 8 champion in place of version 7?"
    shown = body(_decision(), {"Model version": "http://mlflow/8"})
    assert "| not worse than champion | yes | 0.01 | -0.002 to 0.02 | -0.05 |" in shown
    assert "[Model version](http://mlflow/8)" in shown


def test_rounding_errors_are_shown_as_zero():
    check = Check("novelty", "pass", 1e-3, -2.5e-17, 0.03, -0.9, "It is not lower.")
    assert "| novelty | yes | 0.001 | 0 to 0.03 | -0.9 |" in body(replace(_decision(), checks=(check,)), {})
