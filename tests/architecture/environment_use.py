"""Find code that reads the process environment."""

import ast
from pathlib import Path

_READERS = {"environ", "environb", "getenv", "getenvb"}
_SETTINGS = {"load_settings", "BaseSettings"}


def environment_reads(source: str) -> list[int]:
    """Return the lines that read the environment or import a function that does.

    These are `os.environ`, `os.getenv` and `load_settings` in every spelling, and `BaseSettings`, whose
    subclasses read the environment when they are created. Statements that only set a variable are allowed
    (`os.environ.setdefault(...)`, `os.environ[...] = ...`): they configure other libraries before import.
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
        case ast.ImportFrom(names=names) if _SETTINGS & {alias.name for alias in names}:
            return [node.lineno]
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _SETTINGS:
            return [node.lineno]
    return []
