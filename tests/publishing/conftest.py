"""Fixtures: a small shop, empty or with a champion."""

from datetime import timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from recsys.publishing import publish as publish_module
from recsys.settings import ExplorationSettings, PublishingSettings, Settings
from tests.publishing.shop import ITEMS, START, USERS, K, Shop


@pytest.fixture
def empty_shop(warehouse: sa.Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """No items, users or champion; publications of several batches."""
    monkeypatch.setattr(publish_module, "BATCH_USERS", 16)
    small = settings.model_copy(update={"publishing": PublishingSettings(k=K)})
    return Shop(warehouse, small)


@pytest.fixture
def shop(empty_shop: Shop) -> Shop:
    """Items, users with validated feedback (every tenth user has none), and version 1 as champion."""
    empty_shop.add_items(*ITEMS)
    empty_shop.add_users(*USERS)
    random = np.random.default_rng(7)
    events = [
        {"user_id": user_id, "item_id": item_id, "occurred_at": START + timedelta(seconds=int(second))}
        for number, user_id in enumerate(USERS)
        if number % 10
        for second, item_id in enumerate(random.choice(ITEMS, size=random.integers(1, 9)))
    ]
    empty_shop.execute(
        "insert into feedback (user_id, item_id, event_type, occurred_at)"
        " values (:user_id, :item_id, 'like', :occurred_at)",
        *events,
    )
    empty_shop.close_window()
    empty_shop.promote("1")
    return empty_shop


@pytest.fixture
def exploring(shop: Shop) -> Shop:
    """Half of the lists are drawn, and every third user reads German."""
    for user in USERS[::3]:
        shop.execute(
            'update users set attributes = \'{"language": "de-AT"}\' where user_id = :u', {"u": user}
        )
    publishing = PublishingSettings(k=K, pool=12, exploration=ExplorationSettings(share=0.5), diversity=0.2)
    shop.settings = shop.settings.model_copy(update={"publishing": publishing})
    return shop
