"""The promotion gate: from the evidence of an evaluation to a decision with named reasons.

Pure functions. A check compares one observed figure, with its interval where it has one, to one
threshold (`recsys.promotion.checks`). What a check that fails or cannot tell does is a table here,
which settings override by the check's name; the strictest consequence decides. "Shown to be worse"
rejects, "not shown to be good enough" holds: the difference between a bad model and too little data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from recsys.errors import ConfigurationError
from recsys.evaluation.liking import Liking
from recsys.evaluation.off_policy.compare import OffPolicyComparison
from recsys.evaluation.result import CHAMPION, Evaluation
from recsys.promotion.checks import (
    against_champion,
    better_than_popularity,
    catalogue_coverage,
    comparison_possible,
    enough_users,
    forgetting,
    has_champion,
    liking_checks,
    list_checks,
    off_policy_value,
    on_slices,
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
from recsys.settings import GateAction, Settings


class Rule(NamedTuple):
    """What follows from a check: reason and action when it fails, and when it cannot tell."""

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
"""By the name of the check, strictest reasons first; settings override the actions."""

_STRICTEST_FIRST: tuple[Action, ...] = (REJECT, HOLD, ASK)


def decide(
    kind: Literal["full", "micro"],
    evaluation: Evaluation,
    settings: Settings,
    guard: Evaluation | None = None,
    fresher: bool = True,
    off_policy: OffPolicyComparison | None = None,
    liking: Mapping[str, Liking] | None = None,
) -> Decision:
    """Decide on a candidate from its evaluation beside the champion and the baselines.

    Parameters
    ----------
    kind
        `full`: nightly; must also beat popularity. `micro`: hourly; must not have forgotten.
    evaluation
        Held-out feedback ranked by `CANDIDATE`, `CHAMPION` if there is one, and baselines.
    settings
        Margins and actions in `settings.gate`, resamples and confidence in `settings.evaluation`.
    guard
        The guard users' cases ranked by candidate and champion; for micro-updates.
    fresher
        The candidate has trained on newer feedback than the champion, which makes a non-inferior
        candidate worth promoting unless `gate.require_superiority` is set.
    off_policy
        What both would have earned on slates that were shown.
    liking
        Calibration and AUC of the liking head by scorer.

    Raises
    ------
    ConfigurationError
        The settings name a check that does not exist.
    """
    rules = _rules(kind, settings, fresher)
    checks = [comparison_possible(evaluation)]
    if checks[0].verdict == PASS:
        checks += [scores_are_finite(evaluation, guard), enough_users(evaluation, settings)]
    # Without these there is nothing to compute the others from: no setting can let them pass.
    for check in checks:
        if check.verdict == FAIL:
            rule = RULES[check.name]
            action = REJECT if rule.on_fail == REJECT else HOLD
            return _decision(action, rule.failed, checks, check, evaluation)
    if CHAMPION in evaluation.scorers and CHAMPION not in evaluation.failures:
        checks += _beside_champion(kind, evaluation, settings, guard, off_policy, liking or {})
        return _decide_against_champion(rules, checks, evaluation)
    return _decide_without_champion(kind, rules, evaluation, settings, checks)


def _rules(kind: str, settings: Settings, fresher: bool) -> dict[str, Rule]:
    gate = settings.gate
    unknown = (set(gate.on_fail) | set(gate.on_inconclusive)) - set(RULES)
    if unknown:
        raise ConfigurationError(
            f"RECSYS_GATE__ON_FAIL or RECSYS_GATE__ON_INCONCLUSIVE names {sorted(unknown)}; checks are "
            f"called {', '.join(RULES)}"
        )
    rules = dict(RULES)
    if kind == "full" and gate.require_superiority:
        rules["better_than_champion"] = rules["better_than_champion"]._replace(on_inconclusive="hold")
    elif not fresher:
        rules["better_than_champion"] = Rule("", "ignore", "not_better_and_not_fresher", "hold")
    return {
        name: rule._replace(
            on_fail=gate.on_fail.get(name, rule.on_fail),
            on_inconclusive=gate.on_inconclusive.get(name, rule.on_inconclusive),
        )
        for name, rule in rules.items()
    }


def _beside_champion(
    kind: str,
    evaluation: Evaluation,
    settings: Settings,
    guard: Evaluation | None,
    off_policy: OffPolicyComparison | None,
    liking: Mapping[str, Liking],
) -> list[Check]:
    return [
        *against_champion(evaluation, settings),
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
        return _decision(action, reason, checks, check, evaluation)
    by_name = {check.name: check for check in checks}
    better = by_name["better_than_champion"]
    if better.verdict == PASS:
        return _decision(PROMOTE, "better_than_champion", checks, better, evaluation)
    not_worse = by_name["not_worse_than_champion"]
    return _decision(PROMOTE, "non_inferior_and_fresher", checks, not_worse, evaluation)


def _strictest(rules: Mapping[str, Rule], checks: Sequence[Check]) -> tuple[Action, str, Check] | None:
    """Return the strictest consequence of the checks; failed ones come before unclear ones."""
    by_name = {check.name: check for check in checks}
    failed = [(n, r.on_fail, r.failed, FAIL) for n, r in rules.items()]
    unclear = [(n, r.on_inconclusive, r.unclear, INCONCLUSIVE) for n, r in rules.items()]
    for strictest in _STRICTEST_FIRST:
        for name, action, reason, verdict in failed + unclear:
            check = by_name.get(name)
            if action == strictest and check is not None and check.verdict == verdict:
                return strictest, reason, check
    return None


def _decide_without_champion(
    kind: str, rules: Mapping[str, Rule], evaluation: Evaluation, settings: Settings, checks: list[Check]
) -> Decision:
    if kind == "micro":
        check = has_champion()
        return _decision(HOLD, RULES[check.name].failed, [*checks, check], check, evaluation)
    popularity = better_than_popularity(evaluation, settings)
    checks.append(popularity)
    # A system without any champion serves nobody: the first model needs to look better only.
    if popularity.verdict == INCONCLUSIVE and (popularity.observed or 0.0) > 0:
        objection = None
    else:
        objection = _strictest(rules, [popularity])
    if objection is not None:
        action, reason, check = objection
        return _decision(action, reason, checks, check, evaluation)
    reason = "champion_unusable" if CHAMPION in evaluation.failures else "first_champion"
    decision = _decision(PROMOTE, reason, checks, popularity, evaluation)
    if popularity.verdict == INCONCLUSIVE:
        # Otherwise the reason would read as one against what was decided.
        enough = "No champion could be served instead, so looking better is enough."
        decision = replace(decision, explanation=f"{decision.explanation} {enough}")
    return decision


def _decision(
    action: Action, reason: str, checks: Sequence[Check], deciding: Check, evaluation: Evaluation
) -> Decision:
    return Decision(action, reason, deciding.explanation, tuple(checks), evaluation.champion_version)
