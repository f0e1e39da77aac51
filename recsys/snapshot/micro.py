"""Take micro snapshots: fresh feedback with history, replay and guard events."""

import logging
from contextlib import closing
from dataclasses import replace
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from recsys.columns import Columns, Purpose
from recsys.errors import NothingToDoError
from recsys.prefetch import prefetch
from recsys.settings import Settings
from recsys.snapshot.damage import discard_damaged
from recsys.snapshot.extract import Extraction, extraction
from recsys.snapshot.full import write_full_snapshot
from recsys.snapshot.guard import guard_bound
from recsys.snapshot.interactions import SCHEMA, InteractionsWriter, row_groups
from recsys.snapshot.manifest import MANIFEST_NAME, Manifest
from recsys.snapshot.read import Snapshot, read_snapshot
from recsys.snapshot.reference import SnapshotRef, TrainedThrough
from recsys.snapshot.replay import RECENT, Replay, find_replay, write_recent_replay
from recsys.snapshot.reservoir import RESERVOIR, sample_reservoir
from recsys.snapshot.snapshots_table import record_snapshot
from recsys.snapshot.store import Folder, new_folder, write_once
from recsys.snapshot.write import (
    Plan,
    complete_snapshot,
    read_event_types,
    snapshot_name,
    write_items,
    write_slates,
)
from recsys.warehouse.pseudonyms import fill_user_keys
from recsys.warehouse.statements import read_statement
from recsys.warehouse.windows import Window

logger = logging.getLogger(__name__)


def take_micro_snapshot(
    engine: sa.Engine, window: Window, settings: Settings, parent: TrainedThrough
) -> SnapshotRef:
    """Write what the parent model has not trained on, with history, replay and guard events.

    Replay and guard events come from reservoirs (see `recsys.snapshot.replay`). If no reservoir holds only
    what the parent knows, one is first sampled from the table, which takes as long as a full snapshot. That
    happens after an update of this package and after a rotation of the key that names users.

    Parameters
    ----------
    parent
        What the model to be updated has trained on.

    Raises
    ------
    NothingToDoError
        There are fewer fresh events than `micro_update.min_fresh_events`, or all of them would be held out.
    ServiceUnavailableError
        The connection to Postgres broke.
    """
    if window.upper_transaction_id < parent.transaction_id:
        raise NothingToDoError(
            f"window {window.window_id} ends at transaction {window.upper_transaction_id}, but the parent "
            f"model has trained on feedback up to {parent.transaction_id}: it already knows this window"
        )
    plan = Plan(
        kind="micro",
        parameters=micro_snapshot_parameters(window, settings, parent),
        split_purpose=Purpose.FRESH,
        parent=parent,
        min_events=settings.micro_update.min_fresh_events,
    )
    return _take(engine, window, settings, plan, parent)


def micro_snapshot_parameters(window: Window, settings: Settings, parent: TrainedThrough) -> dict[str, Any]:
    """Return the parameters of `select_micro_snapshot`."""
    return {
        "upper_transaction_id": window.upper_transaction_id,
        "parent_transaction_id": parent.transaction_id,
        "parent_occurred_before": parent.occurred_before,
        "history_events": 2 * settings.model.max_events,
        "guard_bound": guard_bound(settings.micro_update.guard_share),
        "min_noisy_weight": settings.validation.min_noisy_weight,
    }


def _take(
    engine: sa.Engine, window: Window, settings: Settings, plan: Plan, parent: TrainedThrough
) -> SnapshotRef:
    snapshots, name = Folder(f"{settings.snapshots}/micro"), snapshot_name(window, plan)
    recent = Folder(f"{settings.snapshots}/{RECENT}")
    discard_damaged(engine, snapshots.child(name))
    if not snapshots.child(name).exists(MANIFEST_NAME):
        fill_user_keys(engine, settings.require_pseudonym_key())
        replay = _find_or_make_replay(engine, window, settings, name, parent)

        def write(unfinished: Folder) -> Manifest:
            with extraction(engine) as source:
                manifest = _write_snapshot(source, unfinished, window, settings, plan, replay)
            if replay is not None:
                # Before the snapshot exists: every model trained on it leaves a recent replay to its
                # successors.
                _write_recent_replay(recent, name, Snapshot(unfinished, manifest), replay)
            return manifest

        write_once(engine, snapshots, name, write)
    if recent.child(name).exists(MANIFEST_NAME):
        record_snapshot(engine, recent.child(name))
    ref = record_snapshot(engine, snapshots.child(name))
    logger.info("micro snapshot of window %d: %d rows at %s", ref.window_id, ref.rows, ref.uri)
    return ref


def _write_snapshot(
    source: Extraction,
    folder: Folder,
    window: Window,
    settings: Settings,
    plan: Plan,
    replay: Replay | None,
) -> Manifest:
    items, event_types = write_items(source, folder), read_event_types(source)
    known = {
        Columns.ITEM_ID: items.item_ids,
        Columns.EVENT_TYPE: pa.array(event_types.names, pa.string()),
    }
    interactions = InteractionsWriter(folder, plan.split_purpose, known=known)
    events = source.batches(read_statement("snapshot/select_micro_snapshot"), SCHEMA, **plan.parameters)
    if replay is not None:
        events = replay.after(source, events)
    with closing(prefetch(row_groups(events))) as arriving:
        interactions.write(arriving)
    manifest = complete_snapshot(folder, window, settings, plan, interactions, items, event_types)
    slates = write_slates(
        source, folder, upper_transaction_id=window.upper_transaction_id, as_of=manifest.as_of,
        guard_bound=plan.parameters["guard_bound"],
    )  # fmt: skip
    return replace(manifest, files=(*manifest.files, *slates))


def _write_recent_replay(parent: Folder, name: str, snapshot: Snapshot, replay: Replay) -> None:
    with new_folder(parent, name) as unfinished:
        unfinished.write_manifest(write_recent_replay(unfinished, snapshot, replay))


def _find_or_make_replay(
    engine: sa.Engine, window: Window, settings: Settings, name: str, parent: TrainedThrough
) -> Replay | None:
    """Return the reservoirs to replay; None if nothing that the parent knows is left."""
    found = find_replay(engine, parent, settings, seed=window.window_id)
    if found is not None:
        return found
    logger.warning("no reservoir holds only what the parent model knows: sampling the feedback table, once")
    try:
        _take_reservoir_from_table(engine, window, settings, name, parent)
    except NothingToDoError:
        return None
    return find_replay(engine, parent, settings, seed=window.window_id)


def _take_reservoir_from_table(
    engine: sa.Engine, window: Window, settings: Settings, name: str, known: TrainedThrough
) -> None:
    """Sample a reservoir from a temporary full snapshot of what a model knows."""

    def write(unfinished: Folder) -> Manifest:
        whole = unfinished.child("whole")
        until = replace(window, upper_transaction_id=known.transaction_id)
        whole.write_manifest(write_full_snapshot(engine, whole, until, settings))
        snapshot = read_snapshot(whole.uri, verify="sizes")
        sampled = sample_reservoir(engine, snapshot, known, unfinished, settings)
        whole.remove()
        return sampled

    record_snapshot(engine, write_once(engine, Folder(f"{settings.snapshots}/{RESERVOIR}"), name, write))
