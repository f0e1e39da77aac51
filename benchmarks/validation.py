"""Compare all row rules and the quarantine of one bad row in a hundred with one scan of the window.

    python -m benchmarks.validation --rows 5000000 --json F

`seconds` is the time of `validate_window` for the rules: evaluate them on all rows, run Great Expectations on
the recorded violations, move the bad rows. `expectations_seconds` is its time for the table expectations and
the Data Docs. The import of Great Expectations is not included. `scan_seconds` is the time of one parallel
scan that evaluates the predicates of all rules that look at one row at a time. A single scan cannot evaluate
the rules that compare rows (duplicates, contradictions, rates, impressions): they are only in `seconds`.
`accounts_seconds` is the time of the rules that look across accounts, by themselves; it is not in `seconds`.
"""

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from benchmarks.made_warehouse import (
    PSEUDONYM_KEY,
    add_catalogue,
    add_feedback,
    event_parameters,
    made_warehouse,
    report,
    seconds_of,
    vacuum,
)
from recsys.settings import Settings
from recsys.validation.measures import measure_window
from recsys.validation.quarantine import settle_window
from recsys.validation.rules import broken_rules_query, row_rules, scan_query
from recsys.validation.violations import bounds, judge_window, planned_for
from recsys.warehouse.engine import connect
from recsys.warehouse.windows import Window, open_window

_ROUNDS = 3
_BAD_SHARE = 0.01
# Copies of good rows with one error each. Contradictions come in pairs; the bot's events are in one minute.
_BAD_ROWS = """
INSERT INTO feedback (event_id, user_id, item_id, event_type, value, comment, occurred_at)
SELECT
    CASE kind WHEN 6 THEN 'event-' || n ELSE 'bad-' || n END,
    CASE kind WHEN 0 THEN 'nobody-' || n WHEN 9 THEN 'user-1' ELSE 'user-' || 1 + n % :users END,
    CASE kind WHEN 1 THEN 'nothing-' || n ELSE 'item-' || 1 + n / 20 % :items END,
    CASE kind
        WHEN 2 THEN 'poke' WHEN 3 THEN 'rating' WHEN 5 THEN 'comment' WHEN 7 THEN 'like' WHEN 8 THEN 'dislike'
        ELSE 'view'
    END,
    CASE kind WHEN 3 THEN 9 END,
    CASE kind WHEN 5 THEN E'PK\\x03\\x04' END,
    CASE kind
        WHEN 4 THEN NULL
        WHEN 9 THEN CAST(:first AS timestamptz) + interval '1 millisecond' * (n % 60000)
        WHEN 8 THEN CAST(:first AS timestamptz) + interval '1 s' * (n - 1) + interval '1 day'
        ELSE CAST(:first AS timestamptz) + interval '1 s' * n + interval '1 day'
    END
FROM (SELECT n, n % 10 AS kind FROM generate_series(1, :bad) AS n) AS numbered
"""
# Give each dislike the user and item of the like at the same time.
_MAKE_CONTRADICTORY = """
UPDATE feedback AS dislike
SET user_id = liked.user_id, item_id = liked.item_id
FROM feedback AS liked
WHERE dislike.event_type = 'dislike' AND liked.event_type = 'like' AND liked.event_id LIKE 'bad-%'
    AND dislike.occurred_at = liked.occurred_at
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validation")
    parser.add_argument("--rows", type=int, default=5_000_000, help="number of events")
    parser.add_argument("--users", type=int, help="number of users; default: one per 50 events")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder")
    options = parser.parse_args(arguments)
    logging.getLogger("recsys").setLevel(logging.ERROR)
    users = options.users or max(options.rows // 50, 1)
    bad = round(options.rows * _BAD_SHARE)
    with made_warehouse(options.folder) as (_, url, root):
        add_catalogue(url, users)
        add_feedback(url, options.rows - bad, users)
        engine = connect(url)
        parameters = event_parameters(options.rows, users) | {"bad": bad}
        with engine.begin() as connection:
            connection.execute(sa.text(_BAD_ROWS), parameters)
            connection.execute(sa.text(_MAKE_CONTRADICTORY))
        vacuum(url)
        window = open_window(engine, "benchmark", "one")
        settings = Settings(warehouse_url=url, home=root / "home", pseudonym_key=PSEUDONYM_KEY)
        # With few rows the bot would stay below the default limit.
        limits = {"max_events_per_minute": min(600, bad // 20)}
        settings = settings.model_copy(update={"validation": settings.validation.model_copy(update=limits)})
        scans = [_scan(engine, window, settings) for _ in range(_ROUNDS)]
        across = [_look_across_accounts(engine, window, settings) for _ in range(_ROUNDS)]
        import recsys.validation.expectations  # noqa: F401

        rules_seconds, expectations_seconds = _validate(engine, window, settings, root / "docs")
        reasons = _quarantine_reasons(engine)
        engine.dispose()
    figures = {
        "rows": window.arrived,
        "users": users,
        "seconds": rules_seconds,
        "scan_seconds": min(scans),
        "ratio_to_scan": rules_seconds / min(scans),
        "accounts_seconds": min(across),
        "accounts_ratio_to_scan": min(across) / min(scans),
        "expectations_seconds": expectations_seconds,
        "ratio_of_everything_to_scan": (rules_seconds + expectations_seconds) / min(scans),
        **reasons,
    }
    report(figures, options.json)


def _scan(engine: sa.Engine, window: Window, settings: Settings) -> float:
    statement = scan_query(row_rules(), {**settings.validation.model_dump(), **bounds(window)})
    with engine.begin() as connection, planned_for(connection, window):
        return seconds_of(lambda: connection.exec_driver_sql(statement).all())


def _look_across_accounts(engine: sa.Engine, window: Window, settings: Settings) -> float:
    rules = [rule for rule in row_rules() if rule.reads_earlier]
    query = broken_rules_query(rules, {**settings.validation.model_dump(), **bounds(window)})
    with engine.begin() as connection, planned_for(connection, window):
        return seconds_of(lambda: connection.exec_driver_sql(query).all())


def _validate(engine: sa.Engine, window: Window, settings: Settings, docs: Path) -> tuple[float, float]:
    """Run the steps of `validate_window`; return the seconds for rules and quarantine, and for the rest."""
    from recsys.validation.expectations import WindowExpectations

    rules, limits = [rule for rule in row_rules() if not rule.reads_earlier], settings.validation
    started = time.perf_counter()
    with engine.begin() as connection:
        judge_window(connection, window, rules, limits)
    judged = time.perf_counter()
    with engine.begin() as connection:
        measures = measure_window(connection, window, limits)
    measured = time.perf_counter()
    with WindowExpectations(engine, window, limits, docs) as expectations:
        expectations.validate_rows(rules)
        rows_validated = time.perf_counter()
        expectations.validate_measures(measures)
        expectations.write_data_docs()
    documented = time.perf_counter()
    with engine.begin() as connection:
        settle_window(connection, window)
    settled = time.perf_counter()
    others = (measured - judged) + (documented - rows_validated)
    return settled - started - others, others


def _quarantine_reasons(engine: sa.Engine) -> dict[str, int]:
    """Return the number of rows in quarantine by broken rule."""
    query = (
        "SELECT reason, count(*) FROM quarantine, unnest(reasons) AS reason GROUP BY reason ORDER BY reason"
    )
    with engine.connect() as connection:
        return {f"broke_{reason}": rows for reason, rows in connection.execute(sa.text(query))}


if __name__ == "__main__":
    main()
