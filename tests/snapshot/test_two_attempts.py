"""Two attempts of one run at once: a killed task that lives on, and its retry."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.errors import ServiceUnavailableError
from recsys.settings import Settings
from recsys.snapshot import full as snapshot_full
from recsys.snapshot import micro as snapshot_micro
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.micro import take_micro_snapshot
from recsys.snapshot.read import read_snapshot
from recsys.snapshot.reference import SnapshotRef, TrainedThrough
from recsys.snapshot.store import Folder
from recsys.warehouse.windows import open_window
from tests.snapshot.warehouse_rows import add_feedback, add_items, add_users

_WAITS = sa.text(
    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
)
_END_HOLDERS = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@pytest.fixture
def stocked(warehouse: sa.Engine) -> sa.Engine:
    add_items(warehouse, "a", "b", "c")
    add_users(warehouse, "ann", "bob")
    add_feedback(warehouse, [("ann", "abc"[minute % 3], minute) for minute in range(10)])
    return warehouse


@pytest.fixture
def pause(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Let the first attempt stop when it has written the items and events; returns `reached` and `go on`."""
    reached, go_on = threading.Event(), threading.Event()
    complete = snapshot_full.complete_snapshot

    def pausing(*arguments: Any) -> Any:
        if not reached.is_set():
            reached.set()
            assert go_on.wait(60)
        return complete(*arguments)

    monkeypatch.setattr(snapshot_full, "complete_snapshot", pausing)
    monkeypatch.setattr(snapshot_micro, "complete_snapshot", pausing)
    return reached, go_on


def until_it_waits(engine: sa.Engine, attempt: Future[SnapshotRef]) -> None:
    """Return when the attempt waits for the other one, or is done."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not attempt.done() and not connection.scalar(_WAITS):
            pass


@pytest.mark.parametrize("kind", ["full", "micro"])
def test_the_second_attempt_waits_and_returns_the_snapshot_of_the_first(
    stocked: sa.Engine, settings: Settings, pause: tuple[threading.Event, threading.Event], kind: str
) -> None:
    reached, go_on = pause
    update = settings.micro_update.model_copy(update={"min_fresh_events": 1})
    settings = settings.model_copy(update={"micro_update": update})
    parent: TrainedThrough | None = None
    if kind == "micro":
        reached.set()
        night = take_full_snapshot(stocked, open_window(stocked, "nightly", "run"), settings)
        parent = read_snapshot(night).trained_through
        add_feedback(stocked, [("bob", "a", 20), ("bob", "b", 21)])
        reached.clear()
    window = open_window(stocked, "hourly", "hour")

    def take() -> SnapshotRef:
        if parent is None:
            return take_full_snapshot(stocked, window, settings)
        return take_micro_snapshot(stocked, window, settings, parent)

    with ThreadPoolExecutor(2) as attempts:
        first = attempts.submit(take)
        assert reached.wait(60)
        second = attempts.submit(take)
        until_it_waits(stocked, second)
        go_on.set()
        assert first.result() == second.result()
    read_snapshot(first.result())


def test_an_attempt_that_has_lost_its_lock_leaves_no_snapshot(
    stocked: sa.Engine, settings: Settings, pause: tuple[threading.Event, threading.Event]
) -> None:
    reached, go_on = pause
    window = open_window(stocked, "nightly", "run")
    with ThreadPoolExecutor(1) as attempts:
        attempt = attempts.submit(take_full_snapshot, stocked, window, settings)
        assert reached.wait(60)
        with stocked.connect() as connection:
            assert connection.execute(_END_HOLDERS).all() == [(True,)]
        go_on.set()
        with pytest.raises(ServiceUnavailableError, match="held a lock broke"):
            attempt.result()
    assert Folder(f"{settings.snapshots}/full").folders() == []
    read_snapshot(take_full_snapshot(stocked, window, settings))
