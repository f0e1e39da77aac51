"""A page to try the service: a small shop window that shows lists and sends what somebody does.

It posts feedback in anybody's name, so only a service without keys has it, which answers this machine alone.
"""

from importlib.resources import files
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI, HTTPException, Response
from psycopg2 import errorcodes
from pydantic import BaseModel, Field

_REACTIONS = ("like", "dislike", "purchase", "listen", "bookmark", "skip")
"""Types of events that get a button, if the warehouse has them."""
_OPENS = ("click", "view")
_TYPES = {
    "index.html": "text/html",
    "window.css": "text/css",
    "window.js": "text/javascript",
    "languages.js": "text/javascript",
}
# Everything comes from here, nothing is inline, no other page may frame it, and no form leaves it.
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}


class Choices(BaseModel):
    """What the page offers."""

    users: list[str] = Field(description="some users")
    opens: str | None = Field(
        description="type of the event of opening an item; none if there is no such type"
    )
    reactions: list[str] = Field(description="types of events that get a button")


def add_shop_window(application: FastAPI, engine: sa.Engine) -> None:
    """Add the page at `/` and what it needs to an application."""
    folder = files("recsys.serving.http") / "window"
    contents = {name: (folder / name).read_bytes() for name in _TYPES}

    def file(name: str) -> Response:
        return Response(contents[name], headers=_HEADERS, media_type=f"{_TYPES[name]}; charset=utf-8")

    @application.get("/", include_in_schema=False)
    def page() -> Response:
        return file("index.html")

    @application.get("/window/choices", include_in_schema=False)
    def choices() -> Choices:
        types = set(_column(engine, "SELECT event_type FROM event_types"))
        return Choices(
            users=_column(
                engine,
                "SELECT user_id FROM users WHERE NOT starts_with(user_id, 'visitor:')"
                " ORDER BY user_id LIMIT 20",
            ),
            opens=next((name for name in _OPENS if name in types), None),
            reactions=[name for name in _REACTIONS if name in types],
        )

    @application.get("/window/{name}", include_in_schema=False)
    def part(name: str) -> Response:
        if name not in contents:
            raise HTTPException(404)
        return file(name)


def _column(engine: sa.Engine, statement: str) -> list[str]:
    """Return a column of a table; nothing if this login may only call the reading functions."""
    try:
        with engine.connect() as connection:
            return list(connection.exec_driver_sql(statement).scalars())
    except sa.exc.ProgrammingError as error:
        original: Any = error.orig
        if original.pgcode != errorcodes.INSUFFICIENT_PRIVILEGE:
            raise
        return []
