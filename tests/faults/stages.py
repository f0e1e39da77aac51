"""The stages that are killed, each on the first window. Other processes import this module."""

from dataclasses import replace
from datetime import timedelta

import sqlalchemy as sa

from recsys.promotion.ledger import LedgerEntry
from recsys.promotion.promote import promote
from recsys.settings import Settings
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.micro import take_micro_snapshot
from recsys.snapshot.read import read_snapshot
from recsys.snapshot.reference import SnapshotRef, TrainedThrough
from recsys.snapshot.reservoir import write_reservoir
from recsys.validation.quarantine import release
from recsys.validation.validate import validate_window
from recsys.warehouse.windows import Window, load_window, open_window
from tests.faults.conftest import START

PARENT = TrainedThrough(0, START)


def promote_second(settings: Settings) -> LedgerEntry:
    engine = sa.create_engine(settings.require_warehouse_url())
    return promote(
        engine,
        settings,
        "2",
        "1",
        reason="better",
        explanation="It is.",
        actor="nightly",
        run_key="nightly/2",
    )


def open_first(settings: Settings) -> Window:
    return open_window(sa.create_engine(settings.require_warehouse_url()), "nightly", "1")


def validate_first(settings: Settings) -> None:
    engine = sa.create_engine(settings.require_warehouse_url())
    validate_window(engine, load_window(engine, 1), settings, settings.home / "data_docs")


def release_first(settings: Settings) -> None:
    release(sa.create_engine(settings.require_warehouse_url()), 1)


def take_first_reservoir(settings: Settings) -> SnapshotRef:
    engine = sa.create_engine(settings.require_warehouse_url())
    return write_reservoir(engine, take_full_snapshot(engine, load_window(engine, 1), settings), settings)


def take_second(settings: Settings) -> SnapshotRef:
    """Take the micro snapshot of the second window, on what the first night knows."""
    engine = sa.create_engine(settings.require_warehouse_url())
    full = read_snapshot(take_full_snapshot(engine, load_window(engine, 1), settings))
    # As after an update that learned what the night held out: bob has nothing fresh and is replayed.
    known = replace(full.trained_through, occurred_before=START + timedelta(minutes=15))
    window = open_window(engine, "hourly", "2")
    update = settings.micro_update.model_copy(update={"min_fresh_events": 1, "guard_share": 0.0})
    return take_micro_snapshot(engine, window, settings.model_copy(update={"micro_update": update}), known)


def take_first(settings: Settings, kind: str) -> SnapshotRef:
    engine = sa.create_engine(settings.require_warehouse_url())
    window = load_window(engine, 1)
    if kind == "full":
        return take_full_snapshot(engine, window, settings)
    update = settings.micro_update.model_copy(update={"min_fresh_events": 1})
    return take_micro_snapshot(engine, window, settings.model_copy(update={"micro_update": update}), PARENT)
