"""Take feedback: check each event by itself, and insert a batch in one transaction."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import psycopg2.errors
import sqlalchemy as sa
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

from recsys.warehouse.identifiers import identifier, identifier_of_number
from recsys.warehouse.json_values import MAX_ID_BYTES
from recsys.warehouse.statements import read_statement
from recsys.warehouse.wrong_value import WrongValue

MAX_EVENTS = 1_000
"""Events of one request: their transaction stays short, because windows wait for it."""
_DEADLOCK_TRIES = 5


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("contains a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("contains half of a surrogate pair") from error
    return text


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is outside the years 1 to 9999") from error


def check_id(text: str) -> str:
    """Return an id as the warehouse stores it, see `recsys.warehouse.identifiers`.

    Raises
    ------
    ValueError
        The id is empty, too long, or contains a NUL character or half of a surrogate pair.
    """
    try:
        found = identifier(_storable(text))
    except WrongValue as error:
        raise ValueError(str(error)) from error
    if found is None:
        raise ValueError("is empty")
    if len(found.encode()) > MAX_ID_BYTES:
        raise ValueError(f"is longer than {MAX_ID_BYTES} bytes")
    return found


def _number_as_id(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return identifier_of_number(value)
        except WrongValue as error:
            raise ValueError(str(error)) from error
    return value


def _only_text(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("is not a time in ISO 8601, such as 2026-05-04T12:30:00Z")
    return value


Id = Annotated[str, AfterValidator(check_id)]
"""Id in a path or a query."""
_JsonId = Annotated[str, BeforeValidator(_number_as_id, json_schema_input_type=str), AfterValidator(check_id)]


class Event(BaseModel):
    """One reaction of a user, or of a visitor's session, to an item."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "event_id": "order-7312-1",
                "user_id": "ada",
                "item_id": "i-42",
                "event_type": "purchase",
                "occurred_at": "2026-05-04T12:30:00Z",
            }
        },
    )

    event_id: _JsonId | None = Field(
        None, description="your name of the event; without one, equal events count once"
    )
    user_id: _JsonId | None = Field(None, description="a user, or none if `session_id` names a visitor")
    session_id: _JsonId | None = None
    item_id: _JsonId
    event_type: _JsonId = Field(description="a row of the table `event_types`")
    value: Annotated[FiniteFloat, Field(strict=True)] | None = Field(
        None, description="rating, price, seconds"
    )
    comment: Annotated[str, AfterValidator(_storable)] | None = None
    impression_id: _JsonId | None = Field(None, description="the slate that the event answers")
    occurred_at: Annotated[AwareDatetime, BeforeValidator(_only_text), AfterValidator(_in_utc)] = Field(
        description="when it happened, by your clock, with a time zone"
    )

    @model_validator(mode="after")
    def _of_somebody(self) -> "Event":
        if self.user_id is None and self.session_id is None:
            raise ValueError("user_id and session_id are empty")
        return self


class Batch(BaseModel):
    """Body of `POST /feedback`."""

    model_config = ConfigDict(extra="forbid")

    events: Annotated[
        list[Any],
        Field(
            min_length=1,
            max_length=MAX_EVENTS,
            json_schema_extra={"items": Event.model_json_schema()},
        ),
    ]


class Outcome(BaseModel):
    """What became of an event."""

    outcome: Literal["new", "known", "refused"]
    reason: str | None = Field(None, description="why it is refused")


class Taken(BaseModel):
    """What became of a batch: the outcomes are in the order of its events."""

    new: int
    known: int = Field(description="already taken earlier, under the same id and time")
    refused: int = Field(description="cannot be stored; sending them again does not help")
    events: list[Outcome]


def take_feedback(engine: sa.Engine, events: Sequence[Any]) -> Taken:
    """Store the events that are valid and new, in one transaction; return what became of each.

    Whether an event makes sense (known item, value in its range) is validation's to say, as for every
    other way in.

    Raises
    ------
    sqlalchemy.exc.DBAPIError
        The database does not answer, or the login may not write feedback. Nothing is stored.
    """
    outcomes: list[Outcome | None] = []
    valid: list[dict[str, Any]] = []
    for event in events:
        try:
            valid.append(Event.model_validate(event).model_dump(mode="json"))
            outcomes.append(None)
        except ValidationError as error:
            outcomes.append(Outcome(outcome="refused", reason=explain(error.errors(include_url=False))))
    stored = iter(_store(engine, valid) if valid else ())
    settled = [outcome or Outcome(outcome="new" if next(stored) else "known") for outcome in outcomes]
    counts = {kind: sum(event.outcome == kind for event in settled) for kind in ("new", "known", "refused")}
    return Taken(events=settled, **counts)


def explain(errors: Sequence[Any]) -> str:
    """Return in one line what is wrong with which field; values are not repeated."""
    wrong = []
    for error in errors:
        place = ".".join(str(part) for part in error["loc"] if part not in ("path", "query", "body"))
        message = error["msg"].removeprefix("Value error, ")
        wrong.append(f"{place}: {message}" if place else message)
    return "; ".join(wrong)


def _store(engine: sa.Engine, events: list[dict[str, Any]]) -> list[bool]:
    """Insert events; return for each whether it is new. Batches that hold the same events may deadlock."""
    for attempt in range(1, _DEADLOCK_TRIES + 1):
        try:
            with engine.begin() as connection:
                return _insert(connection, events)
        except sa.exc.OperationalError as error:
            if not isinstance(error.orig, psycopg2.errors.DeadlockDetected) or attempt == _DEADLOCK_TRIES:
                raise
    raise AssertionError("unreachable")


def _insert(connection: sa.Connection, events: list[dict[str, Any]]) -> list[bool]:
    """Insert all events at once. Only if some of them are known, insert one by one to learn which.

    Applications may not read feedback, so the database cannot return the ids of what is new.
    """
    statement = sa.text(read_statement("serving/insert_feedback"))

    def insert(rows: list[dict[str, Any]]) -> int:
        inserted: int = connection.execute(statement, {"events": json.dumps(rows)}).rowcount
        return inserted

    attempt = connection.begin_nested()
    if insert(events) == len(events):
        attempt.commit()
        return [True] * len(events)
    attempt.rollback()
    return [insert([event]) == 1 for event in events]
