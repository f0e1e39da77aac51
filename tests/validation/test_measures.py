"""Figures of the table expectations, and when each passes, warns, fails or does not apply."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from recsys.errors import ValidationFailedError
from recsys.settings import Settings, ValidationSettings, load_settings
from recsys.validation import measures
from recsys.validation.measures import Measure, compare_distributions, measure_window
from recsys.validation.validate import validate_window
from recsys.validation.violations import judge_window
from recsys.warehouse.tables import items, users, validation_results, windows
from recsys.warehouse.windows import Window, load_window
from tests.validation.conftest import add_feedback

NextWindow = Callable[..., Window]
Rows = list[dict[str, Any]]
NOW = datetime.now(UTC)


def some_rows(count: int, **changes: Any) -> Rows:
    """Return valid rows of ten minutes ago, all at different times."""
    start = NOW - timedelta(minutes=10)
    return [
        {"item_id": "abc"[n % 3], "occurred_at": start + timedelta(milliseconds=n), **changes}
        for n in range(count)
    ]


@pytest.fixture
def limits(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> ValidationSettings:
    """Limits with which few rows and windows are enough to compare."""
    monkeypatch.setattr(measures, "_MIN_REFERENCE_WINDOWS", 2)
    return settings.validation.model_copy(update={"min_rows": 20})


@pytest.fixture
def measured(
    stocked: sa.Engine, next_window: NextWindow, limits: ValidationSettings
) -> Callable[..., dict[str, Measure]]:
    """Add rows, open the next window over them and measure it."""

    def measured(*rows: dict[str, Any], consumer: str = "nightly") -> dict[str, Measure]:
        add_feedback(stocked, *rows)
        return measures_of(stocked, next_window(consumer), limits)

    return measured


@pytest.fixture
def passed(
    stocked: sa.Engine,
    next_window: NextWindow,
    settings: Settings,
    limits: ValidationSettings,
    tmp_path: Path,
) -> Callable[..., Window]:
    """Add rows and validate a window over them, with which later windows are compared."""

    def passed(*rows: dict[str, Any], consumer: str = "nightly") -> Window:
        add_feedback(stocked, *rows)
        window = next_window(consumer)
        lenient = settings.model_copy(update={"validation": limits})
        validate_window(stocked, window, lenient, tmp_path / "docs")
        return window

    return passed


def measures_of(engine: sa.Engine, window: Window, limits: ValidationSettings) -> dict[str, Measure]:
    from recsys.validation.rules import row_rules

    with engine.begin() as connection:
        judge_window(connection, window, row_rules(), limits)
        return {measure.name: measure for measure in measure_window(connection, window, limits)}


def verdict(measure: Measure) -> str:
    """Return whether a measure passes, warns, fails or does not apply."""
    if measure.value is None:
        return "does not apply"

    def is_outside(lowest: float | None, highest: float | None) -> bool:
        assert measure.value is not None
        return (lowest is not None and measure.value < lowest) or (
            highest is not None and measure.value > highest
        )

    if is_outside(*measure.bounds.limits("fail")):
        return "fails"
    return "warns" if is_outside(*measure.bounds.limits("warn")) else "passes"


@pytest.mark.parametrize(
    ("observed", "reference"),
    [
        ({"a": 500, "b": 500}, {"a": 500, "b": 500}),
        ({"a": 900, "b": 100}, {"a": 100, "b": 900}),
        ({"a": 10, "c": 90}, {"a": 50, "b": 50}),
        ({"like": 1, "view": 1_000_000}, {"view": 3}),
    ],
)
def test_stability_index_and_divergence_are_what_numpy_computes(
    warehouse: sa.Engine, observed: dict[str, int], reference: dict[str, int]
) -> None:
    bins = sorted(observed.keys() | reference.keys())
    p, q = (np.array([counts.get(name, 0) for name in bins]) + 0.5 for counts in (observed, reference))
    p, q = p / p.sum(), q / q.sum()
    with warehouse.connect() as connection:
        psi, kl = compare_distributions(connection, observed, reference)
    assert psi == pytest.approx(np.sum((p - q) * np.log(p / q)), abs=1e-12)
    assert kl == pytest.approx(np.sum(p * np.log(p / q)), abs=1e-12)


def test_in_the_first_window_ever_nothing_is_compared(measured: Callable[..., dict[str, Measure]]) -> None:
    measures = measured(*some_rows(50))
    applicable = {name for name, measure in measures.items() if measure.value is not None}
    assert applicable == {"arrived", "valid_share"}
    assert all(measure.not_applicable for name, measure in measures.items() if name not in applicable)


def test_a_tiny_window_is_not_compared(
    measured: Callable[..., dict[str, Measure]], passed: Callable[..., Window]
) -> None:
    passed(*some_rows(50))
    passed(*some_rows(50, user_id="bob"))
    measures = measured(*some_rows(5, event_type="view"))
    for name in ("null_rate", "event_mix", "rating_distribution", "item_coverage", "user_coverage"):
        assert verdict(measures[name]) == "does not apply", name


@pytest.mark.parametrize(
    ("arrived", "expected"), [(40, "passes"), (15, "warns"), (2, "fails"), (450, "fails")]
)
def test_volume_is_compared_with_the_same_hour_of_earlier_weeks(
    stocked: sa.Engine, next_window: NextWindow, limits: ValidationSettings, arrived: int, expected: str
) -> None:
    # The hours before and the same hour five weeks ago would give another verdict.
    earlier_windows(stocked, {7: 38, 14: 40, 21: 42, 6.9: 4_000, 35: 4_000})
    add_feedback(stocked, *some_rows(arrived))
    assert verdict(measures_of(stocked, next_window(), limits)["volume"]) == expected


def test_volume_needs_enough_earlier_weeks(
    stocked: sa.Engine, next_window: NextWindow, limits: ValidationSettings
) -> None:
    earlier_windows(stocked, {7: 1_000})
    add_feedback(stocked, *some_rows(1))
    measure = measures_of(stocked, next_window(), limits)["volume"]
    assert measure.not_applicable == "1 earlier weeks with a window at this hour, 2 needed"


@pytest.mark.parametrize(("hours", "expected"), [(1, "passes"), (30, "warns"), (60, "fails")])
def test_freshness_is_the_age_of_the_newest_event_at_opening(
    stocked: sa.Engine,
    passed: Callable[..., Window],
    next_window: NextWindow,
    limits: ValidationSettings,
    hours: int,
    expected: str,
) -> None:
    passed(*some_rows(1))
    strict = limits.freshness_hours.model_copy(update={"fail_max": 48})
    add_feedback(
        stocked,
        {"occurred_at": NOW - timedelta(hours=hours)},
        {"occurred_at": NOW - timedelta(hours=200), "item_id": "b"},
    )
    measures = measures_of(stocked, next_window(), limits.model_copy(update={"freshness_hours": strict}))
    assert verdict(measures["freshness_hours"]) == expected


@pytest.mark.parametrize(("without", "expected"), [(5, "passes"), (20, "warns"), (40, "fails")])
def test_null_rate_is_compared_for_the_same_event_types(
    measured: Callable[..., dict[str, Measure]],
    passed: Callable[..., Window],
    without: int,
    expected: str,
) -> None:
    # Views never have an impression, likes always have one.
    passed(*some_rows(50, impression_id="i"), *some_rows(50, event_type="view", user_id="bob"))
    later = some_rows(60, impression_id="i", user_id="bob")
    for row in later[:without]:
        row["impression_id"] = None
    measures = measured(*later)
    assert verdict(measures["null_rate"]) == expected
    assert measures["null_rate"].observed["share"] == pytest.approx(without / 60)
    assert measures["null_rate"].observed["share_before"] == 0


@pytest.mark.parametrize(("views", "expected"), [(50, "passes"), (75, "warns"), (98, "fails")])
def test_event_mix_is_compared_with_earlier_windows(
    measured: Callable[..., dict[str, Measure]], passed: Callable[..., Window], views: int, expected: str
) -> None:
    passed(*some_rows(50), *some_rows(50, event_type="view", user_id="bob"))
    measures = measured(
        *some_rows(100 - views, user_id="bob"), *some_rows(views, event_type="view", user_id="ann")
    )
    assert verdict(measures["event_mix"]) == expected


@pytest.mark.parametrize(("fives", "expected"), [(50, "passes"), (75, "warns"), (98, "fails")])
def test_ratings_are_compared_with_earlier_windows(
    measured: Callable[..., dict[str, Measure]], passed: Callable[..., Window], fives: int, expected: str
) -> None:
    def ratings(count: int, value: float, user: str) -> Rows:
        return some_rows(count, event_type="rating", value=value, user_id=user)

    passed(*ratings(50, 1.0, "ann"), *ratings(50, 5.0, "bob"))
    measures = measured(*ratings(100 - fives, 1.0, "bob"), *ratings(fives, 5.0, "ann"))
    assert verdict(measures["rating_distribution"]) == expected
    assert verdict(measures["event_mix"]) == "passes"


@pytest.mark.parametrize(("different", "expected"), [(60, "passes"), (20, "warns"), (3, "fails")])
def test_coverage_of_items_and_users_is_compared_with_earlier_windows(
    stocked: sa.Engine,
    measured: Callable[..., dict[str, Measure]],
    passed: Callable[..., Window],
    different: int,
    expected: str,
) -> None:
    with stocked.begin() as connection:
        connection.execute(items.insert(), [{"item_id": f"i{n}", "title": "x"} for n in range(70)])
        connection.execute(users.insert(), [{"user_id": f"u{n}"} for n in range(70)])

    def spread(count: int, over: int, start: int) -> Rows:
        rows = some_rows(count)
        for n, row in enumerate(rows):
            moment = NOW - timedelta(minutes=start, seconds=n)
            row.update(item_id=f"i{n % over}", user_id=f"u{n % over}", occurred_at=moment)
        return rows

    passed(*spread(60, 60, 100))
    passed(*spread(60, 60, 200))
    measures = measured(*spread(60, different, 300))
    assert verdict(measures["item_coverage"]) == expected
    assert verdict(measures["user_coverage"]) == expected


def test_a_failed_window_is_not_a_reference(
    stocked: sa.Engine,
    measured: Callable[..., dict[str, Measure]],
    passed: Callable[..., Window],
    next_window: NextWindow,
    settings: Settings,
    limits: ValidationSettings,
    tmp_path: Path,
) -> None:
    passed(*some_rows(50))
    add_feedback(stocked, *some_rows(50, event_type="view"))
    failing = settings.model_copy(update={"validation": limits})
    with pytest.raises(
        ValidationFailedError, match=r"event_mix: observed event_mix .*, expected warn_max 0\.25"
    ):
        validate_window(stocked, next_window(), failing, tmp_path / "docs")
    again = measured(*some_rows(50, event_type="view", user_id="bob"))
    assert verdict(again["event_mix"]) == "fails"
    assert again["event_mix"].observed["rows_before"] == 50


def test_a_failing_expectation_is_stored_and_in_the_data_docs(
    stocked: sa.Engine,
    passed: Callable[..., Window],
    next_window: NextWindow,
    settings: Settings,
    limits: ValidationSettings,
    tmp_path: Path,
) -> None:
    passed(*some_rows(50))
    add_feedback(stocked, *some_rows(50, event_type="view"), {"item_id": "new"})
    window = next_window()
    with pytest.raises(ValidationFailedError) as failure:
        validate_window(
            stocked, window, settings.model_copy(update={"validation": limits}), tmp_path / "docs"
        )
    assert "event_mix: observed event_mix" in str(failure.value)
    assert "fail_max 1" in str(failure.value)
    query = sa.select(validation_results).where(validation_results.c.window_id == window.window_id)
    with stocked.connect() as connection:
        stored = {row.expectation: row for row in connection.execute(query)}
        held = connection.scalar(sa.text("SELECT count(*) FROM quarantine"))
    assert held == 0
    assert (stored["event_mix"].success, stored["event_mix"].severity) == (False, "critical")
    assert stored["event_mix"].observed["counts"] == {"view": 50}
    assert stored["volume"].expected["not_applicable"].startswith("0 earlier weeks")
    pages = "".join(
        page.read_text() for page in (tmp_path / "docs" / f"window-{window.window_id}").rglob("*.html")
    )
    assert "event_mix: population stability index of event types against earlier windows" in pages
    assert "volume: does not apply: 0 earlier weeks" in pages


def test_an_empty_window_fails_if_feedback_usually_arrives_at_this_hour(
    stocked: sa.Engine,
    next_window: NextWindow,
    settings: Settings,
    limits: ValidationSettings,
    tmp_path: Path,
) -> None:
    earlier_windows(stocked, {7: 38, 14: 40, 21: 42})
    with pytest.raises(ValidationFailedError, match="volume: observed volume 0, arrived 0"):
        validate_window(
            stocked, next_window(), settings.model_copy(update={"validation": limits}), tmp_path / "docs"
        )


def earlier_windows(engine: sa.Engine, arrived_by_days_ago: dict[float, int]) -> None:
    """Record windows that were opened days ago and whose rows no longer exist."""
    with engine.begin() as connection:
        for days, arrived in arrived_by_days_ago.items():
            connection.execute(
                windows.insert().values(
                    consumer="nightly",
                    run_key=f"{days} days ago",
                    lower_transaction_id=0,
                    upper_transaction_id=0,
                    opened_at=datetime.now(UTC) - timedelta(days=days),
                    arrived=arrived,
                )
            )


def test_windows_of_the_past_are_judged_as_of_their_interval(
    stocked: sa.Engine, next_window: NextWindow, limits: ValidationSettings
) -> None:
    earlier_windows(stocked, {14: 10, 21: 10})
    add_feedback(stocked, *some_rows(10))
    window = next_window()
    end = datetime.now(UTC) - timedelta(days=7)
    with stocked.begin() as connection:
        connection.execute(
            windows.update()
            .where(windows.c.window_id == window.window_id)
            .values(interval_start=end - timedelta(hours=1), interval_end=end)
        )
    measures = measures_of(stocked, load_window(stocked, window.window_id), limits)
    assert measures["volume"].value == 1


def test_one_limit_can_be_changed_and_infinity_switches_it_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path))
    monkeypatch.setenv("RECSYS_VALIDATION__VOLUME__FAIL_MIN", "0.2")
    monkeypatch.setenv("RECSYS_VALIDATION__EVENT_MIX__FAIL_MAX", "inf")
    limits = load_settings().validation
    assert limits.volume.model_dump() == {"warn_min": 0.5, "warn_max": 2, "fail_min": 0.2, "fail_max": 10}
    assert limits.event_mix.model_dump(exclude_none=True) == {"warn_max": 0.25}
