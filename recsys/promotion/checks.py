"""The questions that the gate asks: each one named, with what it saw, its threshold and its verdict."""

from collections.abc import Mapping

import numpy as np

from recsys.evaluation.bootstrap import Interval, holm
from recsys.evaluation.liking import Liking
from recsys.evaluation.off_policy.compare import OffPolicyComparison
from recsys.evaluation.ranking.baselines import POPULARITY
from recsys.evaluation.ranking.metrics import diversity_name, ndcg_name, novelty_name
from recsys.evaluation.result import CANDIDATE, CHAMPION, Evaluation
from recsys.promotion.decision import FAIL, INCONCLUSIVE, NOT_APPLICABLE, PASS, Check, Verdict
from recsys.settings import Settings
from recsys.snapshot.guard import has_forgotten

_MIN_OPINIONS = 100
_OFF_POLICY_METHOD = "snips"


def comparison_possible(evaluation: Evaluation) -> Check:
    """Whether there was anything to compare at all."""
    why = evaluation.impossible
    sentence = "There is held-out feedback." if why is None else f"The candidate cannot be judged: {why}."
    return Check("comparison_possible", PASS if why is None else FAIL, None, None, None, None, sentence)


def has_champion() -> Check:
    """What a micro-update without champion fails."""
    sentence = "A micro-update needs a champion with sound scores to be compared with."
    return Check("has_champion", FAIL, 0, None, None, 1, sentence)


def scores_are_finite(evaluation: Evaluation, guard: Evaluation | None) -> Check:
    """Whether the candidate gives numbers everywhere."""
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


def enough_users(evaluation: Evaluation, settings: Settings) -> Check:
    """Whether enough users have held-out feedback."""
    users, needed = evaluation.users, settings.gate.min_evaluated_users
    sentence = f"{users} users have held-out feedback; a decision needs {needed}."
    return Check("enough_users", PASS if users >= needed else FAIL, users, None, None, needed, sentence)


def against_champion(evaluation: Evaluation, settings: Settings) -> tuple[Check, Check]:
    """Whether the candidate is shown to be not much worse than the champion, and to be better."""
    metric = ndcg_name(evaluation.k)
    champion = evaluation.mean(CHAMPION, metric)
    margin = settings.gate.non_inferiority_margin
    threshold = -margin * champion
    interval = evaluation.compare(CANDIDATE, CHAMPION, metric, settings.evaluation)
    seen = _seen(evaluation, CHAMPION, "the champion's", interval, settings)
    power = _power(interval, margin * champion, settings)
    if interval.low >= threshold:
        verdict, sentence = PASS, f"The candidate is at most {margin:.0%} worse than the champion: {seen}."
    elif interval.high < threshold:
        verdict, sentence = FAIL, f"The candidate is more than {margin:.0%} worse than the champion: {seen}."
    else:
        verdict = INCONCLUSIVE
        sentence = (
            f"The feedback cannot show that the candidate is at most {margin:.0%} worse: {seen}. {power}"
        )
    not_worse = _check("not_worse_than_champion", verdict, interval, threshold, sentence)
    if interval.low > 0:
        better = _check(
            "better_than_champion", PASS, interval, 0.0, f"The candidate is better than the champion: {seen}."
        )
    else:
        sentence = f"The candidate is not shown to be better than the champion: {seen}. {power}"
        better = _check("better_than_champion", INCONCLUSIVE, interval, 0.0, sentence)
    return not_worse, better


def better_than_popularity(evaluation: Evaluation, settings: Settings) -> Check:
    """Whether the candidate beats what needs no model."""
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


def catalogue_coverage(evaluation: Evaluation, settings: Settings) -> Check:
    """Whether the lists together still show enough of the catalogue."""
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


def on_slices(evaluation: Evaluation, settings: Settings) -> Check:
    """Whether any slice of users or items is shown to be served much worse, corrected for their number."""
    name, metric, margin = "not_worse_on_slices", ndcg_name(evaluation.k), settings.gate.slice_margin
    found: dict[str, tuple[Interval, float]] = {}
    for slice_name, part in evaluation.slices.items():
        few = len(part.cases) < settings.evaluation.min_slice_users
        champion = evaluation.mean(CHAMPION, metric, slice_name)
        if slice_name == evaluation.main_slice or few or not champion > 0:
            continue
        allowed = margin * champion
        shifted = evaluation.compare(
            CANDIDATE, CHAMPION, metric, settings.evaluation, slice_name, shift=allowed
        )
        found[slice_name] = shifted, allowed
    if not found:
        sentence = f"No slice has {settings.evaluation.min_slice_users} users."
        return Check(name, NOT_APPLICABLE, None, None, None, None, sentence)
    one_sided = [each.p_value / 2 if each.value < 0 else 1.0 for each, _ in found.values()]
    corrected = dict(zip(found, holm(one_sided), strict=True))
    worst = min(found, key=lambda each: (corrected[each], found[each][0].value - found[each][1]))
    shifted, allowed = found[worst]
    failed = corrected[worst] < (1 - settings.evaluation.confidence) / 2
    interval = Interval(shifted.value - allowed, shifted.low - allowed, shifted.high - allowed)
    users = len(evaluation.slices[worst].cases)
    sentence = (
        f"The candidate is {'' if failed else 'not shown to be '}more than {margin:.0%} worse on "
        f"{'slice' if failed else 'any slice; worst is'} {worst}: difference {interval.value:+.4f} "
        f"({interval.low:+.4f} to {interval.high:+.4f}, {users} users, p {corrected[worst]:.3f} corrected "
        f"for {len(found)} slices)."
    )
    return _check(name, FAIL if failed else PASS, interval, -allowed, sentence)


def list_checks(evaluation: Evaluation, settings: Settings) -> list[Check]:
    """Whether the users' lists have become much more alike within, or much more popular."""
    gate = settings.gate
    asked = (
        ("list_diversity", diversity_name(evaluation.k), gate.diversity_margin, "diversity"),
        ("novelty", novelty_name(evaluation.k), gate.novelty_margin, "novelty"),
    )
    checks = []
    for name, metric, margin, word in asked:
        champion = evaluation.mean(CHAMPION, metric)
        interval = evaluation.compare(CANDIDATE, CHAMPION, metric, settings.evaluation)
        if not np.isfinite(interval.value):
            sentence = f"The {word} of the lists was not measured."
            checks.append(Check(name, NOT_APPLICABLE, None, None, None, None, sentence))
            continue
        kept = interval.value >= -margin * champion
        sentence = (
            f"The {word} of the lists has {'not ' if kept else ''}fallen by more than {margin:.0%}: "
            f"{evaluation.mean(CANDIDATE, metric):.3f} against the champion's {champion:.3f}."
        )
        checks.append(_check(name, PASS if kept else FAIL, interval, -margin * champion, sentence))
    return checks


def liking_checks(liking: Mapping[str, Liking], settings: Settings) -> list[Check]:
    """Whether predicted likes still mean what they say, and still tell likes from dislikes."""
    names = ("liking_calibration", "liking_auc")
    candidate, champion = liking.get(CANDIDATE), liking.get(CHAMPION)
    if candidate is None or champion is None or candidate.events < _MIN_OPINIONS:
        sentence = f"There are fewer than {_MIN_OPINIONS} held-out likes and dislikes to measure it on."
        return [Check(name, NOT_APPLICABLE, None, None, None, None, sentence) for name in names]
    limit = champion.ece + settings.gate.calibration_margin
    sentence = (
        f"The liking head's calibration error is {candidate.ece:.3f}, the champion's {champion.ece:.3f}; at "
        f"most {limit:.3f} is allowed ({candidate.events} likes and dislikes)."
    )
    verdict = PASS if candidate.ece <= limit else FAIL
    checks = [Check(names[0], verdict, candidate.ece, None, None, limit, sentence)]
    if candidate.auc is None or champion.auc is None:
        sentence = "Likes only, or dislikes only, were held out."
        return [*checks, Check(names[1], NOT_APPLICABLE, None, None, None, None, sentence)]
    least = champion.auc - settings.gate.auc_margin
    sentence = (
        f"The liking head tells a like from a dislike {candidate.auc:.1%} of the time, the champion "
        f"{champion.auc:.1%}; at least {least:.1%} is needed."
    )
    verdict = PASS if candidate.auc >= least else FAIL
    return [*checks, Check(names[1], verdict, candidate.auc, None, None, least, sentence)]


def off_policy_value(found: OffPolicyComparison | None, settings: Settings) -> Check:
    """Whether the candidate would have earned much less on the slates that were shown."""
    name = "off_policy_value"
    if found is None or CANDIDATE not in found.values or CHAMPION not in found.values:
        sentence = "There are no logged slates with propensities since the models were trained."
        return Check(name, NOT_APPLICABLE, None, None, None, None, sentence)
    for scorer in (CANDIDATE, CHAMPION):
        problem = found.values[scorer].problem
        if problem is not None:
            sentence = f"Logged slates allow no conclusion for the {scorer}: {problem}"
            return Check(name, NOT_APPLICABLE, None, None, None, None, sentence)
    [difference] = [each for each in found.differences if each.method == _OFF_POLICY_METHOD]
    [champion] = [
        each.value for each in found.values[CHAMPION].estimates if each.method == _OFF_POLICY_METHOD
    ]
    margin = settings.gate.off_policy_margin
    threshold = -margin * champion
    verdict = PASS if difference.low >= threshold else FAIL if difference.high < threshold else INCONCLUSIVE
    said = {
        PASS: f"is at most {margin:.0%} worse",
        FAIL: f"is more than {margin:.0%} worse",
        INCONCLUSIVE: f"cannot be shown to be at most {margin:.0%} worse",
    }
    sentence = (
        f"On {found.slates} logged slates the candidate {said[verdict]} than the champion ({found.reward}, "
        f"{champion:.4f}): difference {difference.value:+.4f} ({difference.low:+.4f} to "
        f"{difference.high:+.4f})."
    )
    interval = Interval(difference.value, difference.low, difference.high)
    return _check(name, verdict, interval, threshold, sentence)


def forgetting(guard: Evaluation | None, settings: Settings) -> Check:
    """Whether a micro-update has lost old behaviour."""
    if guard is None or guard.users == 0 or CHAMPION not in guard.scorers:
        return Check(
            "forgetting", NOT_APPLICABLE, None, None, None, None, "There are no guard users to measure it on."
        )
    metric = ndcg_name(guard.k)
    champion, margin = guard.mean(CHAMPION, metric), settings.gate.forgetting_margin
    interval = guard.compare(CANDIDATE, CHAMPION, metric, settings.evaluation)
    seen = _seen(guard, CHAMPION, "the champion's", interval, settings)
    forgotten = has_forgotten(champion, interval.value, guard.users, settings.gate)
    if forgotten is None:
        needed = settings.gate.min_evaluated_users
        verdict = INCONCLUSIVE
        sentence = f"{guard.users} guard users cannot tell what was forgotten, which takes {needed}: {seen}."
    else:
        verdict = FAIL if forgotten else PASS
        lost = "" if forgotten else "no "
        sentence = f"On old behaviour the candidate has lost {lost}more than {margin:.0%}: {seen}."
    return _check("forgetting", verdict, interval, -margin * champion, sentence)


def _check(name: str, verdict: Verdict, interval: Interval, threshold: float, explanation: str) -> Check:
    detectable = interval.detectable if np.isfinite(interval.detectable) else None
    return Check(
        name, verdict, interval.value, interval.low, interval.high, threshold, explanation, detectable
    )


def _power(interval: Interval, relevant: float, settings: Settings) -> str:
    """Say whether not having found a difference means that there is none."""
    chance = f"{settings.evaluation.power:.0%}"
    if interval.detectable <= relevant:
        return (
            f"No difference: one of {interval.detectable:.4f} would have been found with a probability of "
            f"{chance}."
        )
    return (
        f"Too little data: only a difference of {interval.detectable:.4f} or more would be found with a "
        f"probability of {chance}."
    )


def _seen(evaluation: Evaluation, other: str, whose: str, interval: Interval, settings: Settings) -> str:
    metric = ndcg_name(evaluation.k)
    return (
        f"NDCG@{evaluation.k} {evaluation.mean(CANDIDATE, metric):.4f} against {whose} "
        f"{evaluation.mean(other, metric):.4f}, difference {interval.value:+.4f} "
        f"({settings.evaluation.confidence:.0%} interval {interval.low:+.4f} to {interval.high:+.4f}, "
        f"{evaluation.users} users)"
    )
