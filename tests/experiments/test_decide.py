"""When an experiment ends, and how."""

import pytest

from recsys.experiments.decide import Aims, MetricReader, Reading, conclude
from recsys.experiments.effects import METRICS, Effect

AIMS = Aims(("click_through",), {"slates": 0.05, "dislikes": 0.2})


def effect(metric: str, difference: float, error: float, control: float = 1.0) -> Effect:
    return Effect(METRICS[metric], control, control + difference, difference, error, 10_000, 1.0)


def read(metric: str, difference: float, error: float, share: float = 1.0, aims: Aims = AIMS) -> Reading:
    role = "success" if metric in aims.success else "guardrail"
    return MetricReader(aims, metric, role).read(effect(metric, difference, error), share)


FINE = [read("slates", 0.0, 0.01), read("dislikes", 0.0, 0.03)]


def test_better_with_all_guardrails_shown_wins() -> None:
    better = read("click_through", 0.05, 0.01)
    assert (better.verdict, [r.verdict for r in FINE]) == ("better", ["not_worse", "not_worse"])
    assert better.low > 0 > better.low - 0.05
    assert conclude([better, *FINE], 0.3) == "challenger_better"


def test_better_waits_for_a_guardrail_that_is_not_shown_yet() -> None:
    readings = [read("click_through", 0.05, 0.01), read("slates", 0.0, 0.04), FINE[1]]
    assert conclude(readings, 0.5) == "running"
    assert conclude(readings, 1.0) == "guardrail_not_shown"


def test_a_guardrail_that_breaks_ends_it_whatever_else_is_better() -> None:
    readings = [read("click_through", 0.05, 0.01), read("slates", -0.3, 0.01), FINE[1]]
    assert conclude(readings, 0.2) == "guardrail_broken"


def test_more_dislikes_break_a_guardrail_and_fewer_do_not() -> None:
    more, fewer = read("dislikes", 0.5, 0.05), read("dislikes", -0.5, 0.05)
    assert (more.verdict, fewer.verdict) == ("worse", "not_worse")
    assert 0 < more.low < more.high


def test_a_loss_within_the_margin_breaks_nothing() -> None:
    assert read("slates", -0.02, 0.001).verdict == "not_worse"


def test_a_challenger_that_is_shown_to_be_worse_ends_it() -> None:
    assert conclude([read("click_through", -0.05, 0.01), *FINE], 0.4) == "challenger_worse"


def test_the_end_of_the_plan_ends_it() -> None:
    unclear = read("click_through", 0.005, 0.01)
    assert conclude([unclear, *FINE], 0.99) == "running"
    assert conclude([unclear, *FINE], 1.0) == "no_difference_shown"


def test_two_success_metrics_share_the_error_rate_and_guardrails_do_not() -> None:
    both = Aims(("click_through", "conversions"), {"slates": 0.05})
    assert read("click_through", 0.021, 0.01).verdict == "better"
    assert read("click_through", 0.021, 0.01, aims=both).verdict == "open"
    one = Aims(("click_through",), {"slates": 0.05})
    assert read("slates", 0.0, 0.025, aims=both).low == pytest.approx(
        read("slates", 0.0, 0.025, aims=one).low
    )


def test_nothing_is_decided_where_nobody_did_anything() -> None:
    nothing = [
        MetricReader(AIMS, name, role).read(Effect(METRICS[name], 0.0, 0.0, 0.0, 0.0, 0.0, 1.0), 1.0)
        for name, role in AIMS.metrics
    ]
    assert {reading.verdict for reading in nothing} == {"open"}
    assert conclude(nothing, 1.0) == "no_difference_shown"


def test_a_guardrail_on_which_all_users_are_alike_is_shown() -> None:
    assert read("slates", 0.0, 0.0, share=0.1).verdict == "not_worse"


def test_looks_that_were_read_before_count() -> None:
    """The same figures at the end show less if somebody has looked every day before."""
    alone, watched = (MetricReader(AIMS, "click_through", "success") for _ in range(2))
    for day in range(1, 28):
        watched.pass_over(day / 28, day * 10_000 / 28)
    last = effect("click_through", 0.0200, 0.01)
    assert alone.read(last, 1.0).verdict == "better"
    assert watched.read(last, 1.0).verdict == "open"
