"""Renders `:name` parameters as SQL literals, where a statement cannot take bind parameters."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

# Unlike psycopg2's own dialect, this one leaves percent signs alone.
_DIALECT = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]


def render_literals(statement: str, parameters: Mapping[str, Any]) -> str:
    """Return the statement with its `:name` parameters as literals, quoted by SQLAlchemy.

    For COPY and for queries that another library runs. Parameters that the statement does not name
    are ignored; one that it names and `parameters` lacks raises KeyError.
    """
    clause = sa.text(statement)
    wanted = {name: parameters[name] for name in clause._bindparams}
    compiled = clause.bindparams(**wanted).compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True})
    return str(compiled)
