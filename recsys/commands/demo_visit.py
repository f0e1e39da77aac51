"""What a visitor sees before and after three clicks, for the demo's report."""

import uuid
from dataclasses import dataclass, field

import sqlalchemy as sa

_LENGTH = 5
_CLICKS = 3


@dataclass(frozen=True)
class Visit:
    """Titles of a visit."""

    before: list[str] = field(default_factory=list)
    clicked: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


def try_visit(engine: sa.Engine) -> Visit:
    """Let a new visitor click on the first item of their list and on two similar to it.

    The clicks and both lists are real, but the transaction is rolled back: no demo changes what a later one
    learns from. Without items there is no visit.
    """
    session = uuid.uuid4().hex
    with engine.connect() as connection:
        try:
            before = _recommended(connection, session)
            if not before:
                return Visit()
            clicked = [before[0], *_similar(connection, before[0])][:_CLICKS]
            for item_id, _ in clicked:
                connection.execute(
                    sa.text(
                        "INSERT INTO feedback (session_id, item_id, event_type)"
                        " VALUES (:session, :item, 'click')"
                    ),
                    {"session": session, "item": item_id},
                )
            after = _recommended(connection, session)
        finally:
            connection.rollback()
    return Visit(*([title for _, title in shown] for shown in (before, clicked, after)))


def _recommended(connection: sa.Connection, session: str) -> list[tuple[str, str]]:
    rows = connection.execute(
        sa.text(
            "SELECT item_id, title FROM serving.recommend(NULL, k => :k, session => :session) ORDER BY rank"
        ),
        {"k": _LENGTH, "session": session},
    )
    return [(row.item_id, row.title) for row in rows]


def _similar(connection: sa.Connection, item: tuple[str, str]) -> list[tuple[str, str]]:
    rows = connection.execute(
        sa.text("SELECT item_id, title FROM serving.similar_items(:item, k => :k) ORDER BY rank"),
        {"item": item[0], "k": _CLICKS - 1},
    )
    return [(row.item_id, row.title) for row in rows]
