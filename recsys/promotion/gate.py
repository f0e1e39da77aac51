"""The promotion gate: decide on a candidate from the evidence of an evaluation.

Pure functions. `recsys.promotion.checks` and `recsys.promotion.guardrails` make the checks. `RULES` gives the
action for a check that fails or is inconclusive; settings override it by the check's name. The strictest
action decides. A candidate that is shown to be worse is rejected, a candidate that is not shown to be good
enough is held: a bad model is not the same as too little data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from recsys.errors import ConfigurationError
from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.liking import Liking
from recsys.evaluation.off_policy.compare import OffPolicyComparison
from recsys.evaluation.result import CHAMPION, Evaluation
from recsys.promotion.checks import (
    against_champion,
    better_than_popularity,
    comparison_possible,
    enough_users,
    has_champion,
    passable_margin,
    scores_are_finite,
)
from recsys.promotion.decision import (
    ASK,
    FAIL,
    HOLD,
    INCONCLUSIVE,
    PASS,
    PROMOTE,
    REJECT,
    Action,
    Check,
    Decision,
)
from recsys.promotion.guardrails import (
    catalogue_coverage,
    forgetting,
    liking_checks,
    list_checks,
    off_policy_value,
    on_slices,
)
from recsys.promotion.outcome import OUTCOMES
from recsys.promotion.superiority import Superiority
from recsys.settings import GateAction, Settings


class Rule(NamedTuple):
    """Reason and action for a check that fails, and for one that is inconclusive."""

    failed: str
    on_fail: GateAction
    unclear: str = ""
    on_inconclusive: GateAction = "ignore"


RULES: dict[str, Rule] = {
    "comparison_possible": Rule("comparison_impossible", "hold"),
    "scores_are_finite": Rule("candidate_scores_not_finite", "reject"),
    "enough_users": Rule("too_few_users", "hold"),
    "has_champion": Rule("no_champion", "hold"),
    "not_worse_than_champion": Rule("worse_than_champion", "reject", "non_inferiority_not_shown", "hold"),
    "better_than_popularity": Rule(
        "worse_than_popularity", "reject", "not_shown_better_than_popularity", "hold"
    ),
    "catalogue_coverage": Rule("coverage_too_low", "reject"),
    "not_worse_on_slices": Rule("worse_on_slice", "reject"),
    "off_policy_value": Rule("worse_on_shown_slates", "reject", "value_on_shown_slates_unclear"),
    "forgetting": Rule("forgets_old_behaviour", "hold", "too_few_guard_users"),
    "list_diversity": Rule("lists_less_diverse", "hold"),
    "novelty": Rule("popularity_bias", "hold"),
    "liking_calibration": Rule("calibration_worse", "hold"),
    "liking_auc": Rule("liking_worse", "hold"),
    "better_than_champion": Rule("", "ignore", "not_shown_better_than_champion"),
}
"""By check name, the most important reasons first; settings override the actions."""

_STALE = "not_better_and_not_fresher"
_STRICTEST_FIRST: tuple[Action, ...] = (REJECT, HOLD, ASK)


def decide(
    kind: Literal["full", "micro"],
    evaluation: Evaluation,
    settings: Settings,
    guard: Evaluation | None = None,
    fresher: bool = True,
    off_policy: OffPolicyComparison | None = None,
    liking: Mapping[str, Liking] | None = None,
    superiority: Superiority | None = None,
) -> Decision:
    """Decide on a candidate from its evaluation with the champion and the baselines.

    Parameters
    ----------
    kind
        `full`: nightly; must also beat popularity. `micro`: hourly; must not have forgotten.
    evaluation
        Held-out feedback ranked by `CANDIDATE`, by `CHAMPION` if there is one, and by baselines.
    settings
        Margins and actions in `settings.gate`, resamples and confidence in `settings.evaluation`.
    guard
        Past events of guard users ranked by candidate and champion; micro-updates only.
    fresher
        Whether the candidate has trained on newer feedback than the champion. A fresher candidate is
        promoted when it is non-inferior, unless `gate.require_superiority` is set.
    off_policy
        Estimated rewards of both on logged slates.
    liking
        Calibration and AUC of the liking head, by scorer.
    superiority
        The test whether the candidate is better, at the level that the month has left; None: the interval of
        `evaluation.confidence` decides, as if this were the only test.

    Raises
    ------
    ConfigurationError
        The settings name a check that does not exist.
    """
    rules = _rules(kind, settings, fresher)
    checks = [comparison_possible(evaluation)]
    if checks[0].verdict == PASS:
        checks += [scores_are_finite(evaluation, guard), enough_users(evaluation, settings)]
    # The other checks cannot be computed without these, so no setting can ignore them.
    for check in checks:
        if check.verdict == FAIL:
            rule = RULES[check.name]
            action = REJECT if rule.on_fail == REJECT else HOLD
            return _decision(action, rule.failed, checks, check, evaluation)
    if CHAMPION in evaluation.scorers and CHAMPION not in evaluation.failures:
        guardrails = _guardrails(kind, evaluation, settings, guard, off_policy, liking or {})
        count = 1 + sum(check.detectable is not None for check in guardrails)
        checks += [*against_champion(evaluation, settings, superiority, count)]
        checks += [_of_all(check, count, settings) for check in guardrails]
        return _decide_against_champion(rules, checks, evaluation)
    return _decide_without_champion(kind, rules, evaluation, settings, checks)


def _rules(kind: str, settings: Settings, fresher: bool) -> dict[str, Rule]:
    gate = settings.gate
    unknown = (set(gate.on_fail) | set(gate.on_inconclusive)) - set(RULES)
    if unknown:
        raise ConfigurationError(
            f"RECSYS_GATE__ON_FAIL or RECSYS_GATE__ON_INCONCLUSIVE names {sorted(unknown)}; the checks are "
            f"{', '.join(RULES)}"
        )
    rules = dict(RULES)
    if kind == "full" and gate.require_superiority:
        rules["better_than_champion"] = rules["better_than_champion"]._replace(on_inconclusive="hold")
    elif not fresher:
        rules["better_than_champion"] = Rule("", "ignore", _STALE, "hold")
    return {
        name: rule._replace(
            on_fail=gate.on_fail.get(name, rule.on_fail),
            on_inconclusive=gate.on_inconclusive.get(name, rule.on_inconclusive),
        )
        for name, rule in rules.items()
    }


def _of_all(check: Check, guardrails: int, settings: Settings) -> Check:
    """Return a guardrail whose detectable figure accounts for the others, see `passable_margin`."""
    if check.detectable is None:
        return check
    interval = Interval(0.0, 0.0, 0.0, detectable=check.detectable)
    return replace(check, detectable=passable_margin(interval, guardrails, settings))


def _guardrails(
    kind: str,
    evaluation: Evaluation,
    settings: Settings,
    guard: Evaluation | None,
    off_policy: OffPolicyComparison | None,
    liking: Mapping[str, Liking],
) -> list[Check]:
    return [
        catalogue_coverage(evaluation, settings),
        on_slices(evaluation, settings),
        *list_checks(evaluation, settings),
        *liking_checks(liking, settings),
        off_policy_value(off_policy, settings),
        better_than_popularity(evaluation, settings) if kind == "full" else forgetting(guard, settings),
    ]


def _decide_against_champion(
    rules: Mapping[str, Rule], checks: Sequence[Check], evaluation: Evaluation
) -> Decision:
    objection = _strictest(rules, checks)
    if objection is not None:
        action, reason, check = objection
        remark = "It has trained on no newer feedback." if reason == _STALE else ""
        return _decision(action, reason, checks, check, evaluation, remark=remark)
    by_name = {check.name: check for check in checks}
    not_worse, better = by_name["not_worse_than_champion"], by_name["better_than_champion"]
    if better.verdict == PASS:
        reason, check = "better_than_champion", better
    elif not_worse.verdict == PASS:
        reason, check = "non_inferior_and_fresher", not_worse
    else:
        reason, check = "champion_comparison_ignored", not_worse
    return _decision(PROMOTE, reason, checks, check, evaluation, remark=_ignored(rules, checks))


def _strictest(rules: Mapping[str, Rule], checks: Sequence[Check]) -> tuple[Action, str, Check] | None:
    """Return the strictest action of the checks; failed checks come before inconclusive ones."""
    by_name = {check.name: check for check in checks}
    failed = [(n, r.on_fail, r.failed, FAIL) for n, r in rules.items()]
    unclear = [(n, r.on_inconclusive, r.unclear, INCONCLUSIVE) for n, r in rules.items()]
    for strictest in _STRICTEST_FIRST:
        for name, action, reason, verdict in failed + unclear:
            check = by_name.get(name)
            if action == strictest and check is not None and check.verdict == verdict:
                return strictest, reason, check
    return None


def _ignored(rules: Mapping[str, Rule], checks: Sequence[Check]) -> str:
    """Return the checks that would have stopped a promotion if they were not ignored, as a sentence."""
    names = [
        f"{check.name} ({'failed' if check.verdict == FAIL else 'inconclusive'})"
        for check in checks
        # Not being better never stops a fresher candidate, so it is not an ignored objection.
        if check.name != "better_than_champion"
        and (
            (check.verdict == FAIL and rules[check.name].on_fail == "ignore")
            or (check.verdict == INCONCLUSIVE and rules[check.name].on_inconclusive == "ignore")
        )
    ]
    return f"Ignored: {', '.join(names)}." if names else ""


def _decide_without_champion(
    kind: str, rules: Mapping[str, Rule], evaluation: Evaluation, settings: Settings, checks: list[Check]
) -> Decision:
    if kind == "micro":
        check = has_champion()
        return _decision(HOLD, RULES[check.name].failed, [*checks, check], check, evaluation)
    popularity = better_than_popularity(evaluation, settings)
    checks.append(popularity)
    # Without a champion nobody gets recommendations, so the first model only has to look better.
    looks_better = popularity.verdict == INCONCLUSIVE and (popularity.observed or 0.0) > 0
    objection = None if looks_better else _strictest(rules, [popularity])
    if objection is not None:
        action, reason, check = objection
        return _decision(action, reason, checks, check, evaluation)
    reason, prefix = "first_champion", "first champion, "
    if CHAMPION in evaluation.failures:
        reason, prefix = "champion_unusable", "the champion's scores are not finite, and the candidate is "
    remark = _ignored(rules, [popularity])
    if looks_better:
        remark = "There is no other model to recommend, so a higher NDCG is enough."
    return _decision(PROMOTE, reason, checks, popularity, evaluation, prefix=prefix, remark=remark)


def _decision(
    action: Action,
    reason: str,
    checks: Sequence[Check],
    deciding: Check,
    evaluation: Evaluation,
    *,
    prefix: str = "",
    remark: str = "",
) -> Decision:
    explanation = f"{OUTCOMES[action]}: {prefix}{deciding.explanation} {remark}".rstrip()
    return Decision(action, reason, explanation, tuple(checks), evaluation.champion_version)
