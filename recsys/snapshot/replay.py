"""Add replay and guard events to a micro snapshot, read from reservoirs instead of the feedback table.

An update reads two reservoirs, in each case the newest whose events its parent model has all trained on. The
first is sampled from a full snapshot, from all users. The second is the *recent replay* (kind `learned`):
each micro-update leaves a bounded sample of the users that the updates since the full snapshot have learned,
with their latest events. So the tenth hour replays what the first hour taught, which the night's sample
cannot hold.
"""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from recsys.columns import SNAPSHOT_INTERACTION_COLUMNS, Columns, Purpose
from recsys.errors import SnapshotError
from recsys.settings import Settings
from recsys.snapshot.damage import discard_damaged
from recsys.snapshot.dictionary import distinct
from recsys.snapshot.extract import Extraction
from recsys.snapshot.guard import are_guard_users
from recsys.snapshot.interactions import SCHEMA
from recsys.snapshot.manifest import Manifest
from recsys.snapshot.read import Snapshot, read_snapshot
from recsys.snapshot.reference import SnapshotKind, TrainedThrough
from recsys.snapshot.reservoir import RESERVOIR, trainable_keys, write_events
from recsys.snapshot.snapshots_table import newest_trained_on
from recsys.snapshot.store import Folder
from recsys.snapshot.user_events import LatestEvents, events_of_users
from recsys.snapshot.user_sampling import priorities, user_numbers, without_lone_visits

RECENT: Final = "learned"
"""Kind of the recent replay, as it is stored."""
# Size of the recent replay as a share of `micro_update.max_replay_users`.
_RECENT_SHARE = 0.25
# Each update extends the sample of the one before, so all need the same seed.
_RECENT_SEED = 0
_TRIES = 2

logger = logging.getLogger(__name__)


@dataclass
class Replay:
    """The reservoirs of one micro snapshot.

    Parameters
    ----------
    reservoir
        Sample of all users.
    recent
        Recent replay: sample of the users whose events were learned since; None if there are none.
    settings
        Sizes and the share of guard users.
    seed
        Seed for the sample of replayed users.
    """

    reservoir: Snapshot
    recent: Snapshot | None
    settings: Settings
    seed: int
    _trainable_recent: pa.Table = field(default_factory=SCHEMA.empty_table, init=False)

    def after(self, source: Extraction, events: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the events of affected users, then replay and guard events of other users, in one schema."""
        affected: list[pa.Array] = []
        schema = None
        for batch in events:
            schema = batch.schema
            affected.append(pc.unique(batch.column(Columns.USER_KEY)))
            yield batch
        if schema is None:  # no fresh events, so no update
            return
        sampled = self._sample(source, pa.chunked_array(affected).unique())
        yield from sampled.select(schema.names).cast(schema).to_batches()

    def recent_events(self, snapshot: Snapshot) -> pa.Table:
        """Return the recent replay for models that have trained on a micro snapshot.

        Parameters
        ----------
        snapshot
            The micro snapshot that has the events from `after`.
        """
        update = self.settings.micro_update
        events = snapshot.interactions(SNAPSHOT_INTERACTION_COLUMNS)
        purposes = events.column(Columns.PURPOSE).cast(pa.string())
        is_fresh = pc.equal(purposes, Purpose.FRESH)
        is_learned = pc.and_(
            is_fresh, pc.less(events.column(Columns.OCCURRED_AT), pa.scalar(snapshot.held_out_from))
        )
        taught = distinct(events.filter(is_learned).column(Columns.USER_KEY))
        known = events.filter(pc.or_(is_learned, pc.equal(purposes, Purpose.HISTORY)))
        taught = without_lone_visits(taught, known.column(Columns.USER_KEY))
        before = self._trainable_recent
        keys = pa.concat_arrays([taught, distinct(before.column(Columns.USER_KEY))]).unique()
        order = np.argsort(priorities(user_numbers(keys), _RECENT_SEED))
        chosen = keys.take(pa.array(order[: math.ceil(_RECENT_SHARE * update.max_replay_users)]))
        latest = LatestEvents(2 * self.settings.model.max_events)
        # A user's earlier events are in the snapshot too, as history of the fresh ones.
        for part in (events_of_users(known, taught), events_of_users(before, taught, exclude=True)):
            latest.add(events_of_users(part, chosen).cast(SCHEMA))
        return _as_purpose(latest.table(), Purpose.REPLAY)

    def _sample(self, source: Extraction, affected: pa.Array) -> pa.Table:
        update = self.settings.micro_update
        events = self._events(source)
        keys = distinct(events.column(Columns.USER_KEY))
        is_affected = pc.is_in(keys, value_set=affected).to_numpy(zero_copy_only=False)
        is_guard = are_guard_users(keys.to_numpy(zero_copy_only=False), update.guard_share)
        numbers = user_numbers(keys)
        wanted = math.ceil(update.replay_users_per_fresh_user * len(affected))
        others = np.flatnonzero(~is_affected & ~is_guard)
        others = others[np.argsort(priorities(numbers[others], self.seed))]
        guards = np.flatnonzero(~is_affected & is_guard)
        guards = guards[np.argsort(numbers[guards])]
        return pa.concat_tables(
            _as_purpose(events_of_users(events, keys.take(pa.array(chosen))), purpose)
            for chosen, purpose in (
                (others[: min(wanted, update.max_replay_users)], Purpose.REPLAY),
                (guards[: update.max_guard_users], Purpose.GUARD),
            )
        )

    def _events(self, source: Extraction) -> pa.Table:
        """Return the events of users who may still be trained on, preferably from the recent replay."""
        reservoir = self.reservoir.interactions(SNAPSHOT_INTERACTION_COLUMNS)
        keys = distinct(reservoir.column(Columns.USER_KEY))
        if self.recent is None:
            return events_of_users(reservoir, trainable_keys(source, keys))
        recent = self.recent.interactions(SNAPSHOT_INTERACTION_COLUMNS)
        recent_keys = distinct(recent.column(Columns.USER_KEY))
        trainable = trainable_keys(source, pa.concat_arrays([keys, recent_keys]).unique())
        self._trainable_recent = events_of_users(recent, trainable)
        reservoir = events_of_users(events_of_users(reservoir, recent_keys, exclude=True), trainable)
        return pa.concat_tables([reservoir, self._trainable_recent])


def find_replay(engine: sa.Engine, parent: TrainedThrough, settings: Settings, seed: int) -> Replay | None:
    """Return the reservoirs for an update; None if no sound one holds only what the parent has trained on."""
    reservoir = _newest(engine, RESERVOIR, parent)
    if reservoir is None:
        return None
    recent = _newest(engine, RECENT, parent, after=reservoir.trained_through.transaction_id)
    return Replay(reservoir, recent, settings, seed)


def _newest(engine: sa.Engine, kind: SnapshotKind, parent: TrainedThrough, after: int = 0) -> Snapshot | None:
    for _ in range(_TRIES):
        ref = newest_trained_on(engine, kind, parent, after=after)
        if ref is None:
            return None
        try:
            return read_snapshot(ref)
        except SnapshotError as error:  # an erasure may be rewriting it
            logger.warning("cannot read a reservoir: %s", error)
            discard_damaged(engine, Folder(ref.uri))
    return None


def write_recent_replay(folder: Folder, snapshot: Snapshot, replay: Replay) -> Manifest:
    """Write the recent replay that a micro snapshot leaves for later updates; return its manifest."""
    events = replay.recent_events(snapshot)
    return write_events(folder, events, RECENT, snapshot.manifest, snapshot.trained_through)


def _as_purpose(events: pa.Table, purpose: str) -> pa.Table:
    purposes = pa.DictionaryArray.from_arrays(np.zeros(events.num_rows, dtype=np.int32), [purpose])
    return events.set_column(events.schema.get_field_index(Columns.PURPOSE), Columns.PURPOSE, purposes)
