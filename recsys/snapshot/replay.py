"""What a micro-update replays, and the guard users it is measured on, out of reservoirs instead of the table.

Two reservoirs serve an update, each the newest with nothing in it that the parent model has not trained
on. The first, of all users, is sampled from a full snapshot. The second, of *learned* users, is what updates
since then have learned: each leaves a bounded sample of their users with their latest events. So the tenth
hour replays what the first one taught, which the night's sample cannot know.
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
from recsys.snapshot.extract import Extraction
from recsys.snapshot.guard import are_guard_users
from recsys.snapshot.interactions import SCHEMA
from recsys.snapshot.latest_events import LatestEvents, of_users
from recsys.snapshot.manifest import Manifest
from recsys.snapshot.names import different
from recsys.snapshot.read import Snapshot, read_snapshot
from recsys.snapshot.recorded import newest_known
from recsys.snapshot.reference import SnapshotKind, TrainedThrough
from recsys.snapshot.reservoir import RESERVOIR, write_events
from recsys.snapshot.store import Folder
from recsys.snapshot.trainable import trainable_keys
from recsys.snapshot.user_sample import priorities, user_numbers

LEARNED: Final = "learned"
# Of the places for replayed users, how many learned ones have beside the night's.
_LEARNED_SHARE = 0.25
# The sample of learned users goes on from update to update, so its seed stays.
_LEARNED_SEED = 0
_TRIES = 2

logger = logging.getLogger(__name__)


@dataclass
class Replay:
    """The reservoirs of one micro snapshot.

    Parameters
    ----------
    reservoir
        Of all users.
    learned
        Of users whose events were learned since.
    settings
        Sizes and the share of guard users.
    seed
        Of the users that are replayed.
    """

    reservoir: Snapshot
    learned: Snapshot | None
    settings: Settings
    seed: int
    _trainable_learned: pa.Table = field(default_factory=SCHEMA.empty_table, init=False)

    def after(self, source: Extraction, events: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the events of affected users, then the replay and guard events of others, in one schema."""
        affected: list[pa.Array] = []
        schema = None
        for batch in events:
            schema = batch.schema
            affected.append(pc.unique(batch.column(Columns.USER_KEY)))
            yield batch
        if schema is None:  # nothing is fresh, so there will be no update
            return
        drawn = self._draw(source, pa.chunked_array(affected).unique())
        yield from drawn.select(schema.names).cast(schema).to_batches()

    def learned_events(self, snapshot: Snapshot) -> pa.Table:
        """Return the latest events of learned users once a model has trained on a micro snapshot.

        Parameters
        ----------
        snapshot
            The micro snapshot of which `after` gave the events.
        """
        update = self.settings.micro_update
        events = snapshot.interactions(SNAPSHOT_INTERACTION_COLUMNS)
        purposes = events.column(Columns.PURPOSE).cast(pa.string())
        is_fresh = pc.equal(purposes, Purpose.FRESH)
        is_learned = pc.and_(
            is_fresh, pc.less(events.column(Columns.OCCURRED_AT), pa.scalar(snapshot.held_out_from))
        )
        taught = different(events.filter(is_learned).column(Columns.USER_KEY))
        known = events.filter(pc.or_(is_learned, pc.equal(purposes, Purpose.HISTORY)))
        before = self._trainable_learned
        keys = pa.concat_arrays([taught, different(before.column(Columns.USER_KEY))]).unique()
        order = np.argsort(priorities(user_numbers(keys), _LEARNED_SEED))
        chosen = keys.take(pa.array(order[: math.ceil(_LEARNED_SHARE * update.max_replay_users)]))
        latest = LatestEvents(2 * self.settings.model.max_events)
        # A user's events of before are in the history of their fresh ones.
        for part in (of_users(known, taught), of_users(before, taught, others=True)):
            latest.add(of_users(part, chosen).cast(SCHEMA))
        return _as_purpose(latest.table(), Purpose.REPLAY)

    def _draw(self, source: Extraction, affected: pa.Array) -> pa.Table:
        update = self.settings.micro_update
        events = self._events(source)
        keys = different(events.column(Columns.USER_KEY))
        is_affected = pc.is_in(keys, value_set=affected).to_numpy(zero_copy_only=False)
        is_guard = are_guard_users(keys.to_numpy(zero_copy_only=False), update.guard_share)
        numbers = user_numbers(keys)
        wanted = math.ceil(update.replay_users_per_fresh_user * len(affected))
        others = np.flatnonzero(~is_affected & ~is_guard)
        others = others[np.argsort(priorities(numbers[others], self.seed))]
        guards = np.flatnonzero(~is_affected & is_guard)
        guards = guards[np.argsort(numbers[guards])]
        return pa.concat_tables(
            _as_purpose(of_users(events, keys.take(pa.array(places))), purpose)
            for places, purpose in (
                (others[: min(wanted, update.max_replay_users)], Purpose.REPLAY),
                (guards[: update.max_guard_users], Purpose.GUARD),
            )
        )

    def _events(self, source: Extraction) -> pa.Table:
        """Return the events of users who may still be trained on, those of learned ones as they are now."""
        reservoir = self.reservoir.interactions(SNAPSHOT_INTERACTION_COLUMNS)
        keys = different(reservoir.column(Columns.USER_KEY))
        if self.learned is None:
            return of_users(reservoir, trainable_keys(source, keys))
        learned = self.learned.interactions(SNAPSHOT_INTERACTION_COLUMNS)
        learned_keys = different(learned.column(Columns.USER_KEY))
        trainable = trainable_keys(source, pa.concat_arrays([keys, learned_keys]).unique())
        self._trainable_learned = of_users(learned, trainable)
        reservoir = of_users(of_users(reservoir, learned_keys, others=True), trainable)
        return pa.concat_tables([reservoir, self._trainable_learned])


def find_replay(engine: sa.Engine, parent: TrainedThrough, settings: Settings, seed: int) -> Replay | None:
    """Return what an update of a model replays; None: no sound reservoir holds only what the model knows."""
    night = _newest(engine, RESERVOIR, parent)
    if night is None:
        return None
    learned = _newest(engine, LEARNED, parent, after=night.trained_through.transaction_id)
    return Replay(night, learned, settings, seed)


def _newest(engine: sa.Engine, kind: SnapshotKind, parent: TrainedThrough, after: int = 0) -> Snapshot | None:
    for _ in range(_TRIES):
        ref = newest_known(engine, kind, parent, after=after)
        if ref is None:
            return None
        try:
            return read_snapshot(ref)
        except SnapshotError as error:  # an erasure may be at work in it
            logger.warning("a reservoir cannot be read: %s", error)
    return None


def write_learned(folder: Folder, snapshot: Snapshot, replay: Replay) -> Manifest:
    """Write the learned users that a micro snapshot leaves to later updates; return the manifest to be."""
    events = replay.learned_events(snapshot)
    return write_events(folder, events, LEARNED, snapshot.manifest, snapshot.trained_through)


def _as_purpose(events: pa.Table, purpose: str) -> pa.Table:
    purposes = pa.DictionaryArray.from_arrays(np.zeros(events.num_rows, dtype=np.int32), [purpose])
    return events.set_column(events.schema.get_field_index(Columns.PURPOSE), Columns.PURPOSE, purposes)
