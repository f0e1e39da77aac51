"""Visitors in snapshots: their keys, who replays them, and what a login changes."""

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa

from recsys.columns import Columns, Purpose
from recsys.settings import Settings
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.guard import are_guard_users
from recsys.snapshot.micro import take_micro_snapshot
from recsys.snapshot.read import read_snapshot
from recsys.snapshot.reservoir import write_reservoir
from recsys.snapshot.user_sampling import without_lone_visits
from recsys.validation.validate import validate_window
from recsys.warehouse.pseudonyms import are_visitors, fill_user_keys, user_key
from recsys.warehouse.windows import Window, open_window

KEY = b"key"


def run(engine: sa.Engine, statement: str) -> list[tuple[object, ...]]:
    with engine.begin() as connection:
        result = connection.execute(sa.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


def visit(engine: sa.Engine, session: str, items: int, first: int = 1, hours: int = 10) -> None:
    run(
        engine,
        "INSERT INTO feedback (session_id, item_id, event_type, occurred_at)"
        f" SELECT '{session}', n, 'like', now() - make_interval(hours => {hours}, mins => -n)"
        f" FROM generate_series({first}, {first + items - 1}) AS n",
    )


def window_of(engine: sa.Engine, settings: Settings, consumer: str, run_key: str) -> Window:
    window = open_window(engine, consumer, run_key)
    validate_window(engine, window, settings, settings.data_docs)
    return window


@pytest.fixture
def shop(warehouse: sa.Engine) -> sa.Engine:
    run(
        warehouse,
        """
        INSERT INTO items (item_id) SELECT n FROM generate_series(1, 60) AS n;
        INSERT INTO users (user_id) SELECT 'user ' || n FROM generate_series(1, 20) AS n;
        INSERT INTO feedback (user_id, item_id, event_type, occurred_at)
        SELECT 'user ' || u, n, 'like', now() - make_interval(days => 1, mins => -n)
        FROM generate_series(1, 20) AS u CROSS JOIN generate_series(1, 5) AS n
        """,
    )
    return warehouse


def test_keys_say_who_is_a_visitor_and_nobody_else_has_such_a_key() -> None:
    users = [user_key(f"user {n}", KEY) for n in range(1_000)]
    visitors = [user_key(f"visitor:{n}", KEY, visitor=True) for n in range(1_000)]
    assert not are_visitors(users).any()
    assert are_visitors(visitors).all()
    assert len({*users, *visitors}) == 2_000
    assert {len(key) for key in (*users, *visitors)} == {32}
    assert not are_guard_users(np.array(visitors, dtype=object), share=0.5).any()


def test_the_pipeline_gives_visitors_such_keys(shop: sa.Engine, settings: Settings) -> None:
    visit(shop, "s1", 1)
    window_of(shop, settings, "nightly_training", "r")
    fill_user_keys(shop, settings.require_pseudonym_key())
    keys = run(shop, "SELECT kind, user_key FROM users")
    assert {kind for kind, key in keys if str(key).startswith("fffff")} == {"visitor"}
    assert all(str(key).startswith("fffff") for kind, key in keys if kind == "visitor")


def test_lone_visits_take_no_places_from_users_in_replay(shop: sa.Engine, settings: Settings) -> None:
    run(
        shop,
        "INSERT INTO feedback (session_id, item_id, event_type, occurred_at)"
        " SELECT 's' || n, 1 + n % 60, 'view', now() - make_interval(hours => 22, secs => -n)"
        " FROM generate_series(1, 3000) AS n",
    )
    visit(shop, "returning", 6, hours=20)
    small = settings.model_copy(
        update={
            "micro_update": settings.micro_update.model_copy(
                update={"max_replay_users": 12, "max_guard_users": 4, "guard_share": 0.25}
            )
        }
    )
    window = window_of(shop, small, "nightly_training", "r")
    full = take_full_snapshot(shop, window, small)
    reservoir = read_snapshot(write_reservoir(shop, full, small))
    keys = reservoir.interactions([Columns.USER_KEY, Columns.PURPOSE])
    people = set(zip(keys[Columns.USER_KEY].to_pylist(), keys[Columns.PURPOSE].to_pylist(), strict=True))
    visitors = [key for key, _ in people if key.startswith("fffff")]
    assert len(visitors) <= 1
    replayed = sum(purpose == Purpose.REPLAY for _, purpose in people)
    guards = sum(purpose == Purpose.GUARD for _, purpose in people)
    assert replayed == 12
    assert guards >= 1


def test_lone_visits_are_dropped_by_the_number_of_their_events() -> None:
    keys = pa.array(["fffff" + "0" * 27, "fffff" + "1" * 27, "a" * 32])
    owners = pa.chunked_array([[keys[0].as_py(), keys[1].as_py(), keys[1].as_py(), keys[2].as_py()]])
    assert without_lone_visits(keys, owners).to_pylist() == keys.to_pylist()[1:]
    assert without_lone_visits(keys, owners.dictionary_encode()).to_pylist() == keys.to_pylist()[1:]


def test_after_a_login_the_session_is_history_and_nobody_trains_on_it_twice(
    shop: sa.Engine, settings: Settings
) -> None:
    small = settings.model_copy(
        update={
            "micro_update": settings.micro_update.model_copy(
                update={"min_fresh_events": 1, "guard_share": 0.0}
            )
        }
    )
    visit(shop, "s1", 3, first=10, hours=20)
    visit(shop, "latest", 30, hours=1)  # held out of the full snapshot
    window = window_of(shop, small, "nightly_training", "night")
    full = take_full_snapshot(shop, window, small)
    write_reservoir(shop, full, small)
    known = read_snapshot(full).trained_through
    run(shop, "SELECT join_session('s1', 'user 1')")
    run(
        shop,
        "INSERT INTO feedback (session_id, item_id, event_type) SELECT 's1', n, 'like'"
        " FROM generate_series(20, 24) AS n",
    )
    hour = open_window(shop, "hourly_micro_update", "hour", first_lower=known.transaction_id)
    validate_window(shop, hour, small, small.data_docs)
    micro = read_snapshot(take_micro_snapshot(shop, hour, small, known)).interactions(
        [Columns.USER_KEY, Columns.ITEM_ID, Columns.PURPOSE]
    )
    key = user_key("user 1", small.require_pseudonym_key())
    events = sorted(
        (row[Columns.PURPOSE], int(row[Columns.ITEM_ID]))
        for row in micro.to_pylist()
        if row[Columns.USER_KEY] == key
    )
    assert events == [
        *((Purpose.FRESH, n) for n in range(20, 25)),
        *((Purpose.HISTORY, n) for n in (1, 2, 3, 4, 5, 10, 11, 12)),
    ]
    visitor = user_key("visitor:s1", small.require_pseudonym_key(), visitor=True)
    assert visitor not in micro[Columns.USER_KEY].to_pylist()
