"""Take full snapshots: all validated feedback, pseudonymised, as Parquet with a digest."""

import logging
import secrets
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice

import pyarrow as pa
import sqlalchemy as sa

from recsys.columns import Columns, Purpose
from recsys.prefetch import prefetch
from recsys.settings import Settings
from recsys.snapshot.damage import discard_damaged
from recsys.snapshot.extract import Extraction, extraction
from recsys.snapshot.interactions import HASHED_SCHEMA, ROWS_PER_GROUP, InteractionsWriter, row_groups
from recsys.snapshot.manifest import Manifest
from recsys.snapshot.name_hashes import NameHashes
from recsys.snapshot.reference import SnapshotRef
from recsys.snapshot.snapshots_table import record_snapshot
from recsys.snapshot.store import Folder, write_once
from recsys.snapshot.write import (
    Plan,
    WrittenItems,
    complete_snapshot,
    read_event_types,
    snapshot_name,
    write_items,
    write_slates,
)
from recsys.warehouse.pseudonyms import fill_user_keys
from recsys.warehouse.statements import read_statement
from recsys.warehouse.windows import Window

_WITHOUT_COMMENT = pa.schema([field for field in HASHED_SCHEMA if field.name != Columns.COMMENT])
# If one event in sixteen has a comment, both streams end at the same time.
_ROWS_WITH_COMMENT_PER_GROUP = ROWS_PER_GROUP // 4
_GROUPS_PER_GROUP_WITH_COMMENT = 4
_SEED_BITS = 63

logger = logging.getLogger(__name__)


def take_full_snapshot(engine: sa.Engine, window: Window, settings: Settings) -> SnapshotRef:
    """Write all valid feedback of consenting users up to the end of the window.

    If the snapshot of this window and run exists and is sound, return it. A damaged one is taken anew.

    Raises
    ------
    NothingToDoError
        There is no feedback, or all of it has the same time, so none could be held out.
    ServiceUnavailableError
        The connection to Postgres broke.
    """

    def write(unfinished: Folder) -> Manifest:
        fill_user_keys(engine, settings.require_pseudonym_key())
        return write_full_snapshot(engine, unfinished, window, settings)

    parent, name = Folder(f"{settings.snapshots}/full"), snapshot_name(window, _plan(window))
    discard_damaged(engine, parent.child(name))
    ref = record_snapshot(engine, write_once(engine, parent, name, write))
    logger.info("full snapshot of window %d: %d rows at %s", ref.window_id, ref.rows, ref.uri)
    return ref


def write_full_snapshot(engine: sa.Engine, folder: Folder, window: Window, settings: Settings) -> Manifest:
    """Write the files of a full snapshot and return its manifest."""
    plan = _plan(window)
    with extraction(engine) as source:
        interactions, items = _write_events(source, folder, plan, settings.validation.min_noisy_weight)
        event_types = read_event_types(source)
        manifest = complete_snapshot(folder, window, settings, plan, interactions, items, event_types)
        slates = write_slates(
            source, folder, upper_transaction_id=window.upper_transaction_id, as_of=manifest.as_of,
            guard_bound=0,
        )  # fmt: skip
        return replace(manifest, files=(*manifest.files, *slates))


def _plan(window: Window) -> Plan:
    return Plan(
        kind="full",
        parameters={"upper_transaction_id": window.upper_transaction_id},
        split_purpose=Purpose.FULL,
        parent=None,
        min_events=2,
    )


def _write_events(
    source: Extraction, folder: Folder, plan: Plan, min_noisy_weight: float
) -> tuple[InteractionsWriter, WrittenItems]:
    while True:
        parameters = {**plan.parameters, "hash_seed": secrets.randbits(_SEED_BITS)}
        statement = read_statement("snapshot/select_full_snapshot")
        # Most events have no comment and arrive several times faster than the others. Postgres scans them
        # while this process reads the names.
        events = source.fixed_width_batches(statement, _WITHOUT_COMMENT, ROWS_PER_GROUP, **parameters)
        with closing(prefetch(events)) as without_comment:
            name_hashes = NameHashes.read(source, min_noisy_weight=min_noisy_weight, **parameters)
            if name_hashes is None:
                continue
            items = write_items(source, folder)
            interactions = InteractionsWriter(folder, plan.split_purpose, name_hashes=name_hashes)
            commented = source.batches(
                read_statement("snapshot/select_full_snapshot_comments"), HASHED_SCHEMA, **parameters
            )
            with closing(prefetch(row_groups(commented, _ROWS_WITH_COMMENT_PER_GROUP))) as with_comment:
                interactions.write(_interleave(map(_add_comment_column, without_comment), with_comment))
            return interactions, items


def _add_comment_column(events: pa.RecordBatch) -> pa.RecordBatch:
    comments = pa.nulls(events.num_rows, pa.string())
    return pa.RecordBatch.from_arrays([*events.columns, comments], schema=HASHED_SCHEMA)


def _interleave(
    without_comment: Iterable[pa.RecordBatch], with_comment: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Yield one batch with comments after every few without, so that Postgres works on both streams."""
    for number, batch in enumerate(without_comment, 1):
        yield batch
        if number % _GROUPS_PER_GROUP_WITH_COMMENT == 0:
            yield from islice(with_comment, 1)
    yield from with_comment
