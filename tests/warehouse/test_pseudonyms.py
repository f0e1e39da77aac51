import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from recsys.warehouse import pseudonyms
from recsys.warehouse.pseudonyms import fill_user_keys, user_key

KEY = b"a key that only tests use"


def keys(engine: sa.Engine) -> dict[str, str]:
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT user_id, user_key FROM users"))
        return {row.user_id: row.user_key for row in rows}


def add_users(engine: sa.Engine, count: int) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO users (user_id) SELECT 'user ' || n FROM generate_series(1, :count) AS n"),
            {"count": count},
        )


def test_a_user_key_is_a_keyed_hash_that_does_not_show_the_id() -> None:
    key = user_key("用户 7", KEY)
    assert key == hmac.new(KEY, "用户 7".encode(), hashlib.sha256).hexdigest()[:32]
    assert key != user_key("用户 7", b"another key, just as long")


def test_every_user_without_a_key_gets_one_in_several_batches(
    warehouse: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pseudonyms, "_BATCH_USERS", 7)
    add_users(warehouse, 30)
    assert fill_user_keys(warehouse, KEY) == 30
    assert keys(warehouse) == {f"user {n}": user_key(f"user {n}", KEY) for n in range(1, 31)}


def test_existing_keys_are_not_changed(warehouse: sa.Engine) -> None:
    add_users(warehouse, 1)
    fill_user_keys(warehouse, KEY)
    before = keys(warehouse)
    assert fill_user_keys(warehouse, b"another key, just as long") == 0
    assert keys(warehouse) == before


def test_an_id_with_quotes_percent_and_backslash_is_safe(warehouse: sa.Engine) -> None:
    nasty = "'; DROP TABLE users; -- %s :x \\ {a,b}"
    with warehouse.begin() as connection:
        connection.execute(sa.text("INSERT INTO users (user_id) VALUES (:nasty)"), {"nasty": nasty})
    fill_user_keys(warehouse, KEY)
    assert keys(warehouse) == {nasty: user_key(nasty, KEY)}


def test_two_processes_can_fill_keys_at_once(warehouse: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pseudonyms, "_BATCH_USERS", 50)
    add_users(warehouse, 400)
    with ThreadPoolExecutor(2) as pool:
        filled = list(pool.map(lambda _: fill_user_keys(warehouse, KEY), range(2)))
    assert sum(filled) == 400
    assert None not in keys(warehouse).values()
