"""Checks of the gate: enough evidence, and accuracy against the champion and popularity.

Each check compares one figure, with its interval if it has one, to one threshold. Its explanation is a
finding that can follow the outcome of a decision, such as "rejected: ".
"""

import numpy as np

from recsys.evaluation.bootstrap import POWER, Interval
from recsys.evaluation.labels import label
from recsys.evaluation.ranking.baselines import POPULARITY
from recsys.evaluation.ranking.metrics import ndcg_name
from recsys.evaluation.result import CANDIDATE, CHAMPION, Evaluation
from recsys.promotion.decision import FAIL, INCONCLUSIVE, NOT_APPLICABLE, PASS, Check, Verdict
from recsys.settings import Settings


def comparison_possible(evaluation: Evaluation) -> Check:
    """Check that there was anything to compare."""
    why = evaluation.impossible
    return check(
        "comparison_possible",
        PASS if why is None else FAIL,
        "there is held-out feedback." if why is None else f"nothing to compare, {why}.",
    )


def has_champion() -> Check:
    """Return the check that a micro-update without a champion fails."""
    return check(
        "has_champion",
        FAIL,
        "a micro-update needs a champion with finite scores to be compared with.",
        observed=0,
        threshold=1,
    )


def scores_are_finite(evaluation: Evaluation, guard: Evaluation | None) -> Check:
    """Check that the candidate's scores and metrics are numbers."""
    failures = [
        part.failures[CANDIDATE] for part in (evaluation, guard) if part and CANDIDATE in part.failures
    ]
    value = evaluation.mean(CANDIDATE, ndcg_name(evaluation.k))
    if not failures and evaluation.users and not np.isfinite(value):
        failures = ["a metric is NaN"]
    return check(
        "scores_are_finite",
        FAIL if failures else PASS,
        f"the candidate is unusable, {failures[0]}." if failures else "all scores are finite.",
        observed=0 if failures else 1,
        threshold=1,
    )


def enough_users(evaluation: Evaluation, settings: Settings) -> Check:
    """Check that enough users have held-out feedback."""
    users, needed = evaluation.users, settings.gate.min_evaluated_users
    return check(
        "enough_users",
        PASS if users >= needed else FAIL,
        f"{users} users have held-out feedback, at least {needed} are needed.",
        observed=users,
        threshold=needed,
    )


def against_champion(evaluation: Evaluation, settings: Settings) -> tuple[Check, Check]:
    """Check that the candidate is shown to be non-inferior to the champion, and to be better."""
    metric = ndcg_name(evaluation.k)
    margin = settings.gate.non_inferiority_margin
    allowed = margin * evaluation.mean(CHAMPION, metric)
    interval = evaluation.compare(CANDIDATE, CHAMPION, metric, settings.evaluation)
    within = f"({change(label(metric), interval, settings)}; margin {percent(margin)})"
    figures, found = means(evaluation, CHAMPION, metric), _power(interval, allowed)
    if interval.low >= -allowed:
        verdict, explanation = PASS, f"non-inferior {within}. {figures}"
    elif interval.high < -allowed:
        verdict, explanation = FAIL, f"worse than the champion {within}. {figures}"
    else:
        verdict, explanation = INCONCLUSIVE, f"non-inferiority not shown {within}. {figures} {found}"
    not_worse = check("not_worse_than_champion", verdict, explanation, interval=interval, threshold=-allowed)
    changed = f"({change(label(metric), interval, settings)})"
    if interval.low > 0:
        verdict, explanation = PASS, f"better than the champion {changed}. {figures}"
    else:
        verdict = INCONCLUSIVE
        explanation = f"not shown to be better than the champion {changed}. {figures} {found}"
    return not_worse, check("better_than_champion", verdict, explanation, interval=interval, threshold=0.0)


def better_than_popularity(evaluation: Evaluation, settings: Settings) -> Check:
    """Check that the candidate beats a baseline that needs no model."""
    if POPULARITY not in evaluation.scorers:
        raise ValueError(
            f"the gate needs the baseline {POPULARITY!r}, the evaluation has {evaluation.scorers}"
        )
    metric = ndcg_name(evaluation.k)
    interval = evaluation.compare(CANDIDATE, POPULARITY, metric, settings.evaluation)
    if interval.low > 0:
        verdict, found = PASS, "better than popularity"
    elif interval.high < 0:
        verdict, found = FAIL, "worse than popularity"
    else:
        verdict, found = INCONCLUSIVE, "not shown to be better than popularity"
    explanation = (
        f"{found} ({change(label(metric), interval, settings)}). {means(evaluation, POPULARITY, metric)}"
    )
    return check("better_than_popularity", verdict, explanation, interval=interval, threshold=0.0)


def check(
    name: str,
    verdict: Verdict,
    explanation: str,
    *,
    observed: float | None = None,
    interval: Interval | None = None,
    threshold: float | None = None,
) -> Check:
    """Return a check with the figure `observed`, or the value and the limits of `interval`."""
    if interval is None:
        return Check(name, verdict, observed, None, None, threshold, explanation)
    detectable = interval.detectable if np.isfinite(interval.detectable) else None
    return Check(
        name, verdict, interval.value, interval.low, interval.high, threshold, explanation, detectable
    )


def not_applicable(name: str, explanation: str) -> Check:
    """Return a check that could not be made, with the reason."""
    return check(name, NOT_APPLICABLE, explanation)


def change(what: str, interval: Interval, settings: Settings) -> str:
    """Return a difference in words, such as "NDCG@10 +0.0052, 95 % interval -0.0028 to +0.0067"."""
    return (
        f"{what} {interval.value:+.4f}, {percent(settings.evaluation.confidence)} interval "
        f"{interval.low:+.4f} to {interval.high:+.4f}"
    )


def means(evaluation: Evaluation, other: str, metric: str) -> str:
    """Return both means in words, such as "Candidate 0.1052, champion 0.1000, 412 users."."""
    candidate, opponent = evaluation.mean(CANDIDATE, metric), evaluation.mean(other, metric)
    return f"Candidate {candidate:.4f}, {other} {opponent:.4f}, {evaluation.users} users."


def percent(share: float) -> str:
    """Return a share in percent, such as "2.5 %"."""
    return f"{100 * share:g} %"


def _power(interval: Interval, relevant: float) -> str:
    """Return whether the data would have shown a relevant difference, as a sentence."""
    if interval.detectable <= relevant:
        return (
            f"No difference found: one of {interval.detectable:.4f} would be found with {percent(POWER)} "
            "probability."
        )
    return (
        f"Too little data: only a difference of {interval.detectable:.4f} or more would be "
        f"found with {percent(POWER)} probability."
    )
