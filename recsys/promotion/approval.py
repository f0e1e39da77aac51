"""Approval of promotions by a person: the question, and the decision that follows from the answer."""

from typing import Literal

from recsys.promotion.decision import (
    ASK,
    FAIL,
    HOLD,
    INCONCLUSIVE,
    NOT_APPLICABLE,
    PASS,
    PROMOTE,
    REJECT,
    Check,
    Decision,
    Response,
    Verdict,
)
from recsys.promotion.outcome import change_outcome
from recsys.settings import ApprovalSettings

_PASSED = {PASS: "yes", FAIL: "**no**", INCONCLUSIVE: "not shown", NOT_APPLICABLE: "does not apply"}


def ask_if_configured(
    decision: Decision, kind: Literal["full", "micro"], settings: ApprovalSettings
) -> Decision:
    """Turn a promotion into a question when the settings require approval for this kind of model."""
    if decision.action != PROMOTE or settings.required_for not in (kind, "all"):
        return decision
    return change_outcome(decision, ASK, decision.reason)


def answered(decision: Decision, response: Response) -> Decision:
    """Return the decision that follows from a person's answer, or from none in time.

    An approved candidate is promoted over the champion that it was compared with. If another version has
    become champion in the meantime, the promotion fails later.
    """
    if response.answer == "none":
        why = "nobody answered in time."
        return change_outcome(decision, HOLD, "approval_timed_out", why, _check(INCONCLUSIVE, why))
    if response.answer == "approve":
        why = f"approved by {response.by} at {response.at}."
        return change_outcome(decision, PROMOTE, "approved_by_person", why, _check(PASS, why))
    why = f"refused by {response.by} at {response.at}."
    return change_outcome(decision, REJECT, "rejected_by_person", why, _check(FAIL, why))


def subject(version: str, decision: Decision) -> str:
    """Return the question in one line."""
    opponent = decision.expected_champion
    return f"Make version {version} champion{f' in place of version {opponent}' if opponent else ''}?"


def body(decision: Decision, links: dict[str, str]) -> str:
    """Return the evidence in Markdown: the gate's finding, its checks and links."""
    lines = [
        decision.explanation,
        "",
        "| check | passed | observed | interval | needed |",
        "| --- | --- | ---: | --- | ---: |",
    ]
    for check in decision.checks:
        interval = "" if check.low is None else f"{_figure(check.low)} to {_figure(check.high)}"
        lines.append(
            f"| {check.name.replace('_', ' ')} | {_PASSED[check.verdict]} | {_figure(check.observed)} "
            f"| {interval} | {_figure(check.threshold)} |"
        )
    if links:
        lines += ["", ", ".join(f"[{name}]({address})" for name, address in links.items())]
    lines += [
        "",
        "Approve: it is promoted and published. Reject, or no answer in time: nothing changes.",
    ]
    return "\n".join(lines)


def _check(verdict: Verdict, sentence: str) -> Check:
    return Check("approval", verdict, None, None, None, None, sentence)


def _figure(value: float | None) -> str:
    # Rounds -2e-17 to 0.
    return "" if value is None else f"{round(value, 9) + 0.0:.4g}"
