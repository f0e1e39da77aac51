"""Evaluate the row rules on a window once; Great Expectations and the quarantine read the recorded result."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from recsys.settings import ValidationSettings
from recsys.validation.rules import RELATED_TABLE, Rule, broken_rules_query, down_weighted
from recsys.warehouse.advisory_locks import block_partition_moves, lock
from recsys.warehouse.statements import read_statement, render_literals
from recsys.warehouse.tables import row_violations
from recsys.warehouse.windows import Window

# A window this large is read with full scans. After a bulk load statistics are stale, and the planner
# would choose nested loops.
_BULK_ROWS = 1_000_000
_PLANNING = {
    "jit": "off",
    "work_mem": "'64MB'",
    "parallel_tuple_cost": "0.001",
}
_BULK_PLANNING = {"enable_nestloop": "off"}
_JOINS_WITHOUT_HASH = ("enable_nestloop", "enable_mergejoin")


def judge_window(
    connection: sa.Connection, window: Window, rules: Sequence[Rule], settings: ValidationSettings
) -> int:
    """Evaluate the rules on the window's rows and record the violations in `row_violations`.

    It runs in the caller's transaction and replaces earlier records of the window.

    Returns
    -------
    int
        Number of rows that break a rule.
    """
    # Two attempts of one task must not record the same rows at the same time.
    lock(connection, f"validation of window {window.window_id}")
    block_partition_moves(connection)
    delete_violations(connection, window)
    if not rules:
        return 0
    parameters = _parameters(connection, window, settings)
    related = render_literals(read_statement("validation/select_related"), parameters)
    connection.exec_driver_sql(
        "CREATE TEMP TABLE broken_rules (feedback_id bigint, reason text, earlier_transaction_id bigint)"
        " ON COMMIT DROP"
    )
    with planned_for(connection, window):
        # Postgres parallelises CREATE TABLE AS but not INSERT ... SELECT.
        connection.exec_driver_sql(f"CREATE TEMP TABLE {RELATED_TABLE} ON COMMIT DROP AS\n{related}")
        _find_broken(connection, [rule for rule in rules if not rule.reads_earlier], parameters)
        # These compare people and items of the whole window. The planner expects a few rows of each, and any
        # join but a hash join would compare all with all.
        for name in _JOINS_WITHOUT_HASH:
            connection.exec_driver_sql(f"SET LOCAL {name} = off")
        _find_broken(connection, [rule for rule in rules if rule.reads_earlier], parameters)
        for name in _JOINS_WITHOUT_HASH:
            connection.exec_driver_sql(f"SET LOCAL {name} TO DEFAULT")
    recorded = connection.execute(
        sa.text(read_statement("validation/insert_row_violations")),
        {"window_id": window.window_id, "down_weighted": down_weighted(rules, settings)},
    )
    connection.exec_driver_sql(f"DROP TABLE broken_rules, {RELATED_TABLE}")
    return int(recorded.rowcount)


def _find_broken(connection: sa.Connection, rules: Sequence[Rule], parameters: dict[str, Any]) -> None:
    """Add the rows that break these rules to the temporary table `broken_rules`."""
    if rules:
        query = broken_rules_query(rules, parameters)
        connection.exec_driver_sql(f"CREATE TEMP TABLE found ON COMMIT DROP AS\n{query}")
        connection.exec_driver_sql("INSERT INTO broken_rules SELECT * FROM found")
        connection.exec_driver_sql("DROP TABLE found")


def delete_violations(connection: sa.Connection, window: Window) -> None:
    """Delete the recorded violations of a window."""
    connection.execute(row_violations.delete().where(row_violations.c.window_id == window.window_id))


def earliest_violation(connection: sa.Connection, window: Window) -> int:
    """Return the lowest transaction id of rows with recorded violations, or the window's lower bound."""
    earliest = connection.scalar(
        sa.select(sa.func.min(row_violations.c.earlier_transaction_id)).where(
            row_violations.c.window_id == window.window_id
        )
    )
    return window.lower_transaction_id if earliest is None else int(earliest)


@contextmanager
def planned_for(connection: sa.Connection, window: Window) -> Iterator[None]:
    """Set planner options that suit the window's size, within the caller's transaction."""
    chosen = _PLANNING | (_BULK_PLANNING if window.arrived >= _BULK_ROWS else {})
    for name, value in chosen.items():
        connection.exec_driver_sql(f"SET LOCAL {name} = {value}")
    yield
    # Not in a `finally`: an error ends the transaction and the options with it.
    for name in chosen:
        connection.exec_driver_sql(f"SET LOCAL {name} TO DEFAULT")


def bounds(window: Window) -> dict[str, Any]:
    """Return the statement parameters that name the window and its bounds."""
    return {
        "window_id": window.window_id,
        "lower_transaction_id": window.lower_transaction_id,
        "upper_transaction_id": window.upper_transaction_id,
    }


def _parameters(connection: sa.Connection, window: Window, settings: ValidationSettings) -> dict[str, Any]:
    previous = connection.scalar(
        sa.text(read_statement("validation/select_previous_lower")),
        {"consumer": window.consumer, "window_id": window.window_id},
    )
    return {**settings.model_dump(), **bounds(window), "previous_lower_transaction_id": previous}
