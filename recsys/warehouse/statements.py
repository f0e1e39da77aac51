"""Where the SQL lies: verb-named statements, row rules and migrations in the folder `sql`."""

from functools import cache
from pathlib import Path

from recsys.errors import ConfigurationError
from recsys.resources import resource_folder


def sql_path(*parts: str) -> Path:
    """Return the path of a file or folder in `sql`; raise ConfigurationError when it is not there."""
    path = resource_folder("sql").joinpath(*parts)
    if not path.exists():
        raise ConfigurationError(f"there is no SQL at {path}")
    return path


@cache
def read_statement(name: str) -> str:
    """Return the text of `sql/NAME.sql`, for example `open_window` or `rules/unknown_item`."""
    return sql_path(*f"{name}.sql".split("/")).read_text(encoding="utf-8")
