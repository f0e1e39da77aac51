"""Fixtures: a warehouse with items and users, and windows over the rows that a test adds."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.warehouse.tables import feedback, items, users
from recsys.warehouse.windows import Window, open_window

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def add_feedback(engine: sa.Engine, *rows: dict[str, Any]) -> list[int]:
    """Insert rows in one transaction and return their feedback ids. Missing values get valid defaults."""
    with engine.begin() as connection:
        return [
            connection.scalar(
                feedback.insert()
                .values({"user_id": "ann", "item_id": "a", "event_type": "like", "occurred_at": NOON, **row})
                .returning(feedback.c.feedback_id)
            )
            for row in rows
        ]


def sound_rows(count: int) -> list[dict[str, Any]]:
    return [{"item_id": "abc"[n % 3], "occurred_at": NOON + timedelta(minutes=n + 1)} for n in range(count)]


@pytest.fixture
def stocked(warehouse: sa.Engine) -> sa.Engine:
    with warehouse.begin() as connection:
        connection.execute(items.insert(), [{"item_id": item, "title": item} for item in "abc"])
        connection.execute(users.insert(), [{"user_id": user} for user in ("ann", "bob")])
    return warehouse


@pytest.fixture
def next_window(stocked: sa.Engine) -> Callable[..., Window]:
    """Open the next window of a consumer."""
    numbers = iter(range(1000))
    return lambda consumer="nightly": open_window(stocked, consumer, f"run {next(numbers)}")
