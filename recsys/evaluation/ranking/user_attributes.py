"""Read attributes of users by user key, for slices of an evaluation."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from recsys.warehouse.tables import users


def read_user_attributes(engine: sa.Engine, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the named attributes of users with consent, by user key; empty without names."""
    if not names:
        return {}
    statement = sa.select(users.c.user_key, users.c.attributes).where(
        users.c.user_key.is_not(None), users.c.consent
    )
    with engine.connect() as connection:
        return {
            row.user_key: {name: row.attributes[name] for name in names if name in row.attributes}
            for row in connection.execute(statement)
        }
