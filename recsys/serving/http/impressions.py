"""Slates that users saw, as applications send them."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from recsys.serving.http.intake import MAX_ROWS, Counts, Outcome, Row, take
from recsys.serving.http.values import JsonId, Moment, Text
from recsys.warehouse.json_values import LEAST_PROBABILITY

MAX_ITEMS = 1_000
"""Items of one slate: as many as a list may have."""
_Probability = Annotated[FiniteFloat, Field(strict=True, ge=0, le=1)]


class Impression(Row):
    """One slate that a user, or the visitor of a session, saw."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "impression_id": "page-81",
                "user_id": "ada",
                "item_ids": ["i-42", "i-7"],
                "propensities": [1.0, 1.0],
                "model_version": "12",
                "placement": "home",
                "shown_at": "2026-05-04T12:29:00Z",
            }
        },
    )

    impression_id: JsonId = Field(description="your name of the slate, which feedback on it repeats")
    item_ids: list[JsonId] = Field(
        min_length=1, max_length=MAX_ITEMS, description="what was shown, first position first"
    )
    propensities: list[_Probability] | None = Field(
        None,
        description="probability of each item at its position, as the list stated it; leave it out if one is "
        "not known",
    )
    model_version: Text | None = None
    placement: JsonId | None = Field(None, description="where it was shown, such as `home`")
    rules: list[Text | None] | None = Field(
        None, description="the rule that placed each item, as the list stated it; null: no rule did"
    )
    query: Text | None = Field(None, description="request in words that it answered")
    shown_at: Moment = Field(description="when it was shown, by your clock, with a time zone")

    @model_validator(mode="after")
    def _one_rule_an_item(self) -> Self:
        if self.rules is not None and len(self.rules) != len(self.item_ids):
            raise ValueError(f"rules has {len(self.rules)} entries, but item_ids has {len(self.item_ids)}")
        return self

    @model_validator(mode="after")
    def _one_propensity_an_item(self) -> Self:
        if self.propensities is None:
            return self
        if len(self.propensities) != len(self.item_ids):
            raise ValueError(
                f"propensities has {len(self.propensities)} entries, but item_ids has {len(self.item_ids)}"
            )
        if any(0 < one < LEAST_PROBABILITY for one in self.propensities):
            raise ValueError(f"propensities has a probability below {LEAST_PROBABILITY:.0e}")
        return self


class Impressions(BaseModel):
    """Body of `POST /impressions`."""

    model_config = ConfigDict(extra="forbid")

    impressions: Annotated[
        list[Any],
        Field(
            min_length=1,
            max_length=MAX_ROWS,
            json_schema_extra={"items": Impression.model_json_schema()},
        ),
    ]


class TakenImpressions(Counts):
    """What became of a batch: the outcomes are in the order of its slates."""

    impressions: list[Outcome]


def take_impressions(engine: sa.Engine, slates: Sequence[Any]) -> TakenImpressions:
    """Store slates that are valid and new; see `recsys.serving.http.intake.take`."""
    counts, outcomes = take(engine, slates, Impression, "serving/insert_impressions")
    return TakenImpressions(**counts.model_dump(), impressions=outcomes)
