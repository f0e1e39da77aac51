"""Every view of the schema `analytics`, on what the demo left, against figures that plain Python computes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.local.components import WAREHOUSE
from recsys.local.home import StackHome
from recsys.local.postgres import PostgresServer
from recsys.warehouse.analytics import SCHEMA
from tests.e2e.demo_machine import Machine
from tests.e2e.demo_views import EMPTY, TABLES, VIEWS, Row, Tables, champion_history

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Warehouse:
    """The demo's warehouse: its tables as Python values, and its views."""

    engine: sa.Engine
    tables: Tables

    def rows(self, relation: str) -> list[dict[str, Any]]:
        return read(self.engine, f"SELECT * FROM {SCHEMA}.{relation}")


def read(engine: sa.Engine, query: str) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.exec_driver_sql(query).mappings()]


@pytest.fixture(scope="module")
def warehouse(machine: Machine, first: tuple[str, dict[str, Any]]) -> Iterator[Warehouse]:
    """The warehouse of the demo, whose Postgres has been stopped, as it was left: nothing is refreshed."""
    server = PostgresServer(StackHome(machine.home).postgres_data)
    server.start()
    engine = sa.create_engine(server.url(WAREHOUSE))
    try:
        yield Warehouse(engine, {table: read(engine, f"SELECT * FROM public.{table}") for table in TABLES})
    finally:
        engine.dispose()
        server.stop()


def _sorted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort rows by what is neither computed nor null, so that two lists can be compared one by one."""

    def key(row: Row) -> tuple[str, ...]:
        return tuple(f"{name}={value!r}" for name, value in sorted(row.items()) if _is_exact(value))

    return sorted(rows, key=key)


def _is_exact(value: object) -> bool:
    return not isinstance(value, float | list | dict | datetime) and value is not None


def _same(found: object, expected: object) -> bool:
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12) or (found != found != expected)
    return found == expected


def test_every_view_and_function_is_computed_here_too(warehouse: Warehouse) -> None:
    names = read(
        warehouse.engine,
        f"""
        SELECT relname AS name FROM pg_class
        WHERE relnamespace = '{SCHEMA}'::regnamespace AND relkind IN ('r', 'v', 'm', 'p', 'f')
        UNION ALL
        SELECT proname FROM pg_proc WHERE pronamespace = '{SCHEMA}'::regnamespace
        """,
    )
    assert {row["name"] for row in names} == {*VIEWS, *EMPTY, "champion_at"}


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_shows_what_plain_python_computes_from_the_tables(view: str, warehouse: Warehouse) -> None:
    found, expected = _sorted(warehouse.rows(view)), _sorted(VIEWS[view](warehouse.tables))
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
def test_a_view_of_what_the_demo_does_not_have_is_empty(view: str, warehouse: Warehouse) -> None:
    assert list(EMPTY[view](warehouse.tables)) == []
    assert warehouse.rows(view) == []


def test_the_champion_at_any_moment_is_who_had_been_promoted_last(warehouse: Warehouse) -> None:
    changes = champion_history(warehouse.tables)
    assert len(changes) >= 2
    expected: dict[datetime, str | None] = {changes[0]["valid_from"] - timedelta(microseconds=1): None}
    for before, after in zip([None, *changes], changes, strict=False):
        moment = after["valid_from"]
        expected[moment] = after["model_version"]
        expected[moment - timedelta(microseconds=1)] = before["model_version"] if before else None
    with warehouse.engine.connect() as connection:
        query = sa.text(f"SELECT {SCHEMA}.champion_at(:moment)")
        found = {moment: connection.scalar(query, {"moment": moment}) for moment in expected}
    assert found == expected
