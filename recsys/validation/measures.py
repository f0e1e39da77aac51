"""Measure a window of feedback and compare the figures with those of earlier windows.

The reference is the counts that validation stored for earlier windows that passed
(`validation_results.observed`). So the cost of a comparison does not grow with the amount of feedback.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from recsys.settings import Bounds, LowerBounds, ValidationSettings
from recsys.validation.rules import PUSHED
from recsys.validation.violations import bounds, planned_for
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import row_violations, windows
from recsys.warehouse.windows import Window

_HOUR = timedelta(hours=1)
_WEEK = timedelta(days=7)
# Age of the earlier windows that are compared with: four whole weeks, so that every weekday counts alike and
# the volume at one hour has four windows.
_REFERENCE_AGE = timedelta(days=28)
# With fewer windows, one unusual window would decide the median.
_MIN_REFERENCE_WINDOWS = 3
# Separates an event type from the column or the tenth of its range in the name of a bin.
_SEPARATOR = ": "


@dataclass(frozen=True)
class Measure:
    """A figure of a window with its limits.

    Attributes
    ----------
    what
        What is measured, in words.
    value
        The figure. None: the expectation does not apply, and `not_applicable` gives the reason.
    observed
        The figure and the numbers it was computed from, JSON-ready. Later windows use its `counts` as
        reference.
    """

    name: str
    what: str
    value: float | None
    bounds: Bounds
    observed: dict[str, Any]
    not_applicable: str | None = None


@dataclass
class _Profile:
    """Counts of a window's valid rows."""

    newest: datetime | None = None
    event_mix: Counter[str] = field(default_factory=Counter)
    rating_distribution: Counter[str] = field(default_factory=Counter)
    null_rate: Counter[str] = field(default_factory=Counter)
    """Nulls by event type and column."""

    @property
    def rows(self) -> int:
        return self.event_mix.total()


def measure_window(connection: sa.Connection, window: Window, settings: ValidationSettings) -> list[Measure]:
    """Return the figures of a window whose violations are already recorded, compared with earlier windows.

    A figure does not apply when the window or the reference is too small to compare.
    """
    since = _as_of(window) - _REFERENCE_AGE
    with planned_for(connection, window):
        profile = _profile(connection, window)
        covered = connection.execute(
            sa.text(read_statement("validation/count_window_coverage")), bounds(window)
        ).one()
    rows = connection.execute(
        sa.text(read_statement("validation/select_reference_counts")),
        {"lower_transaction_id": window.lower_transaction_id, "since": since},
    )
    reference: dict[str, Counter[str]] = {
        name: Counter() for name in ("event_mix", "rating_distribution", "null_rate", "placement_mix")
    }
    for expectation, bin_, count in rows:
        reference[expectation][bin_] = count
    return [
        *_completeness(connection, window, profile, settings),
        measure_volume(connection, window, settings),
        _freshness(connection, window, profile, settings),
        _null_rate(profile, reference, settings),
        _drift(connection, "event_mix", "event types", profile.event_mix, reference, settings),
        _drift(
            connection, "rating_distribution", "ratings", profile.rating_distribution, reference, settings
        ),
        *(
            _coverage(connection, window, since, profile.rows, name, counts, settings)
            for name, counts in {
                "item_coverage": (covered.items, covered.all_items),
                "user_coverage": (covered.users, covered.all_users),
            }.items()
        ),
        *_slates(connection, window, reference, settings),
    ]


def measure_volume(connection: sa.Connection, window: Window, settings: ValidationSettings) -> Measure:
    """Compare the number of rows that arrived with the same hour of earlier weeks."""
    earlier = connection.execute(
        sa.text(read_statement("validation/select_reference_volume")),
        {
            "consumer": window.consumer,
            "window_id": window.window_id,
            "as_of": _as_of(window),
            "weeks": _REFERENCE_AGE // _WEEK,
        },
    ).one()
    measure = _maker(
        "volume", "rows that arrived, divided by the median at this hour of earlier weeks", settings
    )
    if earlier.weeks < _MIN_REFERENCE_WINDOWS:
        return measure(
            f"{earlier.weeks} earlier weeks with a window at this hour, {_MIN_REFERENCE_WINDOWS} needed"
        )
    if not earlier.median:
        return measure("no feedback arrived at this hour of earlier weeks")
    return measure(
        None, window.arrived / earlier.median, arrived=window.arrived, median_of_earlier_weeks=earlier.median
    )


def compare_distributions(
    connection: sa.Connection, observed: Mapping[str, int], reference: Mapping[str, int]
) -> tuple[float, float]:
    """Compute the population stability index and the Kullback-Leibler divergence in Postgres.

    Parameters
    ----------
    observed, reference
        Number of rows by bin.
    """
    psi, kl = connection.execute(
        sa.text(read_statement("validation/compare_distributions")),
        {"observed": json.dumps(observed), "reference": json.dumps(reference)},
    ).one()
    return psi, kl


def _profile(connection: sa.Connection, window: Window) -> _Profile:
    profile = _Profile()
    for row in connection.execute(sa.text(read_statement("validation/measure_window")), bounds(window)):
        profile.event_mix[row.event_type] += row.rows
        if row.tenth is not None:
            profile.rating_distribution[f"{row.event_type}{_SEPARATOR}{row.tenth}"] += row.rows
        for column, nulls in {
            "value": row.null_values,
            "comment": row.null_comments,
            "impression_id": row.null_impressions,
        }.items():
            profile.null_rate[f"{row.event_type}{_SEPARATOR}{column}"] += nulls
        profile.newest = max(filter(None, (profile.newest, row.newest)), default=None)
    return profile


def _completeness(
    connection: sa.Connection, window: Window, profile: _Profile, settings: ValidationSettings
) -> list[Measure]:
    broken = connection.scalar(
        sa.select(sa.func.count())
        .select_from(row_violations)
        .where(
            row_violations.c.window_id == window.window_id,
            row_violations.c.quarantined,
            row_violations.c.earlier_transaction_id.is_(None),
            row_violations.c.reasons != [PUSHED],
        )
    )
    held = connection.scalar(sa.text(read_statement("validation/count_quarantined_feedback")), bounds(window))
    present = profile.rows + int(broken or 0) + int(held or 0)
    share = profile.rows / present if present else None
    return [
        Measure(
            "arrived",
            "feedback rows in the window",
            window.arrived,
            LowerBounds(warn_min=None, fail_min=1),
            {"arrived": window.arrived},
        ),
        Measure(
            "valid_share",
            "share of the window's rows that break no rule",
            share,
            settings.valid_share,
            {} if share is None else {"valid_share": share},
            "all rows of the window were erased" if share is None else None,
        ),
    ]


def _freshness(
    connection: sa.Connection, window: Window, profile: _Profile, settings: ValidationSettings
) -> Measure:
    measure = _maker(
        "freshness_hours", "age of the newest event when the window was opened, in hours", settings
    )
    has_earlier = connection.scalar(
        sa.select(
            sa.exists().where(
                windows.c.consumer == window.consumer,
                windows.c.window_id < window.window_id,
                windows.c.arrived > 0,
            )
        )
    )
    if not has_earlier:
        return measure("this is the consumer's first window, which may hold old history")
    if profile.newest is None:
        return measure("the window has no valid feedback")
    return measure(None, (_as_of(window) - profile.newest) / _HOUR, newest=profile.newest.isoformat())


def _null_rate(
    profile: _Profile, reference: Mapping[str, Counter[str]], settings: ValidationSettings
) -> Measure:
    measure = _maker(
        "null_rate",
        "rise of the share of nulls in the worst column over earlier windows with the same event types",
        settings,
    )
    counts = dict(profile.null_rate)
    before = reference["event_mix"]
    known = {name: rows for name, rows in profile.event_mix.items() if before[name]}
    rows = sum(known.values())
    if why_not := _too_few(rows, sum(before[name] for name in known), settings):
        return measure(why_not, counts=counts)
    rates, expected = {}, {}
    for column in ("value", "comment", "impression_id"):
        bins = {name: f"{name}{_SEPARATOR}{column}" for name in known}
        rates[column] = sum(profile.null_rate[bin_] for bin_ in bins.values()) / rows
        expected[column] = (
            sum(known[name] * reference["null_rate"][bin_] / before[name] for name, bin_ in bins.items())
            / rows
        )
    worst = max(rates, key=lambda column: rates[column] - expected[column])
    return measure(
        None,
        rates[worst] - expected[worst],
        column=worst,
        share=rates[worst],
        share_before=expected[worst],
        counts=counts,
    )


def _drift(
    connection: sa.Connection,
    name: str,
    what: str,
    counts: Counter[str],
    reference: Mapping[str, Counter[str]],
    settings: ValidationSettings,
) -> Measure:
    before = reference[name]
    measure = _maker(name, f"population stability index of {what} against earlier windows", settings)
    if why_not := _too_few(counts.total(), before.total(), settings):
        return measure(why_not, counts=dict(counts))
    psi, kl = compare_distributions(connection, counts, before)
    return measure(None, psi, kl=kl, rows_before=before.total(), counts=dict(counts))


def _slates(
    connection: sa.Connection,
    window: Window,
    reference: Mapping[str, Counter[str]],
    settings: ValidationSettings,
) -> list[Measure]:
    """Measure the slates of the same transactions, which are judged before."""
    rows = connection.execute(sa.text(read_statement("validation/count_slates")), bounds(window)).all()
    valid = Counter({row.placement: row.arrived - row.held for row in rows})
    arrived = sum(row.arrived for row in rows)
    share = _maker("slate_valid_share", "share of the window's slates that break no rule", settings)
    return [
        share(None, valid.total() / arrived, arrived=arrived) if arrived else share("no slate was logged"),
        _drift(connection, "placement_mix", "placements of slates", valid, reference, settings),
    ]


def _coverage(
    connection: sa.Connection,
    window: Window,
    since: datetime,
    rows: int,
    name: str,
    counts: tuple[int, int],
    settings: ValidationSettings,
) -> Measure:
    covered, possible = counts[0], min(rows, counts[1])
    measure = _maker(
        name,
        f"share of the possible {name.split('_')[0]}s that occur, divided by the median of earlier windows",
        settings,
    )
    if rows < settings.min_rows or not possible:
        return measure(f"{rows} rows in the window, {settings.min_rows} needed")
    coverage = covered / possible
    earlier = connection.execute(
        sa.text(read_statement("validation/select_reference_coverage")),
        {
            "consumer": window.consumer,
            "window_id": window.window_id,
            "since": since,
            "expectation": name,
        },
    ).one()
    if earlier.windows < _MIN_REFERENCE_WINDOWS or not earlier.median:
        return measure(
            f"{earlier.windows} earlier windows to compare with, {_MIN_REFERENCE_WINDOWS} needed",
            coverage=coverage,
        )
    return measure(
        None, coverage / earlier.median, coverage=coverage, median_of_earlier_windows=earlier.median
    )


def _as_of(window: Window) -> datetime:
    """Return the end of the window's interval, or when it was opened if that was earlier."""
    return min(window.interval_end or window.opened_at, window.opened_at)


def _too_few(rows: int, reference_rows: int, settings: ValidationSettings) -> str | None:
    if min(rows, reference_rows) >= settings.min_rows:
        return None
    return (
        f"{rows} rows in the window and {reference_rows} in earlier windows, "
        f"{settings.min_rows} needed in each"
    )


def _maker(name: str, what: str, settings: ValidationSettings) -> Callable[..., Measure]:
    """Return a function that builds the measure of this name from a reason not to apply, or from a value."""

    def measure(not_applicable: str | None, value: float | None = None, **observed: Any) -> Measure:
        figure = {} if value is None else {name: value}
        return Measure(name, what, value, getattr(settings, name), figure | observed, not_applicable)

    return measure
