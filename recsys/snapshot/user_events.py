"""Select events by user: the events of given users, and each user's latest events."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.columns import Columns
from recsys.snapshot.dictionary import encode
from recsys.snapshot.interactions import SCHEMA

_CUT_AT_ROWS = 1_000_000


def events_of_users(events: pa.Table, user_keys: pa.Array, *, exclude: bool = False) -> pa.Table:
    """Return the events of these users, or with `exclude` those of all other users."""
    keys, users = encode(events.column(Columns.USER_KEY))
    wanted = pc.is_in(keys, value_set=user_keys).to_numpy(zero_copy_only=False) != exclude
    return events.filter(pa.array(wanted[users]))


class LatestEvents:
    """Collects the latest events of each user from an unordered stream.

    Memory grows with the number of users, not with the length of the stream.

    Parameters
    ----------
    per_user
        Events to keep for each user.
    """

    def __init__(self, per_user: int) -> None:
        self._per_user = per_user
        self._tables: list[pa.Table] = []
        self._kept = self._rows = 0

    def add(self, events: pa.Table) -> None:
        """Add events with the columns of `SCHEMA`, in any order."""
        if events.num_rows:
            self._tables.append(events)
            self._rows += events.num_rows
        if self._rows > 2 * self._kept + _CUT_AT_ROWS:
            self._cut()

    def table(self) -> pa.Table:
        """Return the latest events, grouped by user, latest first."""
        self._cut()
        return self._tables[0]

    def _cut(self) -> None:
        if not self._tables:
            self._tables = [SCHEMA.empty_table()]
            return
        events = pa.concat_tables(self._tables).unify_dictionaries().combine_chunks()
        _, users = encode(events.column(Columns.USER_KEY))
        times = events.column(Columns.OCCURRED_AT).cast(pa.int64()).to_numpy()
        order = np.lexsort((-events.column(Columns.FEEDBACK_ID).to_numpy(), -times, users))
        counts = np.bincount(users)
        rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        self._tables = [events.take(pa.array(order[rank < self._per_user]))]
        self._rows = self._kept = self._tables[0].num_rows
