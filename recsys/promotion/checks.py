"""Checks of the gate: enough evidence, and accuracy against the champion and popularity.

Each check compares one figure, with its interval if it has one, to one threshold. Its explanation is a
finding that can follow the outcome of a decision, such as "rejected: ".
"""

from dataclasses import replace

import numpy as np
from scipy.special import ndtri

from recsys.evaluation.bootstrap import POWER, Interval
from recsys.evaluation.labels import label
from recsys.evaluation.ranking.baselines import POPULARITY
from recsys.evaluation.ranking.metrics import ndcg_name
from recsys.evaluation.result import CANDIDATE, CHAMPION, Evaluation
from recsys.promotion.decision import FAIL, INCONCLUSIVE, NOT_APPLICABLE, PASS, Check, Verdict
from recsys.promotion.superiority import Superiority
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


def against_champion(
    evaluation: Evaluation,
    settings: Settings,
    superiority: Superiority | None = None,
    guardrails: int = 1,
) -> tuple[Check, Check]:
    """Check that the candidate is shown to be non-inferior to the champion, and to be better.

    Parameters
    ----------
    superiority
        The test at the level that the month has left; None: the interval decides.
    guardrails
        Number of margins that must all hold, this one included.
    """
    metric = ndcg_name(evaluation.k)
    margin = settings.gate.non_inferiority_margin
    allowed = margin * evaluation.mean(CHAMPION, metric)
    interval = evaluation.compare(CANDIDATE, CHAMPION, metric, settings.evaluation)
    passable = replace(interval, detectable=passable_margin(interval, guardrails, settings))
    within = f"({change(label(metric), interval, settings)}; margin {percent(margin)})"
    figures = means(evaluation, CHAMPION, metric)
    if interval.low >= -allowed:
        verdict, explanation = PASS, f"non-inferior {within}. {figures}"
    elif interval.high < -allowed:
        verdict, explanation = FAIL, f"worse than the champion {within}. {figures}"
    else:
        verdict = INCONCLUSIVE
        found = _power_of_all(passable.detectable, allowed, guardrails)
        explanation = f"non-inferiority not shown {within}. {figures} {found}"
    not_worse = check("not_worse_than_champion", verdict, explanation, interval=passable, threshold=-allowed)
    return not_worse, _better(interval, allowed, figures, label(metric), settings, superiority)


def _better(
    interval: Interval,
    allowed: float,
    figures: str,
    metric: str,
    settings: Settings,
    superiority: Superiority | None,
) -> Check:
    shown, tested = interval.low > 0, ""
    if superiority is not None:
        shown = superiority.shown
        confidence = settings.evaluation.confidence
        interval = replace(
            interval,
            detectable=interval.detectable
            / (ndtri((1 + confidence) / 2) + ndtri(POWER))
            * (ndtri(1 - superiority.level) + ndtri(POWER)),
        )
        tested = f"; p {superiority.p_value:.2g}, this month allows {superiority.level:.2g}"
    changed = f"({change(metric, interval, settings)}{tested})"
    if shown:
        verdict, explanation = PASS, f"better than the champion {changed}. {figures}"
    else:
        found = _power(interval, allowed)
        verdict, explanation = (
            INCONCLUSIVE,
            f"not shown to be better than the champion {changed}. {figures} {found}",
        )
    return check("better_than_champion", verdict, explanation, interval=interval, threshold=0.0)


def passable_margin(interval: Interval, guardrails: int, settings: Settings) -> float:
    """Return the smallest margin at which an equally good candidate passes all guardrails with `POWER`.

    All guardrails must hold, so none of their levels needs a correction, but the chance to fail one of them
    grows with their number: each gets its share of 1 - `POWER` (Schultzberg, Ankargren and Frånberg,
    "Risk-aware product decisions in A/B tests with multiple metrics", 2024).
    """
    level = ndtri((1 + settings.evaluation.confidence) / 2)
    return float(interval.detectable / (level + ndtri(POWER)) * (level + ndtri(1 - (1 - POWER) / guardrails)))


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


def _power_of_all(passable: float, allowed: float, guardrails: int) -> str:
    """Return whether an equally good candidate would have passed, as a sentence."""
    guards = "this margin" if guardrails == 1 else f"all {guardrails} margins"
    if passable <= allowed:
        return f"Enough data: an equally good candidate holds {guards} with {percent(POWER)} probability."
    return (
        f"Too little data: an equally good candidate holds {guards} with {percent(POWER)} probability only "
        f"where a loss of {passable:.4f} is allowed."
    )


def _power(interval: Interval, relevant: float) -> str:
    """Return whether the data would have shown a relevant difference, as a sentence."""
    if np.isposinf(interval.detectable):
        return "No gain may be claimed now: what this month allows is spent, or this gate claims none."
    if interval.detectable <= relevant:
        return (
            f"No difference found: one of {interval.detectable:.4f} would be found with {percent(POWER)} "
            "probability."
        )
    return (
        f"Too little data: only a difference of {interval.detectable:.4f} or more would be "
        f"found with {percent(POWER)} probability."
    )
