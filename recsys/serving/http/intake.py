"""Take rows from applications: check each by itself, and insert a batch in one transaction."""

import json
from collections.abc import Sequence
from typing import Any, Literal, Self

import psycopg2.errors
import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from recsys.serving.http.values import JsonId, explain
from recsys.warehouse.statements import read_statement

MAX_ROWS = 1_000
"""Rows of one request: their transaction stays short, because windows wait for it."""
_DEADLOCK_TRIES = 5


class Row(BaseModel):
    """What somebody did or saw: a user, or the visitor of a session."""

    model_config = ConfigDict(extra="forbid")

    user_id: JsonId | None = Field(None, description="a user, or none if `session_id` names a visitor")
    session_id: JsonId | None = None

    @model_validator(mode="after")
    def _of_somebody(self) -> Self:
        if self.user_id is None and self.session_id is None:
            raise ValueError("user_id and session_id are empty")
        return self


class Outcome(BaseModel):
    """What became of a row."""

    outcome: Literal["new", "known", "refused"]
    reason: str | None = Field(None, description="why it is refused")


class Counts(BaseModel):
    """What became of a batch."""

    new: int
    known: int = Field(description="already taken earlier")
    refused: int = Field(description="cannot be stored; sending them again does not help")


def take(
    engine: sa.Engine, rows: Sequence[Any], kind: type[Row], statement: str
) -> tuple[Counts, list[Outcome]]:
    """Store the rows that are valid and new, in one transaction; return what became of each, in order.

    Whether a row makes sense (known item, value in its range) is validation's to say, as for every other
    way in.

    Parameters
    ----------
    kind
        What the rows must be.
    statement
        Name of the SQL file that inserts them from a JSON list `:rows`.

    Raises
    ------
    sqlalchemy.exc.DBAPIError
        The database does not answer, or the login may not write. Nothing is stored.
    """
    outcomes: list[Outcome | None] = []
    valid: list[dict[str, Any]] = []
    for row in rows:
        try:
            valid.append(kind.model_validate(row).model_dump(mode="json"))
            outcomes.append(None)
        except ValidationError as error:
            outcomes.append(Outcome(outcome="refused", reason=explain(error.errors(include_url=False))))
    stored = iter(_store(engine, valid, statement) if valid else ())
    settled = [outcome or Outcome(outcome="new" if next(stored) else "known") for outcome in outcomes]
    found = {name: sum(row.outcome == name for row in settled) for name in ("new", "known", "refused")}
    return Counts(**found), settled


def _store(engine: sa.Engine, rows: list[dict[str, Any]], statement: str) -> list[bool]:
    """Insert rows; return for each whether it is new. Batches that hold the same rows may deadlock."""
    for attempt in range(1, _DEADLOCK_TRIES + 1):
        try:
            with engine.begin() as connection:
                return _insert(connection, rows, sa.text(read_statement(statement)))
        except sa.exc.OperationalError as error:
            if not isinstance(error.orig, psycopg2.errors.DeadlockDetected) or attempt == _DEADLOCK_TRIES:
                raise
    raise AssertionError("unreachable")


def _insert(connection: sa.Connection, rows: list[dict[str, Any]], statement: sa.TextClause) -> list[bool]:
    """Insert all rows at once. Only if some of them are known, insert one by one to learn which.

    Applications may not read what they wrote, so the database cannot return the ids of what is new.
    """

    def insert(some: list[dict[str, Any]]) -> int:
        inserted: int = connection.execute(statement, {"rows": json.dumps(some)}).rowcount
        return inserted

    attempt = connection.begin_nested()
    if insert(rows) == len(rows):
        attempt.commit()
        return [True] * len(rows)
    attempt.rollback()
    return [insert([row]) == 1 for row in rows]
