"""Decisions on candidates, as the gate makes them and tasks hand them on."""

from typing import Literal

from pydantic.dataclasses import dataclass

Verdict = Literal["pass", "fail", "inconclusive", "not_applicable"]

PASS: Verdict = "pass"  # noqa: S105 (a verdict, not a password)
FAIL: Verdict = "fail"
INCONCLUSIVE: Verdict = "inconclusive"
NOT_APPLICABLE: Verdict = "not_applicable"

Action = Literal["promote", "hold", "reject", "ask"]

PROMOTE: Action = "promote"
HOLD: Action = "hold"
REJECT: Action = "reject"
ASK: Action = "ask"
"""A person decides. Approval promotes over `expected_champion`, refusal rejects, no answer in time holds."""


@dataclass(frozen=True)
class Check:
    """One check of the gate, with what it measured.

    Attributes
    ----------
    observed, low, high
        The measured figure and its interval; None when it has none.
    threshold
        What the figure is compared with.
    explanation
        One sentence for people.
    detectable
        The smallest true difference that this much data would have shown.
    """

    name: str
    verdict: Verdict
    observed: float | None
    low: float | None
    high: float | None
    threshold: float | None
    explanation: str
    detectable: float | None = None


@dataclass(frozen=True)
class Decision:
    """What to do with a candidate, and why.

    Attributes
    ----------
    action
        `promote`, `hold` (the champion stays; later feedback may change that), `reject`, or `ask`
        (a person decides; nothing changes until there is an answer).
    reason
        A stable name for machines.
    explanation
        One sentence for people.
    checks
        All checks, also those that passed.
    expected_champion
        The version that the candidate was compared with; None when there was no champion.
    """

    action: Action
    reason: str
    explanation: str
    checks: tuple[Check, ...]
    expected_champion: str | None = None


@dataclass(frozen=True)
class Response:
    """A person's answer to a question about a promotion.

    Attributes
    ----------
    answer
        `none` when nobody answered in time.
    by
        The person's name.
    at
        Time of the answer, ISO 8601.
    """

    answer: Literal["approve", "reject", "none"]
    by: str | None = None
    at: str | None = None
