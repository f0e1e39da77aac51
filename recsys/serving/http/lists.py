"""Ask the SQL functions of the schema `serving` for lists."""

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, Field

from recsys.serving.champion import Champion

_SQL_TYPES = {
    "k": "integer", "filter": "jsonb", "context": "jsonb", "exclude": "text[]", "item_ids": "text[]",
    "scores": "real[]",
}  # fmt: skip


class Item(BaseModel):
    """An item of a list, as the SQL functions return it."""

    rank: int
    item_id: str
    title: str
    score: float | None = Field(description="comparable within one source of one list")
    reason: str | None
    source: str = Field(description="personal, live, segment, trending, popular, new, request, ...")
    propensity: float | None = Field(
        description="probability of the item at this rank, for the impression that you log; null: not known"
    )
    model_version: str | None
    placement: str | None
    rule: str | None = Field(
        description="the rule that put the item here, for the impression that you log; null: none"
    )


class Answer(BaseModel):
    """A list, the best item first."""

    items: list[Item] = Field(description="empty only if no item qualifies")


class Phrase(BaseModel):
    """What enough people praise about an item, or criticise."""

    praised: bool = Field(description="false: criticised")
    phrase: str = Field(description="one to three words, in the language of the comments")
    people: int = Field(description="who use the phrase with this opinion")
    sentence: str | None = Field(description="of one of them; null: none that may be shown")


class Phrases(BaseModel):
    """What people say about an item."""

    phrases: list[Phrase] = Field(
        description="what is praised, then what is criticised, the clearest opinion first"
    )


class Summary(BaseModel):
    """A text about a list or an item."""

    summary: str | None = Field(description="null: there is nothing to sum up")
    language: str | None
    model: str | None = Field(description="the language model that wrote it; null: a template")
    licence: str | None = Field(description="of the model")


def call(engine: sa.Engine, function: str, **arguments: Any) -> Answer:
    """Call `serving.FUNCTION` with the arguments that are not None; the others keep their SQL defaults.

    Raises
    ------
    sqlalchemy.exc.DBAPIError
        The function refuses an argument, or the database does not answer.
    """
    rows = _rows(engine, function, arguments)
    return Answer(items=[Item(**row) for row in sorted(rows, key=lambda row: row["rank"])])


def list_phrases(engine: sa.Engine, item_id: str) -> Phrases:
    """Return what people praise and criticise about an item; nothing for an unknown one."""
    return Phrases(phrases=[Phrase(**row) for row in _rows(engine, "item_phrases", {"item_id": item_id})])


def sum_up(engine: sa.Engine, function: str, **arguments: Any) -> Summary:
    """Call a function of `serving` that returns a text; see `call`."""
    rows = _rows(engine, function, arguments)
    return Summary(**rows[0]) if rows else Summary(summary=None, language=None, model=None, licence=None)


def _rows(engine: sa.Engine, function: str, arguments: dict[str, Any]) -> Sequence[sa.RowMapping]:
    given = {
        name: json.dumps(value) if isinstance(value, dict) else value
        for name, value in arguments.items()
        # Only the user, who may be nobody, has no default.
        if value is not None or name == "user_id"
    }
    named = ", ".join(f"{name} => CAST(:{name} AS {_SQL_TYPES.get(name, 'text')})" for name in given)
    statement = sa.text(f"SELECT * FROM serving.{function}({named})")  # noqa: S608
    # One statement is a transaction by itself: no BEGIN and ROLLBACK travel beside it.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        return connection.execute(statement, given).mappings().all()


def answer_request(engine: sa.Engine, champion: Champion, request: str, **arguments: Any) -> Answer:
    """Let the champion answer a request in words; the arguments are those of `serving.recommend`.

    Raises
    ------
    ChampionUnavailableError
        There is no champion, or it cannot be loaded.
    sqlalchemy.exc.DBAPIError
        An argument is refused, or the database does not answer.
    """
    # The request says what is wanted at this moment, and the context only in which language.
    context = arguments.pop("context") or {}
    language = (json.loads(context) if isinstance(context, str) else context).get("language")
    language = language if isinstance(language, str) else None
    found = champion.find(arguments["user_id"], arguments["session"], request, language)
    answer = call(
        engine,
        "answer_request",
        item_ids=[item.item_id for item in found.items],
        scores=[item.score for item in found.items],
        **arguments,
    )
    by_id = {item.item_id: item for item in found.items}
    reasons = found.explain([by_id[item.item_id] for item in answer.items])
    return Answer(
        items=[
            item.model_copy(update={"reason": reason, "model_version": found.model_version})
            for item, reason in zip(answer.items, reasons, strict=True)
        ]
    )
