from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from recsys.errors import WarehouseError
from recsys.settings import Settings
from recsys.snapshot.erasure import snapshot_folders
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.read import read_snapshot
from recsys.upkeep.erasure import request_erasure
from recsys.upkeep.key_rotation import rotate_user_keys
from recsys.warehouse.pseudonyms import user_key
from recsys.warehouse.windows import open_window

NEW_KEY = "another key that is long enough"


@pytest.fixture
def shop(warehouse: sa.Engine, settings: Settings) -> sa.Engine:
    """Five users with feedback and a snapshot of it."""
    with warehouse.begin() as connection:
        connection.execute(
            sa.text("""
            INSERT INTO items (item_id, title) VALUES ('i', 'Dune');
            INSERT INTO users (user_id) SELECT 'u' || n FROM generate_series(1, 5) AS n;
            INSERT INTO feedback (user_id, item_id, event_type, occurred_at)
            SELECT 'u' || n % 5 + 1, 'i', 'view', now() - n * interval '1 minute'
            FROM generate_series(1, 50) AS n
            """)
        )
    take_full_snapshot(warehouse, open_window(warehouse, "nightly", "1"), settings)
    return warehouse


def keys(engine: sa.Engine) -> dict[str, str]:
    with engine.connect() as connection:
        return {
            row.user_id: row.user_key
            for row in connection.execute(sa.text("SELECT user_id, user_key FROM users"))
        }


def rotated(settings: Settings) -> Settings:
    return settings.model_copy(update={"pseudonym_key": SecretStr(NEW_KEY)})


def test_users_get_new_hashes_and_snapshots_with_old_ones_are_removed(
    shop: sa.Engine, settings: Settings
) -> None:
    report = rotate_user_keys(shop, rotated(settings))
    assert (report.users, report.snapshots_removed) == (5, 1)
    assert keys(shop) == {user: user_key(user, NEW_KEY.encode()) for user in keys(shop)}
    assert snapshot_folders(settings.snapshots) == []
    with shop.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM snapshots")) == 1


def test_the_next_snapshot_has_the_new_hashes(shop: sa.Engine, settings: Settings) -> None:
    rotate_user_keys(shop, rotated(settings))
    taken = take_full_snapshot(shop, open_window(shop, "nightly", "2"), rotated(settings))
    found = set(read_snapshot(taken).sequences().user_keys)
    assert found == set(keys(shop).values())


def test_rotating_again_with_the_same_key_changes_nothing(shop: sa.Engine, settings: Settings) -> None:
    rotate_user_keys(shop, rotated(settings))
    before = keys(shop)
    rotate_user_keys(shop, rotated(settings))
    assert keys(shop) == before


def test_open_erasure_requests_are_carried_out_first(shop: sa.Engine, settings: Settings) -> None:
    request_erasure(shop, "u1")
    assert rotate_user_keys(shop, rotated(settings)).users == 4
    with shop.connect() as connection:
        assert connection.scalar(sa.text("SELECT status FROM erasure_requests")) == "done"


def test_a_request_that_waits_for_a_snapshot_stops_the_rotation(shop: sa.Engine, settings: Settings) -> None:
    request_erasure(shop, "u1")
    (Path(settings.snapshots) / "full" / ".unfinished-x").mkdir()
    before = keys(shop)
    with pytest.raises(WarehouseError, match="1 erasure requests are still open"):
        rotate_user_keys(shop, rotated(settings))
    assert keys(shop).items() < before.items()
