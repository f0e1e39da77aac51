"""Values of requests: ids, texts and times as the warehouse stores them, and what is wrong with others."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from recsys.warehouse.identifiers import identifier, identifier_of_number
from recsys.warehouse.json_values import MAX_ID_BYTES
from recsys.warehouse.wrong_value import WrongValue


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


def _check_id(text: str) -> str:
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


Id = Annotated[str, AfterValidator(_check_id)]
"""Id in a path or a query."""
JsonId = Annotated[str, BeforeValidator(_number_as_id, json_schema_input_type=str), AfterValidator(_check_id)]
"""Id in a body, where it may be a number."""
Text = Annotated[str, AfterValidator(_storable)]
"""Text that Postgres can store."""
Moment = Annotated[AwareDatetime, BeforeValidator(_only_text), AfterValidator(_in_utc)]
"""ISO 8601 time with a time zone."""


_PLACES = ("path", "query")


def explain(errors: Sequence[Any]) -> str:
    """Return in one line what is wrong with which field; values are not repeated."""
    wrong = []
    for error in errors:
        place = error["loc"]
        # FastAPI says first where an argument was, but a row may have a field of that name.
        if place[:1] == ("body",) or (len(place) > 1 and place[0] in _PLACES):
            place = place[1:]
        message = error["msg"].removeprefix("Value error, ")
        wrong.append(": ".join(filter(None, [".".join(map(str, place)), message])))
    return "; ".join(wrong)
