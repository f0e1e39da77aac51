"""Validate a window: row rules move rows to quarantine, table expectations can stop the run."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from recsys.errors import NothingToDoError, ValidationFailedError
from recsys.settings import Settings, ValidationSettings
from recsys.validation.measures import measure_volume, measure_window
from recsys.validation.quarantine import quarantine_window, settle_window
from recsys.validation.rules import row_rules
from recsys.validation.violations import bounds, judge_window
from recsys.warehouse.backlog import find_backlog
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import validation_results
from recsys.warehouse.visitors import settle_visitors
from recsys.warehouse.windows import Window, load_window

if TYPE_CHECKING:
    from recsys.validation.expectations import Result

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ValidationReport:
    """Counts of a window's rows after validation.

    Attributes
    ----------
    arrived, valid, quarantined, duplicates
        Numbers of rows. Duplicates are in quarantine too but broke only `duplicate_...` rules. The difference
        between `arrived` and the sum of the others was erased at users' request.
    down_weighted
        Valid rows that are noise: the feedback of their users has a lower weight in snapshots.
    reasons
        Rows in quarantine by rule; a row can break several rules.
    failed
        Names of the expectations that did not hold, including warnings.
    data_docs
        URL of the first page of the run's Data Docs.
    """

    window_id: int
    arrived: int
    valid: int
    quarantined: int
    duplicates: int
    down_weighted: int
    reasons: dict[str, int]
    failed: list[str]
    data_docs: str


@dataclass(frozen=True)
class _Counts:
    arrived: int
    valid: int
    quarantined: int
    duplicates: int
    erased: int
    down_weighted: int
    reasons: dict[str, int]


class _Rows(NamedTuple):
    """A result without Great Expectations, see `recsys.validation.expectations.Result`."""

    name: str
    success: bool
    severity: str
    observed: dict[str, Any]
    expected: dict[str, Any]


def validate_window(
    engine: sa.Engine, window: Window, settings: Settings, data_docs_dir: Path
) -> ValidationReport:
    """Validate a window's rows and move those that break a row rule to quarantine.

    The rules are evaluated once; Great Expectations and the quarantine both read the recorded violations.
    If a table expectation fails, no row is moved: a person can fix the cause (items that are not loaded yet,
    for example) and clear the task. Otherwise the consumer's next window moves those rows.

    Parameters
    ----------
    data_docs_dir
        Folder of the Data Docs of all windows; the window's static site is its folder `window-ID`.

    Raises
    ------
    NothingToDoError
        No row arrived in the window, and none was expected.
    ValidationFailedError
        A table expectation failed. The message gives its name, the observed and the expected figures.
    """
    site = data_docs_dir.resolve() / f"window-{window.window_id}"
    page = site / "index.html"
    rules = row_rules()
    limits = settings.validation
    if window.arrived == 0 and not _is_feedback_missing(engine, window, limits):
        backlog = find_backlog(engine, window)
        raise NothingToDoError(
            f"no feedback arrived in window {window.window_id} of {window.consumer}"
            if backlog is None
            else f"window {window.window_id} of {window.consumer} is empty, but {backlog}"
        )
    if page.is_file() and _is_settled(engine, window):
        return _stored_report(engine, window, page)
    _settle_visitors(engine, window, settings)
    # The import takes seconds, and an empty window does not need it.
    from recsys.validation.expectations import WindowExpectations

    with engine.begin() as connection:
        judge_window(connection, window, rules, limits)
        measures = measure_window(connection, window, limits)
    with WindowExpectations(engine, window, limits, site) as expectations:
        results = expectations.validate_rows(rules) + expectations.validate_measures(measures)
        expectations.write_data_docs()
    logger.info("Data Docs of window %d: %s", window.window_id, page.as_uri())
    failed = [result for result in results if not result.success]
    critical = [result for result in failed if result.severity == "critical"]
    with engine.begin() as connection:
        if not critical:
            for earlier in _unsettled_windows(connection, window):
                quarantine_window(connection, earlier, rules, limits)
            settle_window(connection, window)
        counts = _count(connection, window)
        _store(connection, window, results)
    if critical:
        raise ValidationFailedError(_explain(window, critical, results, page))
    for result in failed:
        logger.warning("window %d: %s", window.window_id, _describe(result))
    logger.info(
        "window %d: %d rows arrived, %d valid, %d quarantined, %d duplicates",
        window.window_id,
        counts.arrived,
        counts.valid,
        counts.quarantined,
        counts.duplicates,
    )
    return _report(window, counts, sorted(result.name for result in failed), page)


def validate_rows(engine: sa.Engine, window: Window, settings: Settings) -> None:
    """Move the rows of a window that break a row rule to quarantine, and let models read the others.

    Expectations about the whole window do not apply: a few minutes hold too few rows for them. The windows of
    the DAGs that train contain the same rows, and their expectations count those in quarantine.

    Raises
    ------
    NothingToDoError
        No row arrived in the window.
    """
    if window.arrived == 0:
        raise NothingToDoError(f"no feedback arrived in window {window.window_id} of {window.consumer}")
    if _is_settled(engine, window):
        return
    _settle_visitors(engine, window, settings)
    rules = row_rules()
    with engine.begin() as connection:
        for each in (*_unsettled_windows(connection, window), window):
            quarantine_window(connection, each, rules, settings.validation)
        counts = _count(connection, window)
        rows = max(counts.arrived - counts.erased, 1)
        observed = {"valid_share": counts.valid / rows}
        _store(connection, window, [_Rows("valid_share", True, "warning", observed, {})])
    logger.info(
        "window %d: %d rows arrived, %d valid, %d quarantined",
        window.window_id,
        counts.arrived,
        counts.valid,
        counts.quarantined + counts.duplicates,
    )


def _is_feedback_missing(engine: sa.Engine, window: Window, limits: ValidationSettings) -> bool:
    """Whether feedback usually arrives at this hour, so that an empty window is a failure."""
    with engine.connect() as connection:
        volume = measure_volume(connection, window, limits)
    return volume.value is not None and (limits.volume.fail_min or 0) > volume.value


def _report(window: Window, counts: _Counts, failed: list[str], page: Path) -> ValidationReport:
    return ValidationReport(
        window_id=window.window_id,
        arrived=counts.arrived,
        valid=counts.valid,
        quarantined=counts.quarantined,
        duplicates=counts.duplicates,
        down_weighted=counts.down_weighted,
        reasons=counts.reasons,
        failed=failed,
        data_docs=page.as_uri(),
    )


def _is_settled(engine: sa.Engine, window: Window) -> bool:
    query = sa.text(read_statement("validation/select_unsettled_windows"))
    next_window = {"consumer": window.consumer, "window_id": window.window_id + 1}
    with engine.connect() as connection:
        return window.window_id not in connection.scalars(query, next_window).all()


def _stored_report(engine: sa.Engine, window: Window, page: Path) -> ValidationReport:
    """Return the report of a validation that already ended: the rules would find nothing more to move."""
    query = (
        sa.select(validation_results.c.expectation)
        .where(validation_results.c.window_id == window.window_id, ~validation_results.c.success)
        .order_by(validation_results.c.expectation)
    )
    with engine.connect() as connection:
        return _report(window, _count(connection, window), list(connection.scalars(query)), page)


def _settle_visitors(engine: sa.Engine, window: Window, settings: Settings) -> None:
    """Make visitors users, in this window and in earlier ones whose rows it may quarantine."""
    with engine.connect() as connection:
        earlier = _unsettled_windows(connection, window)
    for each in (*earlier, window):
        settle_visitors(engine, each, consent=settings.privacy.visitor_consent)


def _unsettled_windows(connection: sa.Connection, window: Window) -> list[Window]:
    """Return the consumer's earlier windows whose validation failed or did not finish."""
    ids = connection.scalars(
        sa.text(read_statement("validation/select_unsettled_windows")),
        {"consumer": window.consumer, "window_id": window.window_id},
    ).all()
    return [load_window(connection.engine, window_id) for window_id in ids]


def _count(connection: sa.Connection, window: Window) -> _Counts:
    row = connection.execute(
        sa.text(read_statement("validation/count_validated_feedback")), bounds(window)
    ).one()
    reasons: Counter[str] = Counter()
    quarantined = duplicates = 0
    for names, rows in connection.execute(
        sa.text(read_statement("validation/count_quarantine_reasons")), bounds(window)
    ):
        reasons.update(dict.fromkeys(names, rows))
        if all(name.startswith("duplicate") for name in names):
            duplicates += rows
        else:
            quarantined += rows
    return _Counts(
        arrived=row.valid + quarantined + duplicates + row.erased,
        valid=row.valid,
        quarantined=quarantined,
        duplicates=duplicates,
        erased=row.erased,
        down_weighted=row.down_weighted,
        reasons=dict(sorted(reasons.items())),
    )


def _store(connection: sa.Connection, window: Window, results: Sequence["Result | _Rows"]) -> None:
    statement = insert(validation_results).values(
        [
            {
                "window_id": window.window_id,
                "expectation": result.name,
                "success": result.success,
                "severity": result.severity,
                "observed": result.observed,
                "expected": result.expected,
            }
            for result in results
        ]
    )
    replaced = {name: statement.excluded[name] for name in ("success", "severity", "observed", "expected")}
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["window_id", "expectation"],
            set_={**replaced, "validated_at": sa.func.clock_timestamp()},
        )
    )


def _explain(window: Window, critical: Iterable["Result"], results: Iterable["Result"], page: Path) -> str:
    rows = {result.name: result.observed.get("unexpected_rows", 0) for result in results}
    worst = sorted((name for name in rows if rows[name]), key=lambda name: -rows[name])[:3]
    broken = ", ".join(f"{name} {rows[name]}" for name in worst)
    return (
        f"window {window.window_id} failed validation and must not be trained on: "
        f"{'; '.join(map(_describe, critical))}. "
        + (f"Rows by broken rule: {broken}. " if broken else "")
        + "No row was moved to quarantine. Fix the cause, or change the limit in RECSYS_VALIDATION__..., and "
        f"clear the task. Data Docs: {page.as_uri()}"
    )


def _describe(result: "Result") -> str:
    observed = {name: value for name, value in result.observed.items() if name != "counts"}
    return f"{result.name}: observed {_plain(observed)}, expected {_plain(result.expected)}"


def _plain(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )
