"""Erasure of users with sessions, and of sessions that nobody has joined."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import sqlalchemy as sa

from recsys.columns import Columns
from recsys.errors import WarehouseError
from recsys.settings import Settings
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.read import read_snapshot
from recsys.upkeep.erasure import ErasureReceipt, erase_requested, request_erasure
from recsys.validation.validate import validate_window
from recsys.warehouse.visitors import unjoined_visitor, visitor_id
from recsys.warehouse.windows import open_window


def run(engine: sa.Engine, statement: str) -> list[tuple[object, ...]]:
    with engine.begin() as connection:
        result = connection.execute(sa.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


@pytest.fixture
def snapshot(warehouse: sa.Engine, settings: Settings) -> str:
    """Ten events each of two sessions and of a user, in a snapshot."""
    run(
        warehouse,
        """
        INSERT INTO items (item_id) SELECT n FROM generate_series(1, 10) AS n;
        INSERT INTO users (user_id) VALUES ('ada');
        INSERT INTO feedback (user_id, session_id, item_id, event_type, occurred_at)
        SELECT person.user_id, person.session_id, n, 'view', now() - make_interval(mins => n)
        FROM (VALUES ('ada', NULL), (NULL, 's1'), (NULL, 's2')) AS person (user_id, session_id)
        CROSS JOIN generate_series(1, 10) AS n
        """,
    )
    window = open_window(warehouse, "nightly_training", "r")
    validate_window(warehouse, window, settings, settings.data_docs)
    return take_full_snapshot(warehouse, window, settings).uri


def erase(engine: sa.Engine, settings: Settings, user: str) -> list[ErasureReceipt]:
    request_erasure(engine, user)
    return erase_requested(engine, settings.snapshots, tombstone_key=settings.require_pseudonym_key)


def people_in(uri: str) -> int:
    table = read_snapshot(uri).interactions([Columns.USER_KEY])
    return len(set(table[Columns.USER_KEY].to_pylist()))


def test_nothing_is_left_of_the_sessions_that_a_user_has_joined(
    warehouse: sa.Engine, settings: Settings, snapshot: str
) -> None:
    assert people_in(snapshot) == 3
    run(warehouse, "SELECT join_session('s1', 'ada')")
    receipts = erase(warehouse, settings, "ada")
    assert [receipt.rows_removed["feedback"] for receipt in receipts] == [20, 0]
    assert [receipt.snapshot_rows_removed for receipt in receipts] == [10, 10]
    assert people_in(snapshot) == 1
    assert run(warehouse, "SELECT DISTINCT user_id FROM feedback") == [("visitor:s2",)]
    assert run(warehouse, "SELECT user_id FROM users") == [("visitor:s2",)]
    assert run(warehouse, "SELECT DISTINCT requested_at, transaction_id FROM erasure_requests") != []
    assert len(run(warehouse, "SELECT DISTINCT requested_at, transaction_id FROM erasure_requests")) == 1


def test_a_session_is_erased_by_itself(warehouse: sa.Engine, settings: Settings, snapshot: str) -> None:
    [receipt] = erase(warehouse, settings, unjoined_visitor(warehouse, "s1"))
    assert (receipt.rows_removed["feedback"], receipt.snapshot_rows_removed) == (10, 10)
    assert people_in(snapshot) == 2


def test_a_joined_session_is_not_erased_behind_its_users_back(
    warehouse: sa.Engine, settings: Settings, snapshot: str
) -> None:
    run(warehouse, "SELECT join_session('s1', 'ada')")
    with pytest.raises(WarehouseError, match="belongs to a user since a login") as error:
        unjoined_visitor(warehouse, "s1")
    assert "ada" not in str(error.value)


def test_a_login_does_not_save_what_its_visitor_has_asked_to_erase(
    warehouse: sa.Engine, settings: Settings, snapshot: str
) -> None:
    request_erasure(warehouse, visitor_id("s1"))
    assert run(warehouse, "SELECT join_session('s1', 'ada')") == [(0,)]
    erase_requested(warehouse, settings.snapshots, tombstone_key=settings.require_pseudonym_key)
    assert run(warehouse, "SELECT user_id, count(*) FROM feedback GROUP BY 1 ORDER BY 1") == [
        ("ada", 10),
        ("visitor:s2", 10),
    ]


def test_a_login_during_the_erasure_leaves_nothing_of_the_user(
    warehouse: sa.Engine, settings: Settings, snapshot: str
) -> None:
    request_erasure(warehouse, "ada")

    def log_in(session: str) -> None:
        with suppress(sa.exc.IntegrityError):  # the user is gone
            run(warehouse, f"SELECT join_session('{session}', 'ada')")

    with ThreadPoolExecutor(3) as threads:
        logins = [threads.submit(log_in, session) for session in ("s1", "s2")]
        erased = threads.submit(
            erase_requested, warehouse, settings.snapshots, tombstone_key=settings.require_pseudonym_key
        )
        for each in (*logins, erased):
            each.result()
    assert run(warehouse, "SELECT count(*) FROM feedback WHERE user_id = 'ada'") == [(0,)]
    assert run(warehouse, "SELECT count(*) FROM users WHERE joined_to IS NOT NULL") == [(0,)]
