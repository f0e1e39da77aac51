import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python
from scipy.special import ndtri

from recsys.errors import ConfigurationError
from recsys.evaluation.liking import Liking
from recsys.evaluation.off_policy.compare import OffPolicyComparison
from recsys.evaluation.off_policy.difference import Difference
from recsys.evaluation.ranking.baselines import POPULARITY
from recsys.evaluation.ranking.metrics import metric_names
from recsys.evaluation.result import CANDIDATE, CHAMPION, Evaluation, SliceResult
from recsys.promotion.checks import against_champion
from recsys.promotion.decision import Decision
from recsys.promotion.gate import decide
from recsys.promotion.superiority import Superiority
from recsys.settings import EvaluationSettings, GateSettings, Settings

K = 10
SETTINGS = Settings(evaluation=EvaluationSettings(bootstrap_resamples=1_000))
GENERATOR = np.random.default_rng(0)
USERS = GENERATOR.beta(1, 4, 400)
"""NDCG of the champion on each user."""


def _evaluation(coverage=None, slice_name="all", failures=None, **ndcg):
    """Return an evaluation whose scorers have these NDCG values per user."""
    names = tuple(ndcg)
    values = np.zeros((len(next(iter(ndcg.values()))), len(names), len(metric_names(K))))
    for number, name in enumerate(names):
        values[:, number, 0] = ndcg[name]
    keys = np.array([f"key{number}" for number in range(len(values))], dtype=object)
    return Evaluation(
        k=K,
        scorers=names,
        slices={slice_name: SliceResult(keys, np.ones(len(keys), dtype=np.int64), values)},
        coverage=dict.fromkeys(names, 0.5) | (coverage or {}),
        failures=failures or {},
        champion_version="7" if CHAMPION in names else None,
    )


def _noisy(values, factor, spread=0.03):
    return values * factor + GENERATOR.normal(0, spread, len(values))


def _beside_champion(candidate, users=USERS, **options):
    return _evaluation(**{CANDIDATE: candidate, CHAMPION: users, POPULARITY: users * 0.5}, **options)


def _guard(candidate, champion=USERS):
    return _evaluation(slice_name="guard", **{CANDIDATE: candidate, CHAMPION: champion})


def _verdicts(decision):
    return {check.name: check.verdict for check in decision.checks}


def test_an_identical_candidate_is_promoted_only_when_it_is_fresher():
    evaluation = _beside_champion(USERS)
    fresher = decide("full", evaluation, SETTINGS)
    assert (fresher.action, fresher.reason) == ("promote", "non_inferior_and_fresher")
    assert fresher.expected_champion == "7"
    mean = USERS.mean()
    assert fresher.explanation == (
        "promoted: non-inferior (NDCG@10 +0.0000, 95 % interval +0.0000 to +0.0000; margin 5 %). "
        f"Candidate {mean:.4f}, champion {mean:.4f}, 400 users."
    )
    stale = decide("full", evaluation, SETTINGS, fresher=False)
    assert (stale.action, stale.reason) == ("hold", "not_better_and_not_fresher")
    assert stale.explanation.startswith("held: not shown to be better than the champion (NDCG@10 +0.0000")
    assert stale.explanation.endswith("It has trained on no newer feedback.")
    strict = SETTINGS.model_copy(update={"gate": GateSettings(require_superiority=True)})
    held = decide("full", evaluation, strict)
    assert (held.action, held.reason) == ("hold", "not_shown_better_than_champion")


def test_a_clearly_better_candidate_is_promoted_for_it():
    decision = decide("full", _beside_champion(_noisy(USERS, 1.2)), SETTINGS, fresher=False)
    assert (decision.action, decision.reason) == ("promote", "better_than_champion")
    assert set(_verdicts(decision).values()) == {"pass", "not_applicable"}
    assert decision.explanation.startswith("promoted: better than the champion (NDCG@10 +0.")
    assert "95 % interval" in decision.explanation


def test_a_clearly_worse_candidate_is_rejected():
    decision = decide("full", _beside_champion(_noisy(USERS, 0.7)), SETTINGS)
    assert (decision.action, decision.reason) == ("reject", "worse_than_champion")
    assert decision.explanation.startswith("rejected: worse than the champion (NDCG@10 -0.")


def test_too_little_data_to_exclude_a_loss_holds_and_does_not_reject():
    few = USERS[:40]
    decision = decide("full", _beside_champion(_noisy(few, 1.0, spread=0.3), users=few), SETTINGS)
    assert (decision.action, decision.reason) == ("hold", "non_inferiority_not_shown")
    assert decision.explanation.startswith("held: non-inferiority not shown (NDCG@10 ")
    assert "Too little data" in decision.explanation


def test_a_candidate_that_is_worse_in_coverage_only_is_rejected():
    decision = decide("full", _beside_champion(USERS * 1.2, coverage={CANDIDATE: 0.2}), SETTINGS)
    assert (decision.action, decision.reason) == ("reject", "coverage_too_low")
    assert _verdicts(decision)["better_than_champion"] == "pass"
    assert decision.explanation == (
        "rejected: catalogue coverage is too low, 20.0 % "
        "(champion 50.0 %, at least 35.0 % is needed; 400 users)."
    )


def test_a_candidate_that_popularity_beats_is_rejected_even_beside_a_worse_champion():
    evaluation = _evaluation(**{CANDIDATE: USERS, CHAMPION: USERS, POPULARITY: USERS * 1.5})
    decision = decide("full", evaluation, SETTINGS)
    assert (decision.action, decision.reason) == ("reject", "worse_than_popularity")
    assert decision.explanation.startswith("rejected: worse than popularity (NDCG@10 -0.")


def test_three_users_decide_nothing():
    few = np.array([0.1, 0.2, 0.3])
    for kind in ("full", "micro"):
        decision = decide(kind, _beside_champion(few * 2, users=few), SETTINGS)
        assert (decision.action, decision.reason) == ("hold", "too_few_users")
        expected = "held: 3 users have held-out feedback, at least 30 are needed."
        assert decision.explanation == expected


def test_nan_scores_are_rejected_by_name():
    failed = _beside_champion(np.full(len(USERS), np.nan), failures={CANDIDATE: "scores contain NaN"})
    decision = decide("full", failed, SETTINGS)
    assert (decision.action, decision.reason) == ("reject", "candidate_scores_not_finite")
    assert decision.explanation == "rejected: the candidate is unusable, scores contain NaN."
    json.dumps(to_jsonable_python(decision), allow_nan=False)


def test_nan_metrics_without_a_named_failure_are_rejected_too():
    decision = decide("full", _beside_champion(np.full(len(USERS), np.nan)), SETTINGS)
    assert (decision.action, decision.reason) == ("reject", "candidate_scores_not_finite")


def test_nan_on_the_guard_users_rejects_a_micro_update():
    guard = replace(_guard(np.full(len(USERS), np.nan)), failures={CANDIDATE: "scores contain NaN"})
    decision = decide("micro", _beside_champion(USERS), SETTINGS, guard=guard)
    assert decision.reason == "candidate_scores_not_finite"


@pytest.mark.parametrize(
    ("factor", "action", "reason", "stated"),
    [
        (1.5, "promote", "first_champion", "promoted: first champion, better than popularity (NDCG@10 +0."),
        (0.5, "reject", "worse_than_popularity", "rejected: worse than popularity (NDCG@10 -0."),
        (
            1.0,
            "hold",
            "not_shown_better_than_popularity",
            "held: not shown to be better than popularity (NDCG@10 +0.0000, 95 % interval +0.0000 to ",
        ),
    ],
)
def test_the_first_champion_must_look_better_than_popularity(factor, action, reason, stated):
    evaluation = _evaluation(**{CANDIDATE: USERS * factor, POPULARITY: USERS})
    decision = decide("full", evaluation, SETTINGS)
    assert (decision.action, decision.reason) == (action, reason)
    assert decision.explanation.startswith(stated)
    assert decision.expected_champion is None


def test_the_first_champion_only_has_to_look_better_because_there_is_no_other_model():
    evaluation = _evaluation(**{CANDIDATE: _noisy(USERS, 1.02, 0.3) + 0.005, POPULARITY: USERS})
    decision = decide("full", evaluation, SETTINGS)
    assert (decision.action, decision.reason) == ("promote", "first_champion")
    assert _verdicts(decision)["better_than_popularity"] == "inconclusive"
    assert decision.explanation.startswith(
        "promoted: first champion, not shown to be better than popularity ("
    )
    assert decision.explanation.endswith("so a higher NDCG is enough.")


def test_a_champion_without_finite_scores_is_replaced_by_a_candidate_that_beats_popularity():
    evaluation = _evaluation(
        failures={CHAMPION: "scores contain NaN"},
        **{CANDIDATE: USERS, CHAMPION: np.full(len(USERS), np.nan), POPULARITY: USERS * 0.5},
    )
    decision = decide("full", evaluation, SETTINGS)
    assert (decision.action, decision.reason) == ("promote", "champion_unusable")
    assert decision.explanation.startswith(
        "promoted: the champion's scores are not finite, and the candidate is better than popularity ("
    )
    assert decision.expected_champion == "7"


def test_a_micro_update_that_keeps_old_behaviour_is_promoted():
    decision = decide("micro", _beside_champion(_noisy(USERS, 1.1)), SETTINGS, guard=_guard(USERS * 0.99))
    assert (decision.action, decision.reason) == ("promote", "better_than_champion")
    assert _verdicts(decision)["forgetting"] == "pass"


def test_a_micro_update_that_forgets_is_held_however_good_on_fresh_feedback():
    decision = decide("micro", _beside_champion(_noisy(USERS, 1.3)), SETTINGS, guard=_guard(USERS * 0.9))
    assert (decision.action, decision.reason) == ("hold", "forgets_old_behaviour")
    assert decision.explanation.startswith("held: past behaviour of guard users is forgotten (NDCG@10 -0.")


def test_a_handful_of_guard_users_decides_nothing_unless_the_settings_say_so():
    few = USERS[: SETTINGS.gate.min_evaluated_users - 1]
    guard, better = _guard(few * 0.5, few), _beside_champion(USERS * 1.1)
    decision = decide("micro", better, SETTINGS, guard=guard)
    assert (decision.action, decision.reason) == ("promote", "better_than_champion")
    assert _verdicts(decision)["forgetting"] == "inconclusive"
    assert decision.explanation.endswith("Ignored: forgetting (inconclusive).")
    strict = SETTINGS.gate.model_copy(update={"on_inconclusive": {"forgetting": "hold"}})
    decision = decide("micro", better, SETTINGS.model_copy(update={"gate": strict}), guard=guard)
    assert (decision.action, decision.reason) == ("hold", "too_few_guard_users")
    assert "fewer than 30 guard users cannot show forgetting" in decision.explanation


def test_without_guard_users_the_check_says_that_it_does_not_apply():
    decision = decide("micro", _beside_champion(USERS), SETTINGS)
    assert decision.action == "promote"
    assert _verdicts(decision)["forgetting"] == "not_applicable"


def test_a_micro_update_without_champion_is_held():
    evaluation = _evaluation(**{CANDIDATE: USERS})
    decision = decide("micro", evaluation, SETTINGS)
    assert (decision.action, decision.reason) == ("hold", "no_champion")
    assert decision.explanation.startswith("held: a micro-update needs a champion")


def test_a_decision_survives_json():
    decision = decide("full", _beside_champion(USERS), SETTINGS)
    stored = json.dumps(to_jsonable_python(decision))
    assert TypeAdapter(Decision).validate_json(stored) == decision


def test_identical_twins_with_noise_are_rarely_called_better():
    promoted = 0
    for _ in range(100):
        users = GENERATOR.beta(1, 4, 200)
        evaluation = _beside_champion(_noisy(users, 1.0, 0.05), users=users)
        promoted += decide("full", evaluation, SETTINGS).reason == "better_than_champion"
    assert promoted <= 8


def _with_slice(candidate_on_slice, users_on_slice=80, name="user.country:fr", more=0):
    """Return an evaluation whose candidate differs from the champion on the users of one slice only."""
    evaluation = _beside_champion(USERS)
    whole = evaluation.slices["all"]
    slices = {"all": whole}
    for number in range(more):
        start = (number * 37) % 300
        slices[f"other:{number}"] = SliceResult(
            whole.user_keys[start : start + 80],
            whole.cases[start : start + 80],
            whole.values[start : start + 80],
        )
    values = whole.values[:users_on_slice].copy()
    values[:, evaluation.scorers.index(CANDIDATE), 0] = candidate_on_slice(USERS[:users_on_slice])
    slices[name] = SliceResult(whole.user_keys[:users_on_slice], whole.cases[:users_on_slice], values)
    return replace(evaluation, slices=slices)


@pytest.mark.parametrize("more", [0, 20])
def test_a_candidate_that_is_worse_on_one_slice_only_is_rejected_with_its_name(more):
    decision = decide("full", _with_slice(lambda users: users * 0.5, more=more), SETTINGS)
    assert (decision.action, decision.reason) == ("reject", "worse_on_slice")
    assert decision.explanation.startswith("rejected: worse on slice user.country:fr (NDCG@10 -0.")
    assert "margin 20 %; 80 users" in decision.explanation
    assert f"corrected for {more + 1} slices" in decision.explanation
    assert _verdicts(decision)["not_worse_than_champion"] == "pass"


def test_a_slice_that_is_a_little_worse_or_has_few_users_does_not_stop_a_candidate():
    assert decide("full", _with_slice(lambda users: users * 0.9), SETTINGS).action == "promote"
    few = decide("full", _with_slice(lambda users: users * 0.5, users_on_slice=10), SETTINGS)
    assert _verdicts(few)["not_worse_on_slices"] == "not_applicable"


def test_a_comparison_that_is_impossible_holds_with_the_reason():
    nothing = Evaluation.of_nothing(K, (CANDIDATE, CHAMPION), "no held-out feedback since noon", "7")
    for kind in ("full", "micro"):
        decision = decide(kind, nothing, SETTINGS)
        assert (decision.action, decision.reason) == ("hold", "comparison_impossible")
        assert decision.explanation == "held: nothing to compare, no held-out feedback since noon."
        assert decision.expected_champion == "7"
        json.dumps(to_jsonable_python(decision), allow_nan=False)


def _configured(**gate):
    return SETTINGS.model_copy(update={"gate": GateSettings(**gate)})


def test_settings_override_the_action_of_a_check():
    few = USERS[:40]
    unclear = _beside_champion(_noisy(few, 1.0, spread=0.3), users=few)
    asked = decide("full", unclear, _configured(on_inconclusive={"not_worse_than_champion": "ask"}))
    assert (asked.action, asked.reason) == ("ask", "non_inferiority_not_shown")
    assert asked.explanation.startswith("waits for approval: non-inferiority not shown (NDCG@10 ")
    narrow = _beside_champion(USERS * 1.2, coverage={CANDIDATE: 0.2})
    assert decide("full", narrow, _configured(on_fail={"catalogue_coverage": "hold"})).action == "hold"
    ignored = decide("full", narrow, _configured(on_fail={"catalogue_coverage": "ignore"}))
    assert ignored.action == "promote"
    assert ignored.explanation.startswith("promoted: better than the champion (")
    assert ignored.explanation.endswith("Ignored: catalogue_coverage (failed).")
    strictest = _configured(
        on_fail={"catalogue_coverage": "ask"}, on_inconclusive={"better_than_champion": "hold"}
    )
    worse = _beside_champion(USERS, coverage={CANDIDATE: 0.2})
    assert decide("full", worse, strictest).action == "hold"


def test_a_promotion_that_ignores_the_comparison_with_the_champion_says_so():
    careless = _configured(on_fail={"not_worse_than_champion": "ignore", "not_worse_on_slices": "ignore"})
    decision = decide("full", _beside_champion(_noisy(USERS, 0.7)), careless)
    assert (decision.action, decision.reason) == ("promote", "champion_comparison_ignored")
    assert decision.explanation.startswith("promoted: worse than the champion (NDCG@10 -0.")
    assert decision.explanation.endswith("Ignored: not_worse_than_champion (failed).")


def test_an_ignored_loss_against_popularity_is_stated_with_the_first_champion():
    evaluation = _evaluation(**{CANDIDATE: USERS * 0.5, POPULARITY: USERS})
    decision = decide("full", evaluation, _configured(on_fail={"better_than_popularity": "ignore"}))
    assert (decision.action, decision.reason) == ("promote", "first_champion")
    assert decision.explanation.startswith("promoted: first champion, worse than popularity (NDCG@10 -0.")
    assert decision.explanation.endswith("Ignored: better_than_popularity (failed).")


def test_no_setting_lets_nan_or_three_users_pass():
    few = np.array([0.1, 0.2, 0.3])
    careless = _configured(on_fail={"enough_users": "ignore", "scores_are_finite": "ignore"})
    assert decide("full", _beside_champion(few * 2, users=few), careless).action == "hold"
    assert decide("full", _beside_champion(np.full(len(USERS), np.nan)), careless).action == "reject"


def test_a_setting_for_a_check_that_does_not_exist_is_refused():
    with pytest.raises(ConfigurationError, match="magic"):
        decide("full", _beside_champion(USERS), _configured(on_fail={"magic": "hold"}))


def test_the_explanation_distinguishes_no_difference_from_too_little_data():
    def explanation(evaluation):
        checks = decide("full", evaluation, SETTINGS, fresher=False).checks
        return next(check for check in checks if check.name == "better_than_champion")

    alike = explanation(_beside_champion(_noisy(USERS, 1.0, spread=0.01)))
    assert "No difference found: one of" in alike.explanation
    assert alike.detectable < 0.05 * USERS.mean()
    few = USERS[:40]
    unclear = explanation(_beside_champion(_noisy(few, 1.0, spread=0.3), users=few))
    assert "Too little data: only a difference of" in unclear.explanation
    assert unclear.detectable > 0.05 * few.mean()


@pytest.mark.parametrize(
    ("metric", "reason"), [("diversity_at_10", "lists_less_diverse"), ("novelty_at_10", "popularity_bias")]
)
def test_a_candidate_with_less_diverse_or_more_popular_lists_is_held(metric, reason):
    evaluation = _beside_champion(USERS)
    values = evaluation.slices["all"].values
    column = metric_names(K).index(metric)
    values[:, :, column] = 1.0
    assert decide("full", evaluation, SETTINGS).action == "promote"
    values[:, evaluation.scorers.index(CANDIDATE), column] = 0.5
    decision = decide("full", evaluation, SETTINGS)
    assert (decision.action, decision.reason) == ("hold", reason)


def _liking(ece, auc, events=500):
    return Liking(events, 0.5, auc, ece, (0.5,), (0.5,), (events,))


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (_liking(0.05, 0.7), "non_inferior_and_fresher"),
        (_liking(0.3, 0.7), "calibration_worse"),
        (_liking(0.05, 0.5), "liking_worse"),
        (_liking(0.9, 0.1, events=20), "non_inferior_and_fresher"),
    ],
)
def test_predicted_likes_must_stay_calibrated_and_discriminating(candidate, reason):
    liking = {CANDIDATE: candidate, CHAMPION: _liking(0.05, 0.7)}
    assert decide("full", _beside_champion(USERS), SETTINGS, liking=liking).reason == reason


def _on_slates(low, high, problem=None):
    difference = Difference(
        (low + high) / 2, low, high, 900, 300, 1.0, 1.0, 0.9, 500.0, 200.0, 100, (0.1,)
    )  # fmt: skip
    return OffPolicyComparison("click per slate", 900, {}, 0.5, {}, difference, problem)


@pytest.mark.parametrize(
    ("low", "high", "verdict", "action"),
    [
        (-0.02, 0.1, "pass", "promote"),
        (-0.3, -0.1, "fail", "reject"),
        (-0.2, 0.1, "inconclusive", "promote"),
    ],
)
def test_a_candidate_that_earns_less_on_logged_slates_is_rejected(low, high, verdict, action):
    decision = decide("full", _beside_champion(USERS), SETTINGS, off_policy=_on_slates(low, high))
    assert _verdicts(decision)["off_policy_value"] == verdict
    assert decision.action == action
    if verdict == "fail":
        assert decision.explanation == (
            "rejected: worse than the champion on logged slates (click per slate -0.2000, 95 % interval "
            "-0.3000 to -0.1000; margin 10 %). As shown 0.5000, 900 slates, 300 users."
        )
    if verdict == "inconclusive":
        assert decision.explanation.endswith("Ignored: off_policy_value (inconclusive).")


def test_slates_that_allow_no_conclusion_decide_nothing_and_give_the_reason():
    found = _on_slates(-0.3, -0.1, problem="the log supports 12% of what the policy shows")
    decision = decide("full", _beside_champion(USERS), SETTINGS, off_policy=found)
    assert decision.action == "promote"
    [check] = [check for check in decision.checks if check.name == "off_policy_value"]
    assert check.verdict == "not_applicable"
    assert "12%" in check.explanation


def test_a_gain_counts_as_one_only_at_the_level_that_the_month_has_left():
    better = _beside_champion(_noisy(USERS, 1.2))
    shown = decide("full", better, SETTINGS, superiority=Superiority(1e-4, 1e-3))
    assert (shown.action, shown.reason) == ("promote", "better_than_champion")
    assert "; p 0.0001, this month allows 0.001). Candidate" in shown.explanation
    spent = decide("full", better, SETTINGS, superiority=Superiority(1e-4, 1e-5))
    assert (spent.action, spent.reason) == ("promote", "non_inferior_and_fresher")
    strict = decide(
        "full", better, _configured(require_superiority=True), superiority=Superiority(1e-4, 1e-5)
    )
    assert (strict.action, strict.reason) == ("hold", "not_shown_better_than_champion")
    none = decide("full", better, _configured(require_superiority=True), superiority=Superiority(1e-4, 0.0))
    assert "No gain may be claimed now" in none.explanation
    json.dumps(to_jsonable_python(none.checks), allow_nan=False)


def test_the_margin_that_a_good_candidate_passes_grows_with_the_number_of_guardrails():
    few = USERS[:40]
    evaluation = _beside_champion(_noisy(few, 1.0, spread=0.3), users=few)
    alone, together = (
        against_champion(evaluation, SETTINGS, guardrails=number)[0].detectable for number in (1, 5)
    )
    # Of a chance of 20 % to miss one of five, each gets 4 %.
    assert together / alone == pytest.approx((ndtri(0.975) + ndtri(0.96)) / (ndtri(0.975) + ndtri(0.8)))
    decision = decide("micro", evaluation, SETTINGS, guard=_guard(USERS * 0.99))
    assert "an equally good candidate holds all 4 margins with 80 % probability" in decision.explanation
