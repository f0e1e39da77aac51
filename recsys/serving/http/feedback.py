"""What users did, as applications send it."""

from collections.abc import Sequence
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from recsys.serving.http.intake import MAX_ROWS, Counts, Outcome, Row, take
from recsys.serving.http.values import JsonId, Moment, Text


class Event(Row):
    """One reaction of a user, or of a visitor's session, to an item."""

    model_config = ConfigDict(
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

    event_id: JsonId | None = Field(
        None, description="your name of the event; without one, equal events count once"
    )
    item_id: JsonId
    event_type: JsonId = Field(description="a row of the table `event_types`")
    value: Annotated[FiniteFloat, Field(strict=True)] | None = Field(
        None, description="rating, price, seconds"
    )
    comment: Text | None = None
    impression_id: JsonId | None = Field(None, description="the slate that the event answers")
    occurred_at: Moment = Field(description="when it happened, by your clock, with a time zone")


class Events(BaseModel):
    """Body of `POST /feedback`."""

    model_config = ConfigDict(extra="forbid")

    events: Annotated[
        list[Any],
        Field(
            min_length=1,
            max_length=MAX_ROWS,
            json_schema_extra={"items": Event.model_json_schema()},
        ),
    ]


class TakenEvents(Counts):
    """What became of a batch: the outcomes are in the order of its events."""

    events: list[Outcome]


def take_feedback(engine: sa.Engine, events: Sequence[Any]) -> TakenEvents:
    """Store events that are valid and new; see `recsys.serving.http.intake.take`."""
    counts, outcomes = take(engine, events, Event, "serving/insert_feedback")
    return TakenEvents(**counts.model_dump(), events=outcomes)
