"""Two warehouses with the same feedback: in the first a stage is killed, in the second it runs once."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.local.postgres import PostgresServer
from recsys.settings import Settings
from recsys.warehouse.tables import feedback, items, users

START = datetime(2026, 3, 1, tzinfo=UTC)


def fill(engine: sa.Engine) -> None:
    """Insert ten valid rows of two users, one of an unknown item and one duplicate."""
    with engine.begin() as connection:
        connection.execute(items.insert(), [{"item_id": item, "title": item} for item in "abc"])
        connection.execute(users.insert(), [{"user_id": user} for user in ("ann", "bob")])
        rows = [
            {
                "event_id": f"event {number}",
                "user_id": ("ann", "bob")[number % 2],
                "item_id": "abc"[number % 3],
                "event_type": "like",
                "occurred_at": START + timedelta(minutes=number),
            }
            for number in range(10)
        ]
        again = rows[0] | {"event_id": "event 0 again"}
        unknown = rows[0] | {"event_id": "unknown item", "item_id": "nothing"}
        connection.execute(feedback.insert(), [*rows, again, unknown])


def add_fresh(engine: sa.Engine) -> None:
    """Insert four more rows of one user."""
    rows = [
        {
            "event_id": f"fresh {number}",
            "user_id": "ann",
            "item_id": "abc"[number % 3],
            "event_type": "like",
            "occurred_at": START + timedelta(minutes=20 + number),
        }
        for number in range(4)
    ]
    with engine.begin() as connection:
        connection.execute(feedback.insert(), rows)


@pytest.fixture
def stocked(warehouse: sa.Engine) -> sa.Engine:
    """The warehouse in which a stage is killed."""
    fill(warehouse)
    return warehouse


@pytest.fixture
def undisturbed(
    postgres: PostgresServer, warehouse_template: str, request: pytest.FixtureRequest
) -> Iterator[sa.Engine]:
    """The warehouse in which the same stage runs once."""
    name = f"undisturbed_{abs(hash(request.node.nodeid))}"
    postgres.create_database(name, template=warehouse_template)
    engine = sa.create_engine(postgres.url(name))
    fill(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def elsewhere(settings: Settings, tmp_path: Path) -> Settings:
    """The same settings with other folders."""
    return settings.model_copy(update={"home": tmp_path / "elsewhere"})
