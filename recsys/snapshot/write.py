"""Takes snapshots: validated, pseudonymised feedback as Parquet with a digest."""

import json
import logging
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from pydantic_core import to_jsonable_python

from recsys.columns import Columns, Purpose
from recsys.errors import NothingToDoError
from recsys.prefetch import read_ahead
from recsys.settings import Settings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.extract import Extraction, extraction
from recsys.snapshot.guard import guard_bound
from recsys.snapshot.interactions import HASHED_SCHEMA, ROWS_PER_GROUP, InteractionsWriter, row_groups
from recsys.snapshot.manifest import (
    EVENT_TYPES_FILE,
    FORMAT_VERSION,
    ITEMS_FILE,
    MANIFEST_NAME,
    FileEntry,
    Manifest,
)
from recsys.snapshot.read import Snapshot, read_snapshot
from recsys.snapshot.recorded import record_snapshot
from recsys.snapshot.reference import SnapshotKind, SnapshotRef, TrainedThrough
from recsys.snapshot.registered import Registered
from recsys.snapshot.replay import LEARNED, Replay, find_replay, write_learned
from recsys.snapshot.reservoir import RESERVOIR, sample_reservoir
from recsys.snapshot.sequences import microseconds
from recsys.snapshot.store import Folder, new_folder
from recsys.warehouse.pseudonyms import fill_user_keys
from recsys.warehouse.statements import read_statement
from recsys.warehouse.windows import Window

_ITEMS_SCHEMA = pa.schema(
    [
        (Columns.ITEM_ID, pa.string()),
        (Columns.TITLE, pa.string()),
        (Columns.DESCRIPTION, pa.string()),
        (Columns.ATTRIBUTES, pa.string()),
        ("available", pa.bool_()),
    ]
)
_WITHOUT_COMMENT = pa.schema([field for field in HASHED_SCHEMA if field.name != Columns.COMMENT])
# Where one event in sixteen has a comment, both streams end at the same time.
_ROWS_WITH_COMMENT_PER_GROUP = ROWS_PER_GROUP // 4
_TURN = 4
_SEED_BITS = 63
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Plan:
    """What distinguishes the two kinds of snapshots."""

    kind: SnapshotKind
    parameters: Mapping[str, Any]
    split_purpose: str
    parent: TrainedThrough | None
    minimum: int
    """Fewer events to split end the run."""


def take_full_snapshot(engine: sa.Engine, window: Window, settings: Settings) -> SnapshotRef:
    """Write all valid feedback of consenting users up to the end of the window.

    A second call for the same window and run returns the snapshot that is there.

    Raises
    ------
    NothingToDoError
        There is no feedback, or all of it has the same time, so that nothing could be held out.
    ServiceUnavailableError
        Postgres broke off; try again.
    """
    return _take(engine, window, settings, _full_plan(window.upper_transaction_id))


def take_micro_snapshot(
    engine: sa.Engine, window: Window, settings: Settings, parent: TrainedThrough
) -> SnapshotRef:
    """Write what the parent model has not trained on, with history, replay and guard events.

    Replay and guard events come from reservoirs (see `recsys.snapshot.replay`). Should there be none that
    holds only what the parent knows, one is made of the table first, which takes as long as a full snapshot:
    so it is after an update of this package or of the key that names users.

    Parameters
    ----------
    parent
        What the model to be updated has trained on.

    Raises
    ------
    NothingToDoError
        There are fewer fresh events than `micro_update.min_fresh_events`, or none of them may be
        trained on before it is evaluated.
    ServiceUnavailableError
        Postgres broke off; try again.
    """
    if window.upper_transaction_id < parent.transaction_id:
        raise NothingToDoError(
            f"window {window.window_id} ends at transaction {window.upper_transaction_id}, but the parent "
            f"model has trained on feedback up to {parent.transaction_id}: it already knows this window"
        )
    return _take(
        engine,
        window,
        settings,
        _Plan(
            kind="micro",
            parameters=micro_snapshot_parameters(window, settings, parent),
            split_purpose=Purpose.FRESH,
            parent=parent,
            minimum=settings.micro_update.min_fresh_events,
        ),
    )


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


def _full_plan(upper_transaction_id: int) -> _Plan:
    return _Plan(
        kind="full",
        parameters={"upper_transaction_id": upper_transaction_id},
        split_purpose=Purpose.FULL,
        parent=None,
        minimum=2,
    )


def _take(engine: sa.Engine, window: Window, settings: Settings, plan: _Plan) -> SnapshotRef:
    parent_folder, name = Folder(f"{settings.snapshots}/{plan.kind}"), _name(window, plan)
    folder = parent_folder.child(name)
    if not folder.exists(MANIFEST_NAME):
        fill_user_keys(engine, settings.require_pseudonym_key())
        try:
            replay = _find_replay(engine, window, settings, plan)
            with (
                new_folder(parent_folder, name) as unfinished,
                extraction(engine) as source,
            ):
                manifest = _write(source, unfinished, window, settings, plan, replay)
                if replay is not None:
                    # Before the snapshot is there: whoever trains on it leaves something to its successors.
                    _write_learned(_learned_folder(settings), name, Snapshot(unfinished, manifest), replay)
                unfinished.write_manifest(manifest)
        except OSError:
            # Another try of the same run may have been faster; then its snapshot serves as well.
            if not folder.exists(MANIFEST_NAME):
                raise
    if plan.kind == "micro" and _learned_folder(settings).child(name).exists(MANIFEST_NAME):
        record_snapshot(engine, _learned_folder(settings).child(name))
    ref = record_snapshot(engine, folder)
    logger.info("%s snapshot of window %d: %d rows at %s", ref.kind, ref.window_id, ref.rows, ref.uri)
    return ref


def _find_replay(engine: sa.Engine, window: Window, settings: Settings, plan: _Plan) -> Replay | None:
    """Return what a micro snapshot replays; None: it is a full one, or the parent knows nothing."""
    if plan.parent is None:
        return None
    found = find_replay(engine, plan.parent, settings, seed=window.window_id)
    if found is not None:
        return found
    logger.warning("no reservoir holds only what the parent model knows: sampling the table, once")
    try:
        _take_reservoir_from_table(engine, window, settings, plan, plan.parent)
    except NothingToDoError:
        return None
    return find_replay(engine, plan.parent, settings, seed=window.window_id)


def _take_reservoir_from_table(
    engine: sa.Engine, window: Window, settings: Settings, plan: _Plan, known: TrainedThrough
) -> None:
    """Sample a full snapshot of what a model knows, which is thrown away then."""
    folder, name = Folder(f"{settings.snapshots}/{RESERVOIR}"), _name(window, plan)
    if not folder.child(name).exists(MANIFEST_NAME):
        with new_folder(folder, name) as unfinished:
            whole = unfinished.child("whole")
            until = replace(window, upper_transaction_id=known.transaction_id)
            with extraction(engine) as source:
                manifest = _write(source, whole, until, settings, _full_plan(known.transaction_id))
            whole.write_manifest(manifest)
            sampled = sample_reservoir(engine, read_snapshot(whole.uri), known, unfinished, settings)
            whole.remove()
            unfinished.write_manifest(sampled)
    record_snapshot(engine, folder.child(name))


def _write_learned(parent_folder: Folder, name: str, snapshot: Snapshot, replay: Replay) -> None:
    with new_folder(parent_folder, name) as unfinished:
        unfinished.write_manifest(write_learned(unfinished, snapshot, replay))


def _learned_folder(settings: Settings) -> Folder:
    return Folder(f"{settings.snapshots}/{LEARNED}")


def _write(
    source: Extraction,
    folder: Folder,
    window: Window,
    settings: Settings,
    plan: _Plan,
    replay: Replay | None = None,
) -> Manifest:
    if plan.kind == "full":
        minimum = settings.validation.min_noisy_weight
        interactions, items_entry, items = _write_full(source, folder, plan, minimum)
    else:
        interactions, items_entry, items = _write_micro(source, folder, plan, replay)
    event_types = EventTypes.from_arrow(source.table(read_statement("snapshot/select_event_types")))
    held_out_from = _held_out_from(interactions, settings, plan)
    boundary = microseconds(held_out_from)
    files = [
        *interactions.files,
        items_entry,
        _write_table(folder, EVENT_TYPES_FILE, event_types.to_arrow()),
    ]
    return Manifest(
        kind=plan.kind,
        window={
            "window_id": window.window_id,
            "consumer": window.consumer,
            "run_key": window.run_key,
            "lower_transaction_id": window.lower_transaction_id,
            "upper_transaction_id": window.upper_transaction_id,
        },
        as_of=min(window.interval_end or window.opened_at, window.opened_at).astimezone(UTC),
        held_out_from=held_out_from,
        trained_through=TrainedThrough(window.upper_transaction_id, held_out_from),
        parent=plan.parent,
        rows=interactions.rows,
        held_out_rows=sum(int((times >= boundary).sum()) for times in interactions.split_times(boundary)),
        rows_by_purpose=interactions.rows_by_purpose,
        users=interactions.users,
        items=items,
        files=tuple(files),
    )


def _write_full(
    source: Extraction, folder: Folder, plan: _Plan, min_noisy_weight: float
) -> tuple[InteractionsWriter, FileEntry, int]:
    """Write events and items; return the file of the items and how many there are, too."""
    while True:
        parameters = {**plan.parameters, "hash_seed": secrets.randbits(_SEED_BITS)}
        statement = read_statement("snapshot/select_full_snapshot")
        # Most events have no comment and come several times faster than the others. Postgres reads them while
        # we read who and what is registered.
        events = source.records(statement, _WITHOUT_COMMENT, ROWS_PER_GROUP, **parameters)
        with closing(read_ahead(events)) as most:
            registered = Registered.read(source, min_noisy_weight=min_noisy_weight, **parameters)
            if registered is None:
                continue
            items_entry, item_ids = _write_items(source, folder)
            interactions = InteractionsWriter(folder, plan.split_purpose, registered=registered)
            commented = source.batches(read_statement("snapshot/select_full_snapshot_comments"), **parameters)
            with closing(read_ahead(row_groups(commented, _ROWS_WITH_COMMENT_PER_GROUP))) as others:
                interactions.write(_in_turns(map(_with_comments, most), others))
            return interactions, items_entry, len(item_ids)


def _write_micro(
    source: Extraction, folder: Folder, plan: _Plan, replay: Replay | None
) -> tuple[InteractionsWriter, FileEntry, int]:
    items_entry, item_ids = _write_items(source, folder)
    event_types = source.table(read_statement("snapshot/select_event_types")).column(Columns.EVENT_TYPE)
    known = {Columns.ITEM_ID: item_ids, Columns.EVENT_TYPE: event_types.combine_chunks()}
    interactions = InteractionsWriter(folder, plan.split_purpose, known=known)
    events = source.batches(read_statement("snapshot/select_micro_snapshot"), **plan.parameters)
    if replay is not None:
        events = replay.after(source, events)
    with closing(read_ahead(row_groups(events))) as arriving:
        interactions.write(arriving)
    return interactions, items_entry, len(item_ids)


def _with_comments(events: pa.RecordBatch) -> pa.RecordBatch:
    comments = pa.nulls(events.num_rows, pa.string())
    return pa.RecordBatch.from_arrays([*events.columns, comments], schema=HASHED_SCHEMA)


def _in_turns(most: Iterable[pa.RecordBatch], others: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield one of the others after every few, so that both are worked on at once; what is left last."""
    for number, batch in enumerate(most, 1):
        yield batch
        if number % _TURN == 0:
            yield from islice(others, 1)
    yield from others


def _held_out_from(interactions: InteractionsWriter, settings: Settings, plan: _Plan) -> datetime:
    """Return the time from which on events are held out, never earlier than the parent's."""
    splittable = interactions.boundary
    if plan.kind == "micro" and splittable.events < plan.minimum:
        raise NothingToDoError(
            f"{splittable.events} fresh feedback events since the parent model, fewer than "
            f"micro_update.min_fresh_events = {plan.minimum}"
        )
    if splittable.earliest is None:
        raise NothingToDoError("there is no valid feedback of consenting users to train on yet")
    found = splittable.find(settings.evaluation.holdout_share, interactions.split_times)
    floor = microseconds(plan.parent.occurred_before) if plan.parent else None
    candidates = [time for time in (found, floor) if time is not None]
    boundary = max(candidates, default=splittable.earliest)
    if splittable.earliest >= boundary:
        raise NothingToDoError(
            f"all {splittable.events} feedback events to split lie at {_time(splittable.earliest)} or later, "
            "where evaluation begins: nothing would be left to train on"
        )
    return _time(boundary)


def _write_items(source: Extraction, folder: Folder) -> tuple[FileEntry, pa.Array]:
    """Write the catalogue; return the file and all item ids."""
    item_ids = []
    with (
        folder.writing(ITEMS_FILE) as file,
        pq.ParquetWriter(file.arrow(), _ITEMS_SCHEMA, compression="zstd") as writer,
    ):
        for batch in source.batches(read_statement("snapshot/select_items")):
            writer.write_batch(batch.cast(_ITEMS_SCHEMA))
            item_ids.append(batch.column(Columns.ITEM_ID))
    return file.entry, pa.chunked_array(item_ids, pa.string()).combine_chunks()


def _write_table(folder: Folder, name: str, table: pa.Table) -> FileEntry:
    with folder.writing(name) as file:
        pq.write_table(table, file.arrow(), compression="zstd")
    return file.entry


def _name(window: Window, plan: _Plan) -> str:
    """Return the folder's name, the same for every try of a run."""
    key = [FORMAT_VERSION, window.run_key, to_jsonable_python(plan.parent)]
    return f"{window.window_id}-{sha256(json.dumps(key).encode()).hexdigest()[:12]}"


def _time(time: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time)
