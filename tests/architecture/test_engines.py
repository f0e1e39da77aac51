"""Engines on the warehouse are made in one place, which keeps ids and comments out of their errors."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
MAKER = "recsys/warehouse/engine.py"
ROOMS = ("recsys", "plugins", "dags", "sql")
_MAKERS = {"create_engine", "create_async_engine", "engine_from_config", "create_engine_from_config"}


def engines_made(source: str) -> list[int]:
    """Return the lines that use SQLAlchemy to make an engine, in every spelling."""
    tree = ast.parse(source)
    ours = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "recsys.warehouse.engine"
        for alias in node.names
    }
    lines = []
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) if name in _MAKERS:
                lines.append(node.lineno)
            case ast.ImportFrom(module=module, names=names) if (
                module != "recsys.warehouse.engine" and _MAKERS & {alias.name for alias in names}
            ):
                lines.append(node.lineno)
            case ast.Name(id=name) if name in _MAKERS - ours:
                lines.append(node.lineno)
    return sorted(set(lines))


def test_every_engine_is_made_in_one_place() -> None:
    makers = {
        path.relative_to(REPOSITORY).as_posix()
        for room in ROOMS
        for path in (REPOSITORY / room).rglob("*.py")
        if engines_made(path.read_text())
    }
    assert makers == {MAKER}


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ("import sqlalchemy as sa\nsa.create_engine('x')", True),
        ("from sqlalchemy import create_engine as make", True),
        ("from sqlalchemy import engine\nengine.engine_from_config({})", True),
        ("from recsys.warehouse.engine import create_engine\ncreate_engine('x')", False),
    ],
)
def test_every_way_to_make_an_engine_is_found(code: str, is_found: bool) -> None:
    assert bool(engines_made(code)) == is_found
