"""The promotion gate: from the evidence of an evaluation to a decision with named reasons.

Pure functions. A check compares one observed figure, with its interval where it has one, to one
threshold; the decision follows from the checks in a fixed order. "Shown to be worse" rejects, "not
shown to be good enough" holds: the difference between a bad model and too little data.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from recsys.evaluation.baselines import POPULARITY
from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.metrics import ndcg_name
from recsys.evaluation.result import CANDIDATE, CHAMPION, Evaluation
from recsys.settings import Settings

Action = Literal["promote", "hold", "reject", "ask"]
Verdict = Literal["pass", "fail", "inconclusive", "not_applicable"]

PROMOTE: Action = "promote"
HOLD: Action = "hold"
REJECT: Action = "reject"
ASK: Action = "ask"
"""A person decides: approve promotes over `expected_champion`, refuse rejects, no answer in time holds."""

PASS: Verdict = "pass"  # noqa: S105 (a verdict, not a password)
FAIL: Verdict = "fail"
INCONCLUSIVE: Verdict = "inconclusive"
NOT_APPLICABLE: Verdict = "not_applicable"


@dataclass(frozen=True)
class Check:
    """One question that the gate asks, with what it saw."""

    name: str
    verdict: Verdict
    observed: float | None
    low: float | None
    high: float | None
    threshold: float | None
    explanation: str

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return asdict(self)


@dataclass(frozen=True)
class Decision:
    """What to do with a candidate, and why.

    Attributes
    ----------
    action
        `promote`, `hold` (the champion stays; later feedback may decide otherwise), `reject`, or `ask`
        (a person; nothing changes until there is an answer).
    reason
        A stable name for machines.
    explanation
        One sentence for people.
    checks
        Everything that was looked at.
    expected_champion
        The version that the candidate was compared with; None when there was no champion.
    """

    action: Action
    reason: str
    explanation: str
    checks: tuple[Check, ...]
    expected_champion: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return asdict(self) | {"checks": [check.to_dict() for check in self.checks]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Decision":
        """Read what `to_dict` wrote."""
        checks = tuple(Check(**check) for check in values["checks"])
        return cls(**{**values, "checks": checks})


def decide(
    kind: Literal["full", "micro"],
    evaluation: Evaluation,
    settings: Settings,
    guard: Evaluation | None = None,
    fresher: bool = True,
) -> Decision:
    """Decide on a candidate from its evaluation beside the champion and the baselines.

    Parameters
    ----------
    kind
        `full`: nightly; must also beat popularity. `micro`: hourly; must not have forgotten.
    evaluation
        Held-out feedback ranked by `CANDIDATE`, `CHAMPION` if there is one, and baselines.
    settings
        Margins in `settings.gate`, resamples and confidence in `settings.evaluation`.
    guard
        The guard users' cases ranked by candidate and champion; for micro-updates.
    fresher
        The candidate has trained on newer feedback than the champion, which makes a non-inferior
        candidate worth promoting unless `gate.require_superiority` is set.
    """
    checks = [_finite(evaluation, guard), _enough_users(evaluation, settings)]
    if checks[0].verdict == FAIL:
        return _decision("reject", "candidate_scores_not_finite", checks, checks[0], evaluation)
    if checks[1].verdict == FAIL:
        return _decision("hold", "too_few_users", checks, checks[1], evaluation)
    if CHAMPION in evaluation.scorers and CHAMPION not in evaluation.failures:
        return _decide_against_champion(kind, evaluation, settings, guard, fresher, checks)
    return _decide_without_champion(kind, evaluation, settings, checks)


def _decide_against_champion(
    kind: str,
    evaluation: Evaluation,
    settings: Settings,
    guard: Evaluation | None,
    fresher: bool,
    checks: list[Check],
) -> Decision:
    not_worse, better = _against_champion(evaluation, settings)
    coverage = _coverage(evaluation, settings)
    checks += [not_worse, better, coverage]
    if kind == "full":
        popularity = _popularity(evaluation, settings)
        checks.append(popularity)
    else:
        popularity = None
        checks.append(_forgetting(guard, settings))

    if not_worse.verdict == FAIL:
        return _decision("reject", "worse_than_champion", checks, not_worse, evaluation)
    if popularity is not None and popularity.verdict == FAIL:
        return _decision("reject", "worse_than_popularity", checks, popularity, evaluation)
    if coverage.verdict == FAIL:
        return _decision("reject", "coverage_too_low", checks, coverage, evaluation)
    if kind == "micro" and checks[-1].verdict == FAIL:
        return _decision("hold", "forgets_old_behaviour", checks, checks[-1], evaluation)
    if not_worse.verdict == INCONCLUSIVE:
        return _decision("hold", "non_inferiority_not_shown", checks, not_worse, evaluation)
    if popularity is not None and popularity.verdict == INCONCLUSIVE:
        return _decision("hold", "not_shown_better_than_popularity", checks, popularity, evaluation)
    if better.verdict == PASS:
        return _decision("promote", "better_than_champion", checks, better, evaluation)
    if kind == "full" and settings.gate.require_superiority:
        return _decision("hold", "not_shown_better_than_champion", checks, better, evaluation)
    if not fresher:
        return _decision("hold", "not_better_and_not_fresher", checks, better, evaluation)
    return _decision("promote", "non_inferior_and_fresher", checks, not_worse, evaluation)


def _decide_without_champion(
    kind: str, evaluation: Evaluation, settings: Settings, checks: list[Check]
) -> Decision:
    if kind == "micro":
        sentence = "A micro-update needs a champion with sound scores to be compared with."
        no_champion = Check("has_champion", FAIL, 0, None, None, 1, sentence)
        return _decision("hold", "no_champion", [*checks, no_champion], no_champion, evaluation)
    popularity = _popularity(evaluation, settings)
    checks.append(popularity)
    if popularity.verdict == FAIL:
        return _decision("reject", "worse_than_popularity", checks, popularity, evaluation)
    if popularity.verdict == INCONCLUSIVE and (popularity.observed or 0.0) <= 0:
        return _decision("hold", "not_shown_better_than_popularity", checks, popularity, evaluation)
    if CHAMPION in evaluation.failures:
        return _decision("promote", "champion_unusable", checks, popularity, evaluation)
    # A system without any champion serves nobody: the first model needs to look better only.
    return _decision("promote", "first_champion", checks, popularity, evaluation)


def _finite(evaluation: Evaluation, guard: Evaluation | None) -> Check:
    failures = [
        part.failures[CANDIDATE] for part in (evaluation, guard) if part and CANDIDATE in part.failures
    ]
    value = evaluation.mean(CANDIDATE, ndcg_name(evaluation.k))
    if not failures and evaluation.users and not np.isfinite(value):
        failures = ["a metric is NaN"]
    explanation = f"The candidate is unusable: {failures[0]}." if failures else "All scores are finite."
    return Check(
        "scores_are_finite", FAIL if failures else PASS, 0 if failures else 1, None, None, 1, explanation
    )


def _enough_users(evaluation: Evaluation, settings: Settings) -> Check:
    users, needed = evaluation.users, settings.gate.min_evaluated_users
    return Check(
        "enough_users",
        PASS if users >= needed else FAIL,
        users,
        None,
        None,
        needed,
        f"{users} users have held-out feedback; a decision needs {needed}.",
    )


def _against_champion(evaluation: Evaluation, settings: Settings) -> tuple[Check, Check]:
    metric = ndcg_name(evaluation.k)
    champion = evaluation.mean(CHAMPION, metric)
    margin = settings.gate.non_inferiority_margin
    threshold = -margin * champion
    interval = evaluation.compare(CANDIDATE, CHAMPION, metric, settings.evaluation)
    seen = _seen(evaluation, CHAMPION, "the champion's", interval, settings)
    if interval.low >= threshold:
        verdict, sentence = PASS, f"The candidate is at most {margin:.0%} worse than the champion: {seen}."
    elif interval.high < threshold:
        verdict, sentence = FAIL, f"The candidate is more than {margin:.0%} worse than the champion: {seen}."
    else:
        verdict = INCONCLUSIVE
        sentence = f"The feedback cannot show that the candidate is at most {margin:.0%} worse: {seen}."
    not_worse = _check("not_worse_than_champion", verdict, interval, threshold, sentence)
    better = interval.low > 0
    sentence = (
        f"The candidate is {'better' if better else 'not shown to be better'} than the champion: {seen}."
    )
    return not_worse, _check(
        "better_than_champion", PASS if better else INCONCLUSIVE, interval, 0.0, sentence
    )


def _popularity(evaluation: Evaluation, settings: Settings) -> Check:
    if POPULARITY not in evaluation.scorers:
        raise ValueError(
            f"the gate needs the baseline {POPULARITY!r}, the evaluation has {evaluation.scorers}"
        )
    interval = evaluation.compare(CANDIDATE, POPULARITY, ndcg_name(evaluation.k), settings.evaluation)
    seen = _seen(evaluation, POPULARITY, "that of popularity", interval, settings)
    if interval.low > 0:
        verdict, sentence = PASS, f"The candidate beats popularity: {seen}."
    elif interval.high < 0:
        verdict, sentence = FAIL, f"The candidate is worse than popularity: {seen}."
    else:
        verdict, sentence = INCONCLUSIVE, f"The candidate is not shown to beat popularity: {seen}."
    return _check("better_than_popularity", verdict, interval, 0.0, sentence)


def _coverage(evaluation: Evaluation, settings: Settings) -> Check:
    candidate, champion = evaluation.coverage[CANDIDATE], evaluation.coverage[CHAMPION]
    threshold = (1 - settings.gate.coverage_margin) * champion
    return Check(
        "catalogue_coverage",
        PASS if candidate >= threshold else FAIL,
        candidate,
        None,
        None,
        threshold,
        f"The lists of the candidate cover {candidate:.1%} of the catalogue, those of the champion "
        f"{champion:.1%}; at least {threshold:.1%} is needed.",
    )


def _forgetting(guard: Evaluation | None, settings: Settings) -> Check:
    if guard is None or guard.users == 0 or CHAMPION not in guard.scorers:
        return Check(
            "forgetting", NOT_APPLICABLE, None, None, None, None, "There are no guard users to measure it on."
        )
    metric = ndcg_name(guard.k)
    margin = settings.gate.forgetting_margin
    threshold = -margin * guard.mean(CHAMPION, metric)
    interval = guard.compare(CANDIDATE, CHAMPION, metric, settings.evaluation)
    seen = _seen(guard, CHAMPION, "the champion's", interval, settings)
    # The observed fall decides: few guard users must not switch the guard off.
    kept = interval.value >= threshold
    sentence = (
        f"On old behaviour the candidate has lost {'no ' if kept else ''}more than {margin:.0%}: {seen}."
    )
    return _check("forgetting", PASS if kept else FAIL, interval, threshold, sentence)


def _check(name: str, verdict: Verdict, interval: Interval, threshold: float, explanation: str) -> Check:
    return Check(name, verdict, interval.value, interval.low, interval.high, threshold, explanation)


def _seen(evaluation: Evaluation, other: str, whose: str, interval: Interval, settings: Settings) -> str:
    metric = ndcg_name(evaluation.k)
    return (
        f"NDCG@{evaluation.k} {evaluation.mean(CANDIDATE, metric):.4f} against {whose} "
        f"{evaluation.mean(other, metric):.4f}, difference {interval.value:+.4f} "
        f"({settings.evaluation.confidence:.0%} interval {interval.low:+.4f} to {interval.high:+.4f}, "
        f"{evaluation.users} users)"
    )


def _decision(
    action: Action, reason: str, checks: Sequence[Check], deciding: Check, evaluation: Evaluation
) -> Decision:
    return Decision(action, reason, deciding.explanation, tuple(checks), evaluation.champion_version)
