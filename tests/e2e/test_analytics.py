"""Every view of the schema `analytics`, on what the demo left, against figures that plain Python computes."""

import math
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.warehouse.analytics import SCHEMA
from tests.e2e.conftest import Demo
from tests.e2e.expected_views import EMPTY, VIEWS, Row, champion_history
from tests.e2e.stack import Stack


def _sorted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort rows by their exact values (neither computed nor null), so that two lists can be compared."""

    def key(row: Row) -> tuple[str, ...]:
        return tuple(f"{name}={value!r}" for name, value in sorted(row.items()) if _is_exact(value))

    return sorted(rows, key=key)


def _is_exact(value: object) -> bool:
    return not isinstance(value, float | list | dict | datetime) and value is not None


def _same(found: object, expected: object) -> bool:
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12) or (found != found != expected)
    return found == expected


def test_every_view_and_function_is_computed_here_too(stack: Stack, up: str) -> None:
    names = stack.read(
        f"""
        SELECT relname AS name FROM pg_class
        WHERE relnamespace = '{SCHEMA}'::regnamespace AND relkind IN ('r', 'v', 'm', 'p', 'f')
        UNION ALL
        SELECT proname FROM pg_proc WHERE pronamespace = '{SCHEMA}'::regnamespace
        """,
    )
    assert {row["name"] for row in names} == {*VIEWS, *EMPTY, "champion_at"}


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_shows_what_plain_python_computes_from_the_tables(view: str, demo: Demo) -> None:
    warehouse = demo.warehouse
    found, expected = _sorted(warehouse.views[view]), _sorted(VIEWS[view](warehouse.tables))
    assert expected
    assert len(found) == len(expected)
    for found_row, expected_row in zip(found, expected, strict=True):
        assert found_row.keys() == expected_row.keys()
        differing = {
            name: (found_row[name], expected_row[name])
            for name in found_row
            if not _same(found_row[name], expected_row[name])
        }
        assert differing == {}, found_row


@pytest.mark.parametrize("view", EMPTY)
def test_a_view_of_what_the_demo_does_not_have_is_empty(view: str, demo: Demo) -> None:
    assert list(EMPTY[view](demo.warehouse.tables)) == []
    assert demo.warehouse.views[view] == []


def test_the_champion_at_any_moment_is_the_version_promoted_last(stack: Stack, demo: Demo) -> None:
    changes = champion_history(demo.warehouse.tables)
    assert len(changes) >= 2
    expected: dict[datetime, str | None] = {changes[0]["valid_from"] - timedelta(microseconds=1): None}
    for before, after in zip([None, *changes], changes, strict=False):
        moment = after["valid_from"]
        expected[moment] = after["model_version"]
        expected[moment - timedelta(microseconds=1)] = before["model_version"] if before else None
    with stack.engine.connect() as connection:
        query = sa.text(f"SELECT {SCHEMA}.champion_at(:moment)")
        found = {moment: connection.scalar(query, {"moment": moment}) for moment in expected}
    assert found == expected
