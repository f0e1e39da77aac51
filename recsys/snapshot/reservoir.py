"""Reservoirs: what micro-updates replay, and guard users' events, kept beside the table as snapshots.

A *reservoir* is a bounded, stratified sample of the users of a full snapshot with their latest events, and a
fixed part of the guard users with theirs. It holds only what a model trained on that snapshot knows.
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
from recsys.snapshot.extract import extraction
from recsys.snapshot.guard import guard_bound
from recsys.snapshot.interactions import SCHEMA, InteractionsWriter, row_groups
from recsys.snapshot.latest_events import LatestEvents, of_users
from recsys.snapshot.manifest import MANIFEST_NAME, Manifest
from recsys.snapshot.names import different, encoded
from recsys.snapshot.read import Snapshot, read_snapshot
from recsys.snapshot.recorded import record_snapshot
from recsys.snapshot.reference import SnapshotKind, SnapshotRef, TrainedThrough
from recsys.snapshot.sequences import microseconds
from recsys.snapshot.store import Folder, new_folder
from recsys.snapshot.trainable import trainable_keys
from recsys.snapshot.user_sample import ALL, priorities, stratified, user_numbers

RESERVOIR: Final = "reservoir"
# Strata are made of so many users a place, however many there are: memory does not grow with them.
_CANDIDATES_PER_PLACE = 8
_SPARE_USERS = 64
_ROWS_PER_BATCH = 262_144

logger = logging.getLogger(__name__)


def write_reservoir(engine: sa.Engine, ref: SnapshotRef, settings: Settings) -> SnapshotRef:
    """Write the reservoir of a full snapshot; a second call returns the one that is there.

    Raises
    ------
    SnapshotError
        The full snapshot is missing or damaged.
    ServiceUnavailableError
        Postgres broke off; try again.
    """
    parent = Folder(f"{settings.snapshots}/{RESERVOIR}")
    name = ref.uri.rsplit("/", 1)[-1]
    folder = parent.child(name)
    if not folder.exists(MANIFEST_NAME):
        try:
            # In this order an erasure waits for the reservoir, or its user is gone from the snapshot, or may
            # not be trained on any more.
            with new_folder(parent, name) as unfinished:
                snapshot = read_snapshot(ref)
                manifest = sample_reservoir(engine, snapshot, snapshot.trained_through, unfinished, settings)
                unfinished.write_manifest(manifest)
        except OSError:
            # Another try of the same run may have been faster.
            if not folder.exists(MANIFEST_NAME):
                raise
    reservoir = record_snapshot(engine, folder)
    logger.info("reservoir of window %d: %d events at %s", ref.window_id, reservoir.rows, reservoir.uri)
    return reservoir


def sample_reservoir(
    engine: sa.Engine, snapshot: Snapshot, known: TrainedThrough, folder: Folder, settings: Settings
) -> Manifest:
    """Write the events of a reservoir into a folder and return the manifest to be.

    Reads the snapshot three times, a row group at a time: to count, to tell popular from rare, to collect.

    Parameters
    ----------
    snapshot
        A full snapshot, of which only events that `known` covers are taken.
    known
        What the models that replay it have trained on at least.
    """
    update = settings.micro_update
    users = max(snapshot.manifest.users, 1)
    sample = _Sample(snapshot, microseconds(known.occurred_before))
    guards_end = min(guard_bound(update.guard_share) << 32, _bound(2 * update.max_guard_users, users))
    others_end = _bound(_CANDIDATES_PER_PLACE * update.max_replay_users, users)
    seed = snapshot.manifest.window_id
    first_other = guard_bound(update.guard_share) << 32

    item_counts, numbers, events = sample.count(guards_end, first_other, others_end, seed)
    is_guard = _below(numbers, first_other)
    guards = np.sort(numbers[is_guard])[: update.max_guard_users]
    numbers, events = numbers[~is_guard], events[~is_guard]
    popularity = sample.popularity(item_counts, numbers) / events
    chosen = stratified(events, popularity, priorities(numbers, seed), update.max_replay_users)
    latest = sample.collect(np.sort(np.concatenate([guards, numbers[chosen]])), 2 * settings.model.max_events)

    with extraction(engine) as source:
        latest = of_users(latest, trainable_keys(source, different(latest.column(Columns.USER_KEY))))
    return write_events(folder, _with_purposes(latest, first_other), RESERVOIR, snapshot.manifest, known)


def write_events(
    folder: Folder, events: pa.Table, kind: SnapshotKind, source: Manifest, known: TrainedThrough
) -> Manifest:
    """Write events to replay with the columns of `SCHEMA`, and return the manifest to be.

    Parameters
    ----------
    source
        Of the snapshot that the events come from.
    known
        What the models that replay them have trained on at least.
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
        self, guards_end: int, first_other: int, others_end: int, seed: int
    ) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
        """Return the events of each item, and numbers and events of the users who may be chosen.

        Parameters
        ----------
        guards_end
            Numbers of the guard users who may be chosen lie below it.
        first_other
            Where the numbers of users who are not guard users begin.
        others_end
            Priorities of those of them who may be chosen lie below it.
        """
        counts = np.zeros(len(self._items), dtype=np.int64)
        users = _Sums()
        for events in self._row_groups(Columns.USER_KEY, Columns.ITEM_ID):
            places, codes = self._items_of(events)
            counts += np.bincount(places[codes], minlength=len(counts))
            names, owners = encoded(events.column(Columns.USER_KEY))
            numbers = user_numbers(names)
            is_guard = _below(numbers, first_other)
            may = np.where(
                is_guard, _below(numbers, guards_end), _below(priorities(numbers, seed), others_end)
            )
            own = np.bincount(owners, minlength=len(names))
            users.add(numbers[may], own[may])
        return counts, users.numbers, users.sums

    def popularity(self, item_counts: NDArray[np.int64], numbers: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Return [users] the sum over their events of the logarithm of how often the item occurs."""
        logarithms = np.log(np.maximum(item_counts, 1))
        sums = np.zeros(len(numbers))
        for events in self._row_groups(Columns.USER_KEY, Columns.ITEM_ID):
            items, codes = self._items_of(events)
            names, owners = encoded(events.column(Columns.USER_KEY))
            found, places = _find(user_numbers(names), numbers)
            own = np.bincount(owners, weights=logarithms[items[codes]], minlength=len(names))
            np.add.at(sums, places[found], own[found])
        return sums

    def collect(self, numbers: NDArray[np.uint64], per_user: int) -> pa.Table:
        """Return the latest events of some users, given by their numbers in ascending order."""
        latest = LatestEvents(per_user)
        for events in self._row_groups(*SNAPSHOT_INTERACTION_COLUMNS):
            names, owners = encoded(events.column(Columns.USER_KEY))
            found, _ = _find(user_numbers(names), numbers)
            latest.add(events.filter(pa.array(found[owners])))
        return latest.table()

    def _row_groups(self, *columns: str) -> Iterator[pa.Table]:
        """Yield the events in question; a dictionary of names may hold more than they use."""
        for events in self._snapshot.row_groups([*{*columns, Columns.OCCURRED_AT}]):
            times = events.column(Columns.OCCURRED_AT).cast(pa.int64())
            early = pc.less(times, self._occurred_before)
            yield events.select(columns) if pc.all(early).as_py() else events.select(columns).filter(early)

    def _items_of(self, events: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return [names] places in the catalogue and [events] which name each has."""
        names, codes = encoded(events.column(Columns.ITEM_ID))
        return pc.index_in(names, self._items).to_numpy(zero_copy_only=False), codes


class _Sums:
    """Sums by user number, put together as they come."""

    def __init__(self) -> None:
        self.numbers = np.zeros(0, dtype=np.uint64)
        self.sums = np.zeros(0, dtype=np.int64)

    def add(self, numbers: NDArray[np.uint64], values: NDArray[np.int64]) -> None:
        """Add [users] values; a user of whom nothing is left after a filter has none to add."""
        numbers, values = numbers[values > 0], values[values > 0]
        self.numbers, owners = np.unique(np.concatenate([self.numbers, numbers]), return_inverse=True)
        sums = np.bincount(owners, np.concatenate([self.sums, values]), minlength=len(self.numbers))
        self.sums = sums.astype(np.int64)


def _with_purposes(events: pa.Table, first_other: int) -> pa.Table:
    names, owners = encoded(events.column(Columns.USER_KEY))
    is_guard = _below(user_numbers(names), first_other)[owners]
    purposes = pa.array(np.where(is_guard, Purpose.GUARD, Purpose.REPLAY), pa.string())
    return events.set_column(events.schema.get_field_index(Columns.PURPOSE), Columns.PURPOSE, purposes)


def _bound(wanted: int, users: int) -> int:
    """Return below which number of `ALL` at least `wanted` of so many users lie, as good as surely."""
    return min(ALL, (wanted + _SPARE_USERS if wanted else 0) * ALL // users)


def _below(numbers: NDArray[np.uint64], end: int) -> NDArray[np.bool_]:
    if end >= ALL:
        return np.ones(len(numbers), dtype=np.bool_)
    return numbers < np.uint64(end)


def _find(
    numbers: NDArray[np.uint64], among: NDArray[np.uint64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return [numbers] which are among others, in ascending order, and where."""
    if not len(among):
        return np.zeros(len(numbers), dtype=np.bool_), np.zeros(len(numbers), dtype=np.int64)
    places = np.minimum(np.searchsorted(among, numbers), len(among) - 1)
    return among[places] == numbers, places
