"""Which rows of a window break which rules: judged once, read by Great Expectations and the quarantine."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from recsys.settings import ValidationSettings
from recsys.validation.rules import RELATED_TABLE, Rule, broken_rules_query, down_weighted
from recsys.warehouse.locks import hold_partitions, take_turns
from recsys.warehouse.statements import read_statement, render_literals
from recsys.warehouse.tables import row_violations
from recsys.warehouse.windows import Window

# A window this large is read whole, whatever the statistics, which a bulk load leaves behind, make of it.
_BULK_ROWS = 1_000_000
_PLANNING = {
    "jit": "off",
    "work_mem": "'64MB'",
    "parallel_tuple_cost": "0.001",
}
_BULK_PLANNING = {"enable_nestloop": "off"}


def judge_window(
    connection: sa.Connection, window: Window, rules: Sequence[Rule], settings: ValidationSettings
) -> int:
    """Evaluate the rules over the window's rows and note the violations in `row_violations`.

    Whatever was noted for the window before is replaced, in the caller's transaction.

    Returns
    -------
    int
        Number of rows that break a rule.
    """
    # Two tries of one task must not note the same rows at the same time.
    take_turns(connection, f"validation of window {window.window_id}")
    hold_partitions(connection)
    forget_violations(connection, window)
    if not rules:
        return 0
    parameters = _parameters(connection, window, settings)
    related = render_literals(read_statement("validation/select_related"), parameters)
    query = broken_rules_query(rules, parameters)
    with planned_for(connection, window):
        # CREATE TABLE AS runs in parallel, INSERT ... SELECT does not.
        connection.exec_driver_sql(f"CREATE TEMP TABLE {RELATED_TABLE} ON COMMIT DROP AS\n{related}")
        connection.exec_driver_sql(f"CREATE TEMP TABLE broken_rules ON COMMIT DROP AS\n{query}")
    noted = connection.execute(
        sa.text(read_statement("validation/insert_row_violations")),
        {"window_id": window.window_id, "down_weighted": down_weighted(rules, settings)},
    )
    connection.exec_driver_sql(f"DROP TABLE broken_rules, {RELATED_TABLE}")
    return int(noted.rowcount)


def forget_violations(connection: sa.Connection, window: Window) -> None:
    """Drop what is noted of a window."""
    connection.execute(row_violations.delete().where(row_violations.c.window_id == window.window_id))


@contextmanager
def planned_for(connection: sa.Connection, window: Window) -> Iterator[None]:
    """Have statements over the whole window planned for its size, in the caller's transaction."""
    chosen = _PLANNING | (_BULK_PLANNING if window.arrived >= _BULK_ROWS else {})
    for name, value in chosen.items():
        connection.exec_driver_sql(f"SET LOCAL {name} = {value}")
    yield
    # Not after an error: the transaction is over then, and the settings with it.
    for name in chosen:
        connection.exec_driver_sql(f"SET LOCAL {name} TO DEFAULT")


def bounds(window: Window) -> dict[str, Any]:
    """Return the window's parameters of statements."""
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
