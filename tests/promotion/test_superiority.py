from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from recsys.evaluation.ranking.metrics import metric_names
from recsys.evaluation.result import CANDIDATE, CHAMPION, Evaluation, SliceResult
from recsys.promotion.superiority import (
    EarlierTest,
    Superiority,
    claims_superiority,
    next_level,
    superiority_p_value,
)
from recsys.settings import EvaluationSettings, GateSettings, Settings

SETTINGS = Settings(evaluation=EvaluationSettings(bootstrap_resamples=500))
HOURS_TOO = SETTINGS.model_copy(
    update={"gate": GateSettings(on_inconclusive={"better_than_champion": "hold"})}
)
NIGHT = datetime(2026, 4, 1, 3, 15, tzinfo=UTC)  # April has 30 days


def _evaluation(gain, spread=0.05, users=200, seed=0, **options):
    generator = np.random.default_rng(seed)
    champion = generator.beta(1, 4, users)
    values = np.zeros((users, 2, len(metric_names(10))))
    values[:, 0, 0] = champion + gain + generator.normal(0, spread, users)
    values[:, 1, 0] = champion
    keys = np.array([str(number) for number in range(users)], dtype=object)
    result = SliceResult(keys, np.ones(users, dtype=np.int64), values)
    return Evaluation(10, (CANDIDATE, CHAMPION), {"all": result}, {}, options.get("failures", {}), "7")


def _month(kind, moments, settings, p_values):
    """Return the levels of the tests at these moments; each test sees those before it."""
    earlier, levels = [], []
    for moment, p_value in zip(moments, p_values, strict=True):
        level = next_level(kind, moment, earlier, settings)
        earlier.append(EarlierTest(kind, level, Superiority(p_value, level).shown))
        levels.append(level)
    return levels


def test_the_nights_of_a_month_share_its_probability_of_error_evenly():
    nights = [NIGHT + timedelta(days=day) for day in range(30)]
    levels = _month("full", nights, SETTINGS, [1.0] * 30)
    assert levels == pytest.approx([0.05 / 30] * 30)


def test_a_test_that_shows_its_candidate_better_gives_back_what_it_spent():
    nights = [NIGHT + timedelta(days=day) for day in range(3)]
    levels = _month("full", nights, SETTINGS, [1.0, 1e-6, 1.0])
    assert levels == pytest.approx([0.05 / 30, 0.05 / 30, 2 * 0.05 / 30])


def test_nights_without_a_test_leave_their_share_to_the_next():
    weekly = [NIGHT + timedelta(days=day) for day in (6, 13, 20, 27)]
    assert _month("full", weekly, SETTINGS, [1.0] * 4) == pytest.approx([7 * 0.05 / 30] * 4)


def test_a_second_test_of_the_same_day_has_nothing_left():
    twice = [NIGHT, NIGHT + timedelta(hours=5)]
    assert _month("full", twice, SETTINGS, [1.0, 1.0])[1] == 0
    assert not Superiority(0.0, 0.0).shown


def test_hours_claim_nothing_unless_settings_hold_what_is_not_shown_better():
    assert claims_superiority("full", SETTINGS)
    assert not claims_superiority("micro", SETTINGS)
    assert claims_superiority("micro", HOURS_TOO)


def test_nights_and_hours_together_spend_no_more_than_the_month_has():
    earlier = []
    for hour in range(30 * 24):
        moment = datetime(2026, 4, 1, tzinfo=UTC) + timedelta(hours=hour)
        kinds = ("micro", "full") if hour % 24 == 3 else ("micro",)
        for kind in kinds:
            earlier.append(EarlierTest(kind, next_level(kind, moment, earlier, HOURS_TOO), False))
    spent = {kind: sum(test.level for test in earlier if test.kind == kind) for kind in ("full", "micro")}
    assert spent == pytest.approx({"full": 0.04, "micro": 0.01})


def test_settings_changed_in_mid_month_spend_no_more_than_the_month_has():
    moment = datetime(2026, 4, 30, 23, 30, tzinfo=UTC)
    earlier = [EarlierTest("full", 0.045, False)]
    assert next_level("micro", moment, earlier, HOURS_TOO) == pytest.approx(0.005)
    assert next_level("full", moment, [EarlierTest("full", 0.06, False)], SETTINGS) == 0


def test_a_month_is_one_of_utc_whatever_the_clock():
    east = NIGHT.astimezone(tz=None)
    assert next_level("full", east, [], SETTINGS) == next_level("full", NIGHT, [], SETTINGS)


def test_p_values_of_candidates_that_are_no_better_are_uniform():
    p_values = np.array(
        [superiority_p_value(_evaluation(0.0, seed=n), SETTINGS) for n in range(1_000, 1_400)]
    )
    for level in (0.05, 0.2, 0.5):
        assert (p_values <= level).mean() <= level + 2 * np.sqrt(level * (1 - level) / 400)
    assert p_values.mean() == pytest.approx(0.5, abs=0.05)


def test_a_p_value_below_what_the_resamples_resolve_is_that_of_the_t_test():
    clear = superiority_p_value(_evaluation(0.05), SETTINGS)
    assert 0 < clear < 1e-6, "500 resamples alone could not go below 1 / 501"
    assert superiority_p_value(_evaluation(-0.05), SETTINGS) > 0.99


def test_without_spread_the_sign_decides():
    assert superiority_p_value(_evaluation(0.0, spread=0.0), SETTINGS) == 1.0
    assert superiority_p_value(_evaluation(0.01, spread=0.0), SETTINGS) < 1e-6


def test_there_is_no_test_without_a_comparison():
    assert superiority_p_value(_evaluation(0.1, users=29), SETTINGS) is None
    assert superiority_p_value(_evaluation(0.1, failures={CANDIDATE: "NaN"}), SETTINGS) is None
    nothing = Evaluation.of_nothing(10, (CANDIDATE, CHAMPION), "no feedback", "7")
    assert superiority_p_value(nothing, SETTINGS) is None
