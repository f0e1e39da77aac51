"""State decisions in sentences: the outcome, then the finding that decided.

"promoted: non-inferior (NDCG@10 +0.0052, 95 % interval -0.0028 to +0.0067; margin 5 %). Candidate 0.1052,
champion 0.1000, 412 users."
"""

from dataclasses import replace

from recsys.promotion.decision import ASK, HOLD, PROMOTE, REJECT, Action, Check, Decision

OUTCOMES: dict[Action, str] = {
    PROMOTE: "promoted",
    HOLD: "held",
    REJECT: "rejected",
    ASK: "waits for approval",
}


def finding(decision: Decision) -> str:
    """Return the finding that decided: the explanation without the outcome."""
    return decision.explanation.removeprefix(f"{OUTCOMES[decision.action]}: ")


def state(decision: Decision) -> Decision:
    """Return the decision with an explanation that starts with its outcome."""
    return replace(decision, explanation=f"{OUTCOMES[decision.action]}: {finding(decision)}")


def change_outcome(
    decision: Decision, action: Action, reason: str, why: str = "", check: Check | None = None
) -> Decision:
    """Return the gate's decision with another action.

    Parameters
    ----------
    why
        Reason for the change, as a sentence; it precedes the gate's finding.
    check
        Added to the gate's checks.
    """
    gate = finding(decision)
    return replace(
        decision,
        action=action,
        reason=reason,
        explanation=f"{OUTCOMES[action]}: {f'{why} Gate: {gate}' if why else gate}",
        checks=decision.checks if check is None else (*decision.checks, check),
    )
