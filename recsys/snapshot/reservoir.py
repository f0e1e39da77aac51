"""Sample a reservoir from a full snapshot: the events that micro-updates replay and those of guard users.

A *reservoir* is a snapshot with the latest events of a bounded, stratified sample of users and of a fixed
part of the guard users. It holds only what a model trained on the full snapshot knows.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from numpy.typing import NDArray

from recsys.columns import SNAPSHOT_INTERACTION_COLUMNS, Columns, Purpose
from recsys.settings import Settings
from recsys.snapshot.damage import discard_damaged
from recsys.snapshot.dictionary import distinct, encode
from recsys.snapshot.extract import Extraction, extraction
from recsys.snapshot.guard import guard_bound
from recsys.snapshot.interactions import SCHEMA, InteractionsWriter, row_groups
from recsys.snapshot.manifest import Manifest
from recsys.snapshot.read import Snapshot, read_snapshot
from recsys.snapshot.reference import SnapshotKind, SnapshotRef, TrainedThrough
from recsys.snapshot.sequences import microseconds
from recsys.snapshot.snapshots_table import record_snapshot
from recsys.snapshot.store import Folder, write_once
from recsys.snapshot.user_events import LatestEvents, events_of_users
from recsys.snapshot.user_sampling import ALL, FIRST_VISITOR, priorities, stratified_sample, user_numbers
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import users as users_table

RESERVOIR: Final = "reservoir"
# Users who compete for each place. Strata are formed of these only, so memory does not grow with all users.
_CANDIDATES_PER_PLACE = 8
_SPARE_USERS = 64
_ROWS_PER_BATCH = 262_144
_USER_KEYS = pa.schema([(Columns.USER_KEY, pa.string())])

logger = logging.getLogger(__name__)


def write_reservoir(engine: sa.Engine, ref: SnapshotRef, settings: Settings) -> SnapshotRef:
    """Write the reservoir of a full snapshot unless it exists, and return its reference.

    Raises
    ------
    SnapshotError
        The full snapshot is missing or damaged.
    ServiceUnavailableError
        The connection to Postgres broke.
    """
    parent = Folder(f"{settings.snapshots}/{RESERVOIR}")
    name = ref.uri.rsplit("/", 1)[-1]

    def write(unfinished: Folder) -> Manifest:
        # The folder exists before the snapshot is read. So an erasure either waits for the reservoir, or has
        # removed its user from the snapshot, or has made the user one who may not be trained on.
        snapshot = read_snapshot(ref, verify="sizes")
        return sample_reservoir(engine, snapshot, snapshot.trained_through, unfinished, settings)

    discard_damaged(engine, parent.child(name))
    reservoir = record_snapshot(engine, write_once(engine, parent, name, write))
    logger.info("reservoir of window %d: %d events at %s", ref.window_id, reservoir.rows, reservoir.uri)
    return reservoir


def sample_reservoir(
    engine: sa.Engine, snapshot: Snapshot, known: TrainedThrough, folder: Folder, settings: Settings
) -> Manifest:
    """Write the events of a reservoir into a folder and return its manifest.

    Reads the snapshot three times, one row group at a time: to count events, to compute the popularity of
    each user's items, and to collect events.

    Parameters
    ----------
    snapshot
        A full snapshot. Only events that `known` covers are sampled.
    known
        The models that replay the reservoir have trained on at least this.
    """
    update = settings.micro_update
    visitors = _count_visitors(engine)
    users = max(snapshot.manifest.users - visitors, 1)
    sample = _Sample(snapshot, microseconds(known.occurred_before))
    guards_end = min(guard_bound(update.guard_share) << 32, _bound(2 * update.max_guard_users, users))
    candidates = _CANDIDATES_PER_PLACE * update.max_replay_users
    others_end, visitors_end = _bound(candidates, users), _bound(candidates, max(visitors, 1))
    seed = snapshot.manifest.window_id
    first_other = guard_bound(update.guard_share) << 32

    item_counts, numbers, events = sample.count(guards_end, first_other, others_end, visitors_end, seed)
    # One event of a visitor is no history, and the places of people with one are worth more.
    worth_replaying = (events > 1) | _below(numbers, FIRST_VISITOR)
    numbers, events = numbers[worth_replaying], events[worth_replaying]
    is_guard = _below(numbers, first_other)
    guards = np.sort(numbers[is_guard])[: update.max_guard_users]
    numbers, events = numbers[~is_guard], events[~is_guard]
    popularity = sample.popularity(item_counts, numbers) / events
    chosen = stratified_sample(events, popularity, priorities(numbers, seed), update.max_replay_users)
    latest = sample.collect(np.sort(np.concatenate([guards, numbers[chosen]])), 2 * settings.model.max_events)

    with extraction(engine) as source:
        latest = events_of_users(latest, trainable_keys(source, distinct(latest.column(Columns.USER_KEY))))
    return write_events(folder, _with_purposes(latest, first_other), RESERVOIR, snapshot.manifest, known)


def write_events(
    folder: Folder, events: pa.Table, kind: SnapshotKind, source: Manifest, known: TrainedThrough
) -> Manifest:
    """Write events to replay, with the columns of `SCHEMA`, and return the manifest.

    Parameters
    ----------
    source
        Manifest of the snapshot that the events come from.
    known
        The models that replay them have trained on at least this.
    """
    writer = InteractionsWriter(folder, Purpose.REPLAY)
    writer.write(row_groups(events.cast(SCHEMA).sort_by(Columns.USER_KEY).to_batches(_ROWS_PER_BATCH)))
    return replace(
        source,
        kind=kind,
        held_out_from=known.occurred_before,
        trained_through=known,
        parent=None,
        rows=writer.rows,
        held_out_rows=0,
        rows_by_purpose=writer.rows_by_purpose,
        users=writer.users,
        files=tuple(writer.files),
        erased_from=(),
    )


def trainable_keys(source: Extraction, user_keys: pa.Array) -> pa.Array:
    """Return the keys of registered users who consent to training and have not asked to be erased."""
    statement = read_statement("snapshot/select_trainable_keys")
    table = source.table(statement, _USER_KEYS, user_keys=",".join(user_keys.to_pylist()))
    return table.column(Columns.USER_KEY).combine_chunks()


class _Sample:
    """Passes over the events of a snapshot before a time.

    Parameters
    ----------
    occurred_before
        Microseconds since 1970.
    """

    def __init__(self, snapshot: Snapshot, occurred_before: int) -> None:
        self._snapshot = snapshot
        self._occurred_before = occurred_before
        self._items = pa.array(snapshot.catalogue().item_ids.tolist(), pa.string())

    def count(
        self, guards_end: int, first_other: int, others_end: int, visitors_end: int, seed: int
    ) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
        """Count the events of each item and of each user who may be sampled.

        Parameters
        ----------
        guards_end
            Guard users with numbers below this may be sampled.
        first_other
            Users with this number or a higher one are not guard users.
        others_end
            Other users with priorities below this may be sampled.
        visitors_end
            Visitors with priorities below this may be sampled.

        Returns
        -------
        `[items]` event counts, `[users]` numbers and `[users]` event counts.
        """
        counts = np.zeros(len(self._items), dtype=np.int64)
        users = _Sums()
        for events in self._row_groups(Columns.USER_KEY, Columns.ITEM_ID):
            positions, codes = self._items_of(events)
            counts += np.bincount(positions[codes], minlength=len(counts))
            names, owners = encode(events.column(Columns.USER_KEY))
            numbers = user_numbers(names)
            is_guard = _below(numbers, first_other)
            priority = priorities(numbers, seed)
            may = np.where(
                _below(numbers, FIRST_VISITOR), _below(priority, others_end), _below(priority, visitors_end)
            )
            may = np.where(is_guard, _below(numbers, guards_end), may)
            own = np.bincount(owners, minlength=len(names))
            users.add(numbers[may], own[may])
        return counts, users.numbers, users.sums

    def popularity(self, item_counts: NDArray[np.int64], numbers: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Return `[users]` the sum of log(event count of the item) over each user's events."""
        logarithms = np.log(np.maximum(item_counts, 1))
        sums = np.zeros(len(numbers))
        for events in self._row_groups(Columns.USER_KEY, Columns.ITEM_ID):
            items, codes = self._items_of(events)
            names, owners = encode(events.column(Columns.USER_KEY))
            found, positions = _find(user_numbers(names), numbers)
            own = np.bincount(owners, weights=logarithms[items[codes]], minlength=len(names))
            np.add.at(sums, positions[found], own[found])
        return sums

    def collect(self, numbers: NDArray[np.uint64], per_user: int) -> pa.Table:
        """Return the latest events of the users with these numbers, given in ascending order."""
        latest = LatestEvents(per_user)
        for events in self._row_groups(*SNAPSHOT_INTERACTION_COLUMNS):
            names, owners = encode(events.column(Columns.USER_KEY))
            found, _ = _find(user_numbers(names), numbers)
            latest.add(events.filter(pa.array(found[owners])))
        return latest.table()

    def _row_groups(self, *columns: str) -> Iterator[pa.Table]:
        """Yield the events before the time; dictionaries may hold more names than occur."""
        for events in self._snapshot.row_groups([*{*columns, Columns.OCCURRED_AT}]):
            times = events.column(Columns.OCCURRED_AT).cast(pa.int64())
            early = pc.less(times, self._occurred_before)
            yield events.select(columns) if pc.all(early).as_py() else events.select(columns).filter(early)

    def _items_of(self, events: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return `[names]` positions in the catalogue and `[events]` codes."""
        names, codes = encode(events.column(Columns.ITEM_ID))
        return pc.index_in(names, self._items).to_numpy(zero_copy_only=False), codes


class _Sums:
    """Running sums by user number."""

    def __init__(self) -> None:
        self.numbers = np.zeros(0, dtype=np.uint64)
        self.sums = np.zeros(0, dtype=np.int64)

    def add(self, numbers: NDArray[np.uint64], values: NDArray[np.int64]) -> None:
        """Add `[users]` values; ignore users with zero, of whom a filter left no event."""
        numbers, values = numbers[values > 0], values[values > 0]
        self.numbers, owners = np.unique(np.concatenate([self.numbers, numbers]), return_inverse=True)
        sums = np.bincount(owners, np.concatenate([self.sums, values]), minlength=len(self.numbers))
        self.sums = sums.astype(np.int64)


def _with_purposes(events: pa.Table, first_other: int) -> pa.Table:
    names, owners = encode(events.column(Columns.USER_KEY))
    is_guard = _below(user_numbers(names), first_other)[owners]
    purposes = pa.array(np.where(is_guard, Purpose.GUARD, Purpose.REPLAY), pa.string())
    return events.set_column(events.schema.get_field_index(Columns.PURPOSE), Columns.PURPOSE, purposes)


def _count_visitors(engine: sa.Engine) -> int:
    """Return the number of visitors who may be trained on; hardly fewer are in the snapshot."""
    visitors = sa.select(sa.func.count()).where(
        users_table.c.kind == "visitor", users_table.c.consent, users_table.c.joined_to.is_(None)
    )
    with engine.connect() as connection:
        return int(connection.scalar(visitors) or 0)


def _bound(wanted: int, users: int) -> int:
    """Return a bound below which almost surely at least `wanted` of so many uniform numbers lie."""
    return min(ALL, (wanted + _SPARE_USERS if wanted else 0) * ALL // users)


def _below(numbers: NDArray[np.uint64], end: int) -> NDArray[np.bool_]:
    if end >= ALL:
        return np.ones(len(numbers), dtype=np.bool_)
    return numbers < np.uint64(end)


def _find(
    numbers: NDArray[np.uint64], among: NDArray[np.uint64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return `[numbers]` whether each is among the ascending others, and its position there."""
    if not len(among):
        return np.zeros(len(numbers), dtype=np.bool_), np.zeros(len(numbers), dtype=np.int64)
    positions = np.minimum(np.searchsorted(among, numbers), len(among) - 1)
    return among[positions] == numbers, positions
