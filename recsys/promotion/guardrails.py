"""Guardrails of the gate: what a more accurate candidate must not break.

Slices of users and items, catalogue coverage, diversity and novelty of the lists, the liking head, reward on
logged slates, and what a micro-update has forgotten.
"""

from collections.abc import Mapping

import numpy as np

from recsys.evaluation.bootstrap import Interval, holm
from recsys.evaluation.labels import label
from recsys.evaluation.liking import Liking
from recsys.evaluation.off_policy.compare import OffPolicyComparison
from recsys.evaluation.ranking.metrics import diversity_name, ndcg_name, novelty_name
from recsys.evaluation.ranking.slices import MIN_SLICE_USERS
from recsys.evaluation.result import CANDIDATE, CHAMPION, Evaluation
from recsys.promotion.checks import change, check, means, not_applicable, percent
from recsys.promotion.decision import FAIL, INCONCLUSIVE, PASS, Check
from recsys.settings import Settings
from recsys.snapshot.guard import has_forgotten

_MIN_OPINIONS = 100
"""Likes and dislikes below which calibration and AUC are noise."""


def catalogue_coverage(evaluation: Evaluation, settings: Settings) -> Check:
    """Check that the users' lists together still show enough of the catalogue."""
    candidate, champion = evaluation.coverage[CANDIDATE], evaluation.coverage[CHAMPION]
    least = (1 - settings.gate.coverage_margin) * champion
    covered = candidate >= least
    explanation = (
        f"catalogue coverage {'' if covered else 'is too low, '}{100 * candidate:.1f} % (champion "
        f"{100 * champion:.1f} %, at least {100 * least:.1f} % is needed; {evaluation.users} users)."
    )
    return check(
        "catalogue_coverage",
        PASS if covered else FAIL,
        explanation,
        observed=candidate,
        threshold=least,
    )


def on_slices(evaluation: Evaluation, settings: Settings) -> Check:
    """Check that no slice is shown to be much worse, with p-values corrected for the number of slices."""
    name, metric, margin = "not_worse_on_slices", ndcg_name(evaluation.k), settings.gate.slice_margin
    found: dict[str, tuple[Interval, float]] = {}
    for slice_name, part in evaluation.slices.items():
        champion = evaluation.mean(CHAMPION, metric, slice_name)
        if slice_name == evaluation.main_slice or len(part.cases) < MIN_SLICE_USERS or not champion > 0:
            continue
        allowed = margin * champion
        shifted = evaluation.compare(
            CANDIDATE, CHAMPION, metric, settings.evaluation, slice_name, shift=allowed
        )
        found[slice_name] = shifted, allowed
    if not found:
        return not_applicable(name, f"no slice has {MIN_SLICE_USERS} users.")
    one_sided = [each.p_value / 2 if each.value < 0 else 1.0 for each, _ in found.values()]
    corrected = dict(zip(found, holm(one_sided), strict=True))
    worst = min(found, key=lambda each: (corrected[each], found[each][0].value - found[each][1]))
    shifted, allowed = found[worst]
    failed = corrected[worst] < (1 - settings.evaluation.confidence) / 2
    interval = Interval(shifted.value - allowed, shifted.low - allowed, shifted.high - allowed)
    explanation = (
        f"{'worse on slice' if failed else 'not shown to be worse on any slice; the worst is'} {worst} "
        f"({change(label(metric), interval, settings)}; margin {percent(margin)}; "
        f"{len(evaluation.slices[worst].cases)} users; p {corrected[worst]:.3f}, corrected for {len(found)} "
        "slices)."
    )
    return check(name, FAIL if failed else PASS, explanation, interval=interval, threshold=-allowed)


def list_checks(evaluation: Evaluation, settings: Settings) -> list[Check]:
    """Check that the users' lists have not become much less diverse or much more popular."""
    margin = settings.gate.list_margin
    checks = []
    for name, metric in (
        ("list_diversity", diversity_name(evaluation.k)),
        ("novelty", novelty_name(evaluation.k)),
    ):
        interval = evaluation.compare(CANDIDATE, CHAMPION, metric, settings.evaluation)
        if not np.isfinite(interval.value):
            checks.append(not_applicable(name, f"{label(metric)} of the lists was not measured."))
            continue
        allowed = margin * evaluation.mean(CHAMPION, metric)
        kept = interval.value >= -allowed
        explanation = (
            f"{label(metric)} of the lists {'is kept' if kept else 'has fallen'} "
            f"({change(label(metric), interval, settings)}; margin {percent(margin)}). "
            f"{means(evaluation, CHAMPION, metric)}"
        )
        verdict = PASS if kept else FAIL
        checks.append(check(name, verdict, explanation, interval=interval, threshold=-allowed))
    return checks


def liking_checks(liking: Mapping[str, Liking], settings: Settings) -> list[Check]:
    """Check that predicted likes are still calibrated, and still separate likes from dislikes."""
    calibration, auc = "liking_calibration", "liking_auc"
    candidate, champion = liking.get(CANDIDATE), liking.get(CHAMPION)
    if candidate is None or champion is None or candidate.events < _MIN_OPINIONS:
        few = f"there are fewer than {_MIN_OPINIONS} held-out likes and dislikes to measure it."
        return [not_applicable(name, few) for name in (calibration, auc)]
    limit = champion.ece + settings.gate.calibration_margin
    kept = candidate.ece <= limit
    explanation = (
        f"the liking head is {'' if kept else 'not '}calibrated well enough (calibration error "
        f"{candidate.ece:.3f}, champion {champion.ece:.3f}, at most {limit:.3f} is allowed; "
        f"{candidate.events} likes and dislikes)."
    )
    checks = [
        check(calibration, PASS if kept else FAIL, explanation, observed=candidate.ece, threshold=limit)
    ]
    if candidate.auc is None or champion.auc is None:
        return [*checks, not_applicable(auc, "only likes or only dislikes were held out.")]
    least = champion.auc - settings.gate.auc_margin
    kept = candidate.auc >= least
    explanation = (
        f"the liking head {'separates' if kept else 'does not separate'} likes from dislikes well enough "
        f"(AUC {candidate.auc:.3f}, champion {champion.auc:.3f}, at least {least:.3f} is needed; "
        f"{candidate.events} likes and dislikes)."
    )
    return [
        *checks,
        check(auc, PASS if kept else FAIL, explanation, observed=candidate.auc, threshold=least),
    ]


def off_policy_value(found: OffPolicyComparison | None, settings: Settings) -> Check:
    """Check that the candidate is not estimated to earn much less on logged slates."""
    name = "off_policy_value"
    if found is None or found.difference is None or found.observed is None:
        return not_applicable(name, "no slates with propensities were logged since the models were trained.")
    if found.problem is not None:
        return not_applicable(name, f"logged slates allow no conclusion: {found.problem}.")
    difference, margin = found.difference, settings.gate.off_policy_margin
    allowed = margin * found.observed
    if difference.low >= -allowed:
        verdict, outcome = PASS, "non-inferior on logged slates"
    elif difference.high < -allowed:
        verdict, outcome = FAIL, "worse than the champion on logged slates"
    else:
        verdict, outcome = INCONCLUSIVE, "non-inferiority on logged slates not shown"
    interval = Interval(difference.value, difference.low, difference.high)
    explanation = (
        f"{outcome} ({change(found.reward, interval, settings)}; margin {percent(margin)}). As shown "
        f"{found.observed:.4f}, {found.slates} slates, {difference.users} users."
    )
    return check(name, verdict, explanation, interval=interval, threshold=-allowed)


def forgetting(guard: Evaluation | None, settings: Settings) -> Check:
    """Check that a micro-update still ranks the past events of guard users as well as its parent."""
    name = "forgetting"
    if guard is None or guard.users == 0 or CHAMPION not in guard.scorers:
        return not_applicable(name, "there are no guard users to measure it.")
    metric = ndcg_name(guard.k)
    champion, margin = guard.mean(CHAMPION, metric), settings.gate.forgetting_margin
    interval = guard.compare(CANDIDATE, CHAMPION, metric, settings.evaluation)
    forgotten = has_forgotten(champion, interval.value, guard.users, settings.gate)
    if forgotten is None:
        verdict = INCONCLUSIVE
        outcome = f"fewer than {settings.gate.min_evaluated_users} guard users cannot show forgetting"
    elif forgotten:
        verdict, outcome = FAIL, "past behaviour of guard users is forgotten"
    else:
        verdict, outcome = PASS, "past behaviour of guard users is not forgotten"
    explanation = (
        f"{outcome} ({change(label(metric), interval, settings)}; margin {percent(margin)}). "
        f"{means(guard, CHAMPION, metric)}"
    )
    return check(name, verdict, explanation, interval=interval, threshold=-margin * champion)
