"""Keep ids and comments out of the messages of database errors, which end in task logs and alerts.

Postgres quotes values in four places of an error: in DETAIL ("Failing row contains (...)"), in CONTEXT (the
line of a COPY), in the excerpt of the statement, and, where a value cannot be converted, in the first line
itself. The messages that reach a caller have none of them. Code that needs the rest reads `error.diag`.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import asyncpg
import psycopg2
import psycopg2.extensions
from psycopg2 import errorcodes

# Errors whose DETAIL names processes or other objects of the database, and no values.
_HARMLESS_DETAILS = (errorcodes.DEADLOCK_DETECTED, errorcodes.DEPENDENT_OBJECTS_STILL_EXIST)
_QUOTED = re.compile(r'".*"', re.DOTALL)


class PrivateConnection(psycopg2.extensions.connection):
    """A psycopg2 connection whose errors carry no values in their messages."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cursor_factory = _PrivateCursor

    def commit(self) -> None:
        """Commit; this is where deferred constraints fail."""
        with _without_values():
            super().commit()


class _PrivateCursor(psycopg2.extensions.cursor):
    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002 - the name of the base class
        with _without_values():
            super().execute(query, vars)

    def executemany(self, query: Any, vars_list: Any) -> None:
        with _without_values():
            super().executemany(query, vars_list)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        with _without_values():
            super().copy_expert(sql, file, size)

    # The server computes the rows of a named cursor while they are fetched.
    def fetchone(self) -> Any:
        with _without_values():
            return super().fetchone()

    def fetchmany(self, size: int | None = None) -> list[Any]:
        with _without_values():
            return super().fetchmany(self.arraysize if size is None else size)

    def fetchall(self) -> list[Any]:
        with _without_values():
            return super().fetchall()

    def __next__(self) -> Any:
        with _without_values():
            return super().__next__()

    def __iter__(self) -> Self:
        return self


@contextmanager
def _without_values() -> Iterator[None]:
    try:
        yield
    except psycopg2.Error as error:
        if error.pgcode is not None:
            error.args = (_message(error.pgcode, error.diag.message_primary, error.diag.message_detail),)
        raise


def hide_values(error: asyncpg.PostgresError) -> asyncpg.PostgresError:
    """Remove the values from the message of an asyncpg error; return the error."""
    error.args = (_message(error.sqlstate, error.args[0] if error.args else None, error.detail),)
    error.detail = error.hint = None
    return error


def _message(code: str, primary: str | None, detail: str | None) -> str:
    text = primary or "the database gives no reason"
    if code.startswith(errorcodes.CLASS_DATA_EXCEPTION):
        # Such as: invalid input syntax for type json: "...", or: value "..." is out of range for type integer
        text = _QUOTED.sub('"..."', text).partition(": ")[0]
    if detail and code in _HARMLESS_DETAILS:
        text = f"{text}: {detail}"
    return text
