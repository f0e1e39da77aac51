"""SQL statements: read them from the folder `sql` and write parameters into them as literals."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from recsys.errors import ConfigurationError
from recsys.resources import resource_folder

# Unlike psycopg2's own dialect, this one does not double percent signs.
_DIALECT = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]


def sql_path(*parts: str) -> Path:
    """Return the path of a file or folder in `sql`.

    Raises
    ------
    ConfigurationError
        The path does not exist.
    """
    path = resource_folder("sql").joinpath(*parts)
    if not path.exists():
        raise ConfigurationError(f"there is no SQL at {path}")
    return path


@cache
def read_statement(name: str) -> str:
    """Return the text of `sql/NAME.sql`, where the name is `ROOM/VERB_OBJECT`: `warehouse/insert_window`."""
    return sql_path(*f"{name}.sql".split("/")).read_text(encoding="utf-8")


def render_literals(statement: str, parameters: Mapping[str, Any]) -> str:
    """Replace the `:name` parameters of a statement by quoted SQL literals.

    For COPY and for queries that another library runs, which take no bind parameters. Parameters that the
    statement does not name are ignored.

    Raises
    ------
    KeyError
        The statement names a parameter that `parameters` lacks.
    """
    clause = sa.text(statement)
    wanted = {name: parameters[name] for name in clause._bindparams}
    compiled = clause.bindparams(**wanted).compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True})
    return str(compiled)
