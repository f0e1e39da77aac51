"""Puts rows into a test warehouse, one transaction a call."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from recsys.warehouse.tables import feedback, items, users

START = datetime(2026, 3, 1, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def add_items(engine: sa.Engine, *item_ids: str, **columns: Any) -> None:
    with engine.begin() as connection:
        rows = [{"item_id": item_id, "title": f"Title of {item_id}", **columns} for item_id in item_ids]
        connection.execute(items.insert(), rows)


def add_users(engine: sa.Engine, *user_ids: str, **columns: Any) -> None:
    with engine.begin() as connection:
        connection.execute(users.insert(), [{"user_id": user_id, **columns} for user_id in user_ids])


def add_feedback(engine: sa.Engine, rows: Iterable[tuple[str, str, float]], **columns: Any) -> None:
    """Add likes, or what `columns` say, given as user, item and minutes after START."""
    with engine.begin() as connection:
        connection.execute(
            feedback.insert(),
            [
                {
                    "user_id": user,
                    "item_id": item,
                    "occurred_at": at(minutes),
                    "event_type": "like",
                    **columns,
                }
                for user, item, minutes in rows
            ],
        )
