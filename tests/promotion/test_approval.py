from dataclasses import replace

import pytest

from recsys.promotion.approval import Response, answered, ask_if_configured, body, subject
from recsys.promotion.decision import Check, Decision
from recsys.settings import ApprovalSettings


def _decision(action="promote"):
    check = Check("not_worse_than_champion", "pass", 0.01, -0.002, 0.02, -0.05, "It is not worse.")
    return Decision(action, "non_inferior_and_fresher", "It is not worse.", (check,), "7")


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
def test_a_person_is_asked_about_promotions_of_the_kinds_that_the_settings_name(required_for, kind, asks):
    settings = ApprovalSettings(required_for=required_for)
    assert ask_if_configured(_decision(), kind, settings).action == ("ask" if asks else "promote")
    for action in ("hold", "reject"):
        assert ask_if_configured(_decision(action), kind, settings).action == action


@pytest.mark.parametrize(
    ("response", "action", "reason", "told"),
    [
        (
            Response("approve", "ann", "2026-01-01T00:00:00+00:00"),
            "promote",
            "approved_by_person",
            "by ann at",
        ),
        (Response("reject", "ann", "2026-01-01T00:00:00+00:00"), "reject", "rejected_by_person", "by ann at"),
        (Response("none"), "hold", "approval_timed_out", "Nobody answered in time."),
    ],
)
def test_the_answer_becomes_the_decision_with_who_and_when(response, action, reason, told):
    decision = answered(_decision("ask"), response)
    assert (decision.action, decision.reason) == (action, reason)
    assert told in decision.explanation
    assert decision.expected_champion == "7"
    assert [check.name for check in decision.checks] == ["not_worse_than_champion", "approval"]


def test_the_question_shows_the_evidence_of_the_gate():
    assert subject("8", _decision()) == "Make version 8 champion in place of version 7?"
    shown = body(_decision(), {"Model version": "http://mlflow/8"})
    assert "| not worse than champion | yes | 0.01 | -0.002 to 0.02 | -0.05 |" in shown
    assert "[Model version](http://mlflow/8)" in shown


def test_what_is_zero_but_for_rounding_is_shown_as_zero():
    check = Check("novelty", "pass", 1e-3, -2.5e-17, 0.03, -0.9, "It is not lower.")
    assert "| novelty | yes | 0.001 | 0 to 0.03 | -0.9 |" in body(replace(_decision(), checks=(check,)), {})
