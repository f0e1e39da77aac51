"""Replace a champion that knows erased users before its time is over.

Every full fine-tune leaves erased users out, so a night's candidate normally replaces such a champion long
before the end of its term (`recsys.promotion.serving_term`). When none has, the gate asks for less:

- In the last `privacy.notice_days` days a candidate that would be held is promoted. Only what is shown to be
  worse, and a question to a person, still stops it.
- In the last night, and later, any candidate with finite scores is promoted, and nobody is asked.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from recsys.promotion.decision import ASK, FAIL, HOLD, PROMOTE, REJECT, Check, Decision
from recsys.promotion.outcome import change_outcome
from recsys.promotion.serving_term import REASON, ServingTerm
from recsys.settings import PrivacySettings

REPLACED = "champion_knows_erased_users"
"""Reason in the ledger for a candidate that is promoted because the champion's time ends."""
_LAST_NIGHT = timedelta(hours=36)
"""Rest of the term in which the next night might come too late."""


def is_due(champion: ServingTerm | None, settings: PrivacySettings, now: datetime) -> bool:
    """Return whether a champion has to be replaced soon, by less than the usual evidence."""
    return champion is not None and now >= champion.until - timedelta(days=settings.notice_days)


def heed_erasure(
    decision: Decision,
    candidate: ServingTerm | None,
    champion: ServingTerm | None,
    settings: PrivacySettings,
    now: datetime,
) -> Decision:
    """Return the gate's decision on a candidate, changed where the terms of the two versions demand it.

    Parameters
    ----------
    candidate, champion
        Until when they may be served; None: without end.
    """
    if candidate is not None and candidate.is_over(now):
        return change_outcome(decision, REJECT, REASON, f"{candidate}.")
    if champion is None or not is_due(champion, settings, now) or decision.action == PROMOTE:
        return decision
    if candidate is not None and candidate.until <= champion.until:
        return decision
    last_night = now >= champion.until - _LAST_NIGHT
    stopped = (HOLD, REJECT, ASK) if last_night else (HOLD,)
    if decision.action not in stopped or _is_unusable(decision.checks):
        return decision
    promoted = change_outcome(decision, PROMOTE, REPLACED, f"{champion}.")
    return replace(promoted, expected_champion=champion.version)


def _is_unusable(checks: tuple[Check, ...]) -> bool:
    return any(check.name == "scores_are_finite" and check.verdict == FAIL for check in checks)
