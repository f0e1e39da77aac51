"""What full and micro snapshots share: items, event types, the split by time, and the manifest."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic_core import to_jsonable_python

from recsys.columns import Columns
from recsys.errors import NothingToDoError
from recsys.settings import Settings
from recsys.snapshot.event_types import SCHEMA as EVENT_TYPES_SCHEMA
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.extract import Extraction
from recsys.snapshot.interactions import InteractionsWriter
from recsys.snapshot.manifest import EVENT_TYPES_FILE, FORMAT_VERSION, ITEMS_FILE, FileEntry, Manifest
from recsys.snapshot.reference import SnapshotKind, TrainedThrough
from recsys.snapshot.scrub import scrub_comments
from recsys.snapshot.sequences import microseconds
from recsys.snapshot.slates import MOST_POSITIONS, SLATES
from recsys.snapshot.slates import SCHEMA as SLATES_SCHEMA
from recsys.snapshot.store import Folder
from recsys.warehouse.statements import read_statement
from recsys.warehouse.windows import Window

_ITEMS_SCHEMA = pa.schema(
    [
        (Columns.ITEM_ID, pa.string()),
        (Columns.TITLE, pa.string()),
        (Columns.DESCRIPTION, pa.string()),
        (Columns.ATTRIBUTES, pa.string()),
        ("available", pa.bool_()),
        ("rest_days", pa.float64()),
        ("available_from", pa.timestamp("us", "UTC")),
        ("available_until", pa.timestamp("us", "UTC")),
        ("variant_of", pa.string()),
    ]
)
MOST_SLATES = 500_000
"""The latest ones are read: with ten items each, as many showings as recent popularity reads events."""
_PARQUET_OPTIONS: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Plan:
    """What distinguishes a full from a micro snapshot."""

    kind: SnapshotKind
    parameters: Mapping[str, Any]
    """Of the statement that selects the events."""
    split_purpose: str
    """Purpose of the events of which the latest are held out."""
    parent: TrainedThrough | None
    """Micro snapshots: what the parent model has trained on."""
    min_events: int
    """With fewer events to split there is nothing to do."""


@dataclass(frozen=True)
class WrittenItems:
    """The file of the items."""

    file: FileEntry
    item_ids: pa.Array


def snapshot_name(window: Window, plan: Plan) -> str:
    """Return the name of the snapshot's folder, the same for every attempt of a run."""
    key = [FORMAT_VERSION, window.run_key, to_jsonable_python(plan.parent)]
    return f"{window.window_id}-{sha256(json.dumps(key).encode()).hexdigest()[:12]}"


def read_event_types(source: Extraction) -> EventTypes:
    """Return the event types in the warehouse."""
    return EventTypes.from_arrow(
        source.table(read_statement("snapshot/select_event_types"), EVENT_TYPES_SCHEMA)
    )


def write_items(source: Extraction, folder: Folder) -> WrittenItems:
    """Write the catalogue."""
    item_ids = []
    with (
        folder.writing(ITEMS_FILE) as file,
        pq.ParquetWriter(file.arrow(), _ITEMS_SCHEMA, **_PARQUET_OPTIONS) as writer,
    ):
        for batch in source.batches(read_statement("snapshot/select_items"), _ITEMS_SCHEMA):
            writer.write_batch(batch)
            item_ids.append(batch.column(Columns.ITEM_ID))
    return WrittenItems(file.entry, pa.chunked_array(item_ids, pa.string()).combine_chunks())


def write_slates(
    source: Extraction, folder: Folder, *, upper_transaction_id: int, as_of: datetime, guard_bound: int
) -> list[FileEntry]:
    """Write the latest slates, in constant memory; nothing if there are none.

    Parameters
    ----------
    guard_bound
        Those of guard users below it (see `recsys.snapshot.guard`) are left out.
    """
    rows = source.batches(
        read_statement("snapshot/select_slates"), SLATES_SCHEMA,
        upper_transaction_id=upper_transaction_id, as_of=as_of,
        most_slates=MOST_SLATES, most_positions=MOST_POSITIONS, guard_bound=guard_bound,
    )  # fmt: skip
    first = next(rows, None)
    if first is None:
        return []
    with (
        folder.writing(f"{SLATES}.parquet") as file,
        pq.ParquetWriter(file.arrow(), SLATES_SCHEMA, **_PARQUET_OPTIONS) as writer,
    ):
        for batch in chain([first], rows):
            writer.write_batch(_scrubbed(batch))
    return [file.entry]


def _scrubbed(slates: pa.RecordBatch) -> pa.RecordBatch:
    queries = slates.column("query").dictionary_encode()
    scrubbed = scrub_comments(queries.dictionary).take(queries.indices)
    return slates.set_column(slates.schema.get_field_index("query"), "query", scrubbed)


def complete_snapshot(
    folder: Folder,
    window: Window,
    settings: Settings,
    plan: Plan,
    interactions: InteractionsWriter,
    items: WrittenItems,
    event_types: EventTypes,
) -> Manifest:
    """Write the event types, split the events by time, and return the manifest.

    Raises
    ------
    NothingToDoError
        There are too few events, or all have the same time, so none could be held out.
    """
    held_out_from = _held_out_from(interactions, settings, plan)
    boundary = microseconds(held_out_from)
    with folder.writing(EVENT_TYPES_FILE) as file:
        pq.write_table(event_types.to_arrow(), file.arrow(), **_PARQUET_OPTIONS)
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
        items=len(items.item_ids),
        files=(*interactions.files, items.file, file.entry),
    )


def _held_out_from(interactions: InteractionsWriter, settings: Settings, plan: Plan) -> datetime:
    """Return the time from which on events are held out, never earlier than the parent's."""
    splittable = interactions.boundary
    if plan.kind == "micro" and splittable.events < plan.min_events:
        raise NothingToDoError(
            f"{splittable.events} fresh feedback events since the parent model, fewer than "
            f"micro_update.min_fresh_events = {plan.min_events}"
        )
    if splittable.earliest is None:
        raise NothingToDoError("there is no valid feedback of consenting users to train on yet")
    found = splittable.find(settings.evaluation.holdout_share, interactions.split_times)
    floor = microseconds(plan.parent.occurred_before) if plan.parent else None
    candidates = [time for time in (found, floor) if time is not None]
    boundary = max(candidates, default=splittable.earliest)
    if splittable.earliest >= boundary:
        raise NothingToDoError(
            f"all {splittable.events} feedback events to split occurred at {_time(splittable.earliest)} or "
            "later, where evaluation starts: nothing would be left to train on"
        )
    return _time(boundary)


def _time(time: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time)
