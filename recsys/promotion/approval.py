"""What a person is asked before a promotion, and what becomes of the answer."""

from dataclasses import replace
from typing import Literal

from recsys.promotion.decision import (
    ASK,
    FAIL,
    HOLD,
    INCONCLUSIVE,
    PASS,
    PROMOTE,
    REJECT,
    Check,
    Decision,
    Response,
    Verdict,
)
from recsys.settings import ApprovalSettings

_TOLD = {PASS: "yes", FAIL: "**no**", INCONCLUSIVE: "not shown", "not_applicable": "does not apply"}


def ask_if_configured(
    decision: Decision, kind: Literal["full", "micro"], settings: ApprovalSettings
) -> Decision:
    """Turn a promotion into a question to a person when the settings want one for this kind of model."""
    if decision.action != PROMOTE or settings.required_for not in (kind, "all"):
        return decision
    return replace(decision, action=ASK)


def answered(decision: Decision, response: Response) -> Decision:
    """Return what to carry out once a person has answered, or has not in time.

    Approved, the candidate is promoted over the champion that it was compared with; should another one
    have become champion while the question was open, the promotion is refused later.
    """
    if response.answer == "none":
        return replace(
            decision,
            action=HOLD,
            reason="approval_timed_out",
            explanation=f"Nobody answered in time. {decision.explanation}",
            checks=(*decision.checks, _check(INCONCLUSIVE, "Nobody answered in time.")),
        )
    approved = response.answer == "approve"
    sentence = f"{'Approved' if approved else 'Rejected'} by {response.by} at {response.at}."
    return replace(
        decision,
        action=PROMOTE if approved else REJECT,
        reason="approved_by_person" if approved else "rejected_by_person",
        explanation=f"{sentence} {decision.explanation}",
        checks=(*decision.checks, _check(PASS if approved else FAIL, sentence)),
    )


def subject(version: str, decision: Decision) -> str:
    """Return the question in one line."""
    opponent = decision.expected_champion
    return f"Make version {version} champion{f' in place of version {opponent}' if opponent else ''}?"


def body(decision: Decision, links: dict[str, str]) -> str:
    """Return the evidence in Markdown: the gate's reason, its checks, and where to read more."""
    lines = [
        decision.explanation,
        "",
        "| check | passed | observed | interval | needed |",
        "| --- | --- | ---: | --- | ---: |",
    ]
    for check in decision.checks:
        interval = "" if check.low is None else f"{_figure(check.low)} to {_figure(check.high)}"
        lines.append(
            f"| {check.name.replace('_', ' ')} | {_TOLD[check.verdict]} | {_figure(check.observed)} "
            f"| {interval} | {_figure(check.threshold)} |"
        )
    if links:
        lines += ["", ", ".join(f"[{name}]({address})" for name, address in links.items())]
    lines += ["", "Approve: it is promoted and published. Reject, or no answer in time: nothing changes."]
    return "\n".join(lines)


def _check(verdict: Verdict, sentence: str) -> Check:
    return Check("approval", verdict, None, None, None, None, sentence)


def _figure(value: float | None) -> str:
    # What is 0 but for rounding is 0.
    return "" if value is None else f"{round(value, 9) + 0.0:.4g}"
