"""Find code that reads the process environment."""

import ast
from pathlib import Path

_READERS = {"environ", "environb", "getenv", "getenvb"}


def environment_reads(source: str) -> list[int]:
    """Return the lines that read the environment or import a function that does.

    These are `os.environ` and `os.getenv` in every spelling, `load_settings`, and calls of `Settings`, which
    pydantic fills from the environment. Statements that only set a variable (`os.environ.setdefault(...)`,
    `os.environ[...] = ...`) are allowed, because they configure other libraries before their import.
    """
    tree = ast.parse(source)
    allowed = {id(node) for statement in ast.walk(tree) for node in _written(statement)}
    return sorted({line for node in ast.walk(tree) if id(node) not in allowed for line in _read(node)})


def environment_readers(folder: Path) -> dict[str, list[int]]:
    """Return the lines that read the environment of each Python file below a folder, by relative path."""
    found = {
        path.relative_to(folder).as_posix(): environment_reads(path.read_text())
        for path in sorted(folder.rglob("*.py"))
    }
    return {path: lines for path, lines in found.items() if lines}


def _written(statement: ast.AST) -> list[ast.AST]:
    """Return the `os.environ` nodes that a statement only writes to."""
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=environ, attr="setdefault"))):
            return [environ]
        case ast.Assign(targets=targets):
            return [target.value for target in targets if isinstance(target, ast.Subscript)]
    return []


def _read(node: ast.AST) -> list[int]:
    match node:
        case ast.Attribute(value=ast.Name(id="os"), attr=name) if name in _READERS:
            return [node.lineno]
        case ast.Import(names=names) if any(alias.name == "os" and alias.asname for alias in names):
            return [node.lineno]
        case ast.ImportFrom(module="os", names=names) if _READERS & {alias.name for alias in names}:
            return [node.lineno]
        case ast.ImportFrom(names=names) if "load_settings" in {alias.name for alias in names}:
            return [node.lineno]
        case ast.Name(id="load_settings") | ast.Attribute(attr="load_settings"):
            return [node.lineno]
        case ast.Call(func=ast.Name(id="Settings") | ast.Attribute(attr="Settings")):
            return [node.lineno]
    return []
