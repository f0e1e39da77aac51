"""Read attributes of users by user key, for slices of an evaluation."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from recsys.snapshot.item_attributes import read_attributes
from recsys.warehouse.tables import users


def read_user_attributes(engine: sa.Engine, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the named attributes of users with consent, by user key; empty without names."""
    if not names:
        return {}
    statement = sa.select(users.c.user_key, sa.cast(users.c.attributes, sa.Text)).where(
        users.c.user_key.is_not(None), users.c.consent
    )
    with engine.connect() as connection:
        rows = connection.execute(statement).all()
    attributes = read_attributes(text for _, text in rows)
    return {
        user_key: {name: own[name] for name in names if name in own}
        for (user_key, _), own in zip(rows, attributes, strict=True)
    }
