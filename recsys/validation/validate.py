"""Judges a window: row rules move rows to quarantine, table expectations can stop the run."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from recsys.errors import NothingToDoError, ValidationFailedError
from recsys.settings import Settings
from recsys.validation.quarantine import quarantine_window
from recsys.validation.rules import row_rules
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import validation_results
from recsys.warehouse.windows import Window, load_window

if TYPE_CHECKING:
    from recsys.validation.expectations import Result

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ValidationReport:
    """What became of a window's rows.

    Attributes
    ----------
    arrived, valid, quarantined, duplicates
        Rows; duplicates are in quarantine too but broke no rule beside `duplicate_...`. What is
        missing to `arrived` was erased at its user's request.
    reasons
        Rows in quarantine by rule; a row can break several.
    failed
        Names of the expectations that did not hold, warnings too.
    data_docs
        URL of the first page of the run's Data Docs.
    """

    window_id: int
    arrived: int
    valid: int
    quarantined: int
    duplicates: int
    reasons: dict[str, int]
    failed: list[str]
    data_docs: str

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return asdict(self)


@dataclass(frozen=True)
class _Counts:
    arrived: int
    valid: int
    quarantined: int
    duplicates: int
    erased: int
    reasons: dict[str, int]

    @property
    def valid_share(self) -> float:
        """Share of the rows that are still there which break no rule."""
        return self.valid / max(1, self.arrived - self.erased)


def validate_window(
    engine: sa.Engine, window: Window, settings: Settings, data_docs_dir: Path
) -> ValidationReport:
    """Validate a window's rows and move those that break a row rule into quarantine.

    When a critical expectation fails nothing is moved: what was wrong (items not loaded yet, say) can
    be put right and the task cleared. If nobody does, the consumer's next window moves those rows.

    Parameters
    ----------
    data_docs_dir
        Folder of Data Docs; the window's own static site is the folder `window-ID` in it.

    Raises
    ------
    NothingToDoError
        No row arrived in the window.
    ValidationFailedError
        A critical expectation failed; the message names it, what was observed and what expected.
    """
    if window.arrived == 0:
        raise NothingToDoError(f"no feedback arrived in window {window.window_id} of {window.consumer}")
    site = data_docs_dir.resolve() / f"window-{window.window_id}"
    page = site / "index.html"
    if page.is_file() and _is_settled(engine, window):
        return _retold(engine, window, page)
    # Imported late: it takes seconds, and an empty window needs none of it.
    from recsys.validation.expectations import WindowExpectations

    rules = row_rules()
    limits = settings.validation
    with WindowExpectations(engine, window, limits, site) as expectations:
        results = expectations.validate_rows(rules)
        broken = {result.name for result in results if not result.success}
        with engine.connect() as connection, connection.begin() as transaction:
            for earlier in _unsettled_windows(connection, window):
                quarantine_window(connection, earlier, rules, limits)
            quarantine_window(connection, window, [rule for rule in rules if rule.name in broken], limits)
            counts = _count(connection, window)
            results = [_with_quarantined(result, counts) for result in results]
            results += expectations.validate_outcome(
                {"arrived": counts.arrived, "valid_share": counts.valid_share}
            )
            expectations.write_data_docs()
            failed = [result for result in results if not result.success]
            critical = [result for result in failed if result.severity == "critical"]
            if critical:
                transaction.rollback()
            else:
                _store(connection, window, results)
    if critical:
        with engine.begin() as connection:
            _store(connection, window, results)
        raise ValidationFailedError(_explain(window, critical, counts, page))
    logger.info(
        "window %d: %d rows arrived, %d valid, %d quarantined, %d duplicates",
        window.window_id,
        counts.arrived,
        counts.valid,
        counts.quarantined,
        counts.duplicates,
    )
    return _report(window, counts, [result.name for result in failed], page)


def _report(window: Window, counts: _Counts, failed: list[str], page: Path) -> ValidationReport:
    return ValidationReport(
        window_id=window.window_id,
        arrived=counts.arrived,
        valid=counts.valid,
        quarantined=counts.quarantined,
        duplicates=counts.duplicates,
        reasons=counts.reasons,
        failed=failed,
        data_docs=page.as_uri(),
    )


def _is_settled(engine: sa.Engine, window: Window) -> bool:
    query = sa.select(validation_results.c.success).where(
        validation_results.c.window_id == window.window_id,
        validation_results.c.expectation == "valid_share",
    )
    with engine.connect() as connection:
        return bool(connection.scalar(query))


def _retold(engine: sa.Engine, window: Window, page: Path) -> ValidationReport:
    """Return the report of a validation that ended; the rules would find nothing more to move."""
    query = (
        sa.select(validation_results.c.expectation)
        .where(validation_results.c.window_id == window.window_id, ~validation_results.c.success)
        .order_by(validation_results.c.expectation)
    )
    with engine.connect() as connection:
        return _report(window, _count(connection, window), list(connection.scalars(query)), page)


def _with_quarantined(result: "Result", counts: _Counts) -> "Result":
    """Count rows that are in quarantine by now too: a retry or another consumer finds them moved."""
    rows = max(result.observed["unexpected_rows"], counts.reasons.get(result.name, 0))
    return replace(result, success=rows == 0, observed={"unexpected_rows": rows})


def _unsettled_windows(connection: sa.Connection, window: Window) -> list[Window]:
    """Return the consumer's earlier windows whose validation failed or never ran to its end."""
    ids = connection.scalars(
        sa.text(read_statement("select_unsettled_windows")),
        {"consumer": window.consumer, "window_id": window.window_id},
    ).all()
    return [load_window(connection.engine, window_id) for window_id in ids]


def _count(connection: sa.Connection, window: Window) -> _Counts:
    bounds = {
        "lower_transaction_id": window.lower_transaction_id,
        "upper_transaction_id": window.upper_transaction_id,
    }
    row = connection.execute(sa.text(read_statement("count_validated_feedback")), bounds).one()
    reasons: Counter[str] = Counter()
    quarantined = duplicates = 0
    for names, rows in connection.execute(sa.text(read_statement("count_quarantine_reasons")), bounds):
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
        reasons=dict(sorted(reasons.items())),
    )


def _store(connection: sa.Connection, window: Window, results: Sequence["Result"]) -> None:
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


def _explain(window: Window, critical: Iterable["Result"], counts: _Counts, page: Path) -> str:
    checks = "; ".join(
        f"{result.name}: observed {_plain(result.observed)}, expected {_plain(result.expected)}"
        for result in critical
    )
    worst = ", ".join(
        f"{name} {rows}" for name, rows in sorted(counts.reasons.items(), key=lambda pair: -pair[1])[:3]
    )
    return (
        f"window {window.window_id} must not be trained on: {checks}. Rows by broken rule: {worst}. Nothing "
        f"was moved to quarantine; put right what is wrong and clear the task. Data Docs: {page.as_uri()}"
    )


def _plain(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )
